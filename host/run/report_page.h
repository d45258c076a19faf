// SPDX-License-Identifier: Apache-2.0
// A run's report as a page.
#pragma once

#include <string>

#include "host/run/run_report.h"

namespace roundhouse {

// Plots are inline SVG; the page needs nothing else.
std::string report_page(const RunReport& report);

}  // namespace roundhouse

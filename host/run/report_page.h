// SPDX-License-Identifier: Apache-2.0
// Reports as pages.
#pragma once

#include <string>

#include "host/run/comparison.h"
#include "host/run/run_report.h"

namespace roundhouse {

// Plots are inline SVG; the page needs nothing else.
std::string report_page(const RunReport& report);
// `a` and `b` are what the two runs are called.
std::string comparison_page(const std::string& a, const std::string& b, const Comparison& comparison);

}  // namespace roundhouse

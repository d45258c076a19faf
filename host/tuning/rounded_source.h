// SPDX-License-Identifier: Apache-2.0
// A model whose weights are rounded without tuning.
#pragma once

#include <memory>
#include <string>

#include "host/discovery/catalogue.h"
#include "host/plan/plan.h"

namespace roundhouse {

// The weights as plain or searched rounding alone would leave them: rounds each planned layer as it is loaded, on
// `device`.
// `importance` must outlive it.
std::unique_ptr<TensorSource> rounded_source(const Plan& plan, TensorSource& source, Catalogue& catalogue,
                                             const Importance& importance, const std::string& device);

}  // namespace roundhouse

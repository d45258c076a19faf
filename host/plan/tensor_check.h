// SPDX-License-Identifier: Apache-2.0
// Whether a model's tensors are those that its config.json tells of.
#pragma once

#include "host/model/architecture.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Gives the plan's layers their stored element types; what is missing, or of another size, becomes a problem.
void check_tensors(Plan& plan, const Architecture& architecture, TensorSource& source);

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// What a recipe asks for, seen as a whole: whether a run can do it.
#pragma once

#include "host/discovery/catalogue.h"
#include "host/model/architecture.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Whether there are calibration texts where a pass needs some, and enough of them.
void check_calibration(Plan& plan, const Architecture& architecture);
// Whether the model knows as many positions as a calibration sample has tokens.
void check_seqlen(Plan& plan, const Architecture& architecture);
// What a generic architecture cannot do, and what works.
void check_rounding_alone(Plan& plan, const Architecture& architecture);
// Warns of formats that store no more than weights where inputs are quantized.
void note_weights_only(Plan& plan, const Catalogue& catalogue);

}  // namespace roundhouse

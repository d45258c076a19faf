// SPDX-License-Identifier: Apache-2.0
// Measures what the schemes of a mix cost once, so that another target takes seconds.
#pragma once

#include <optional>
#include <string>

#include "host/discovery/catalogue.h"
#include "host/plan/original.h"
#include "host/plan/plan.h"
#include "host/run/texts.h"

namespace roundhouse {

enum class Measuring { kNever, kOnce, kAnew };

// choose_schemes() with sensitivities from roundhouse/sensitivities in the user's XDG cache folder, by all that they
// depend on: model, calibration texts, schemes, plugins, device, program. Else they are measured, with the progress
// shown, and kept there; with kNever there is no plan then. Every rank calls it: the first one does that, and tells the
// others. Throws Error. REQUIRES: open.mix.
std::optional<Plan> settle_mix(const Plan& open, const Original& original, Catalogue& catalogue, const Texts& texts,
                               const std::string& device, Measuring measuring);

}  // namespace roundhouse

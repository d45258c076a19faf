// SPDX-License-Identifier: Apache-2.0
// Plans of recipes with a mix of schemes.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/plan/mix_plan.h"
#include "host/plan/original.h"
#include "host/plan/plan.h"

namespace roundhouse {

// By layer, beside the schemes of the mix: how far rounding it alone moves the model's predictions, as the
// Kullback-Leibler divergence that is expected, in nats a token.
using Sensitivities = std::map<std::string, std::vector<double>>;

// The plan of any recipe. One with a mix is planned as far as it goes without sensitivities: as the mix's base alone, with
// `mix`; it throws Error too when a scheme alone, all schemes side by side, or the target cannot be. Else as make_plan().
Plan plan_recipe(const Recipe& recipe, const Architecture& architecture, TensorSource& source, Catalogue& catalogue);
// The same, with the original's warnings. `default_texts` stand in, packed, for calibration data where some is needed and the
// recipe names none, with a warning; empty: there are none.
Plan plan_recipe(const Recipe& recipe, const Original& original, Catalogue& catalogue,
                 const std::filesystem::path& default_texts = {});

// How many of these samples are measured with: few suffice, because a weight has a term of each of them.
size_t sensitivity_samples(size_t samples, int64_t seqlen);

// Chooses the schemes of least loss at the target, and makes the plan of the recipe in which they are entries under
// `layers:`. `open` is of plan_recipe(). beyond: bytes of an export that its estimate leaves out. Throws Error when no
// choice meets the target with them.
Plan choose_schemes(const Plan& open, const Sensitivities& sensitivities, const Original& original,
                    Catalogue& catalogue, uint64_t beyond = 0);

}  // namespace roundhouse

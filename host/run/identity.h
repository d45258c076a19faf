// SPDX-License-Identifier: Apache-2.0
// What the bytes of a run depend on: only a run with the same of all goes on with what another one has left.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "host/discovery/catalogue.h"
#include "host/plan/original.h"
#include "host/plan/plan.h"
#include "host/run/texts.h"

namespace roundhouse {

// Texts by what they are of. Threads, memory, evaluation and the output's place are not among them: no byte depends on
// them. Reads the beginning of each of the model's files. Throws Error.
nlohmann::json run_identity(const Plan& plan, const Original& original, const Catalogue& catalogue,
                            const std::string& device, const Texts& texts);

// What differs first, as a clause: "tuning.iters is 100, and was 200"; "": nothing does.
std::string difference(const nlohmann::json& before, const nlohmann::json& now);

}  // namespace roundhouse

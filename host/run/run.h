// SPDX-License-Identifier: Apache-2.0
// The order of a run: plan, quantize, export, read back, evaluate, report.
#pragma once

#include <filesystem>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/plan/original.h"
#include "host/plan/plan.h"
#include "host/recipe/recipe.h"
#include "host/run/run_report.h"

namespace roundhouse {

struct RunRequest {
  Recipe recipe;
  std::vector<std::filesystem::path> architecture_folders;  // the descriptions of model families
  std::filesystem::path default_texts{};  // for calibration, where the recipe names none but needs some; empty: none
  bool overwrite = false;                 // replaces an output that exists
  bool restart = false;                   // from the beginning, whatever an earlier run has left
};

// check_weights() with its progress shown and its warnings logged.
void read_weights(const Plan& plan, const Original& original, Catalogue& catalogue);

// Writes the recipe's checkpoints, and beside them its notes: the complete recipe, the report, the fingerprints. Shows
// its progress and warns through the log. Goes on where an earlier run of the same recipe was broken off, with the same
// bytes. Throws Error, before the long work for everything that can be known by then; no checkpoint is left behind then,
// but perhaps a journal in the partial folder, by which the next run goes on. One that does not read back as what was made stays, as a problem of its row.
// Where there are ranks (host/ranks/ranks.h) all call it; the report is the first one's, and the others' are empty.
RunReport run(const RunRequest& request, Catalogue& catalogue);

}  // namespace roundhouse

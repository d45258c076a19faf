// SPDX-License-Identifier: Apache-2.0
// Repacking an exported checkpoint into another format that packs the same encodings, without quantizing again.
#pragma once

#include "host/abi/format_reader.h"
#include "host/discovery/catalogue.h"
#include "host/export/verify.h"
#include "host/model/architecture.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Writes to the recipe how the checkpoint was tuned and the size of its calibration, as far as the checkpoint records it.
void take_recorded_tuning(const ExportedCheckpoint& source, Recipe& recipe);

// Writes what an exported checkpoint holds through the formats of the recipe, whose `model` it is, and returns the
// fingerprints of what was read. `tensors`: the checkpoint, or its StackedSource. `files`: the folder of its config.json and tokenizer. Before anything is written it throws Error with all layers that a format cannot hold,
// why, and the formats that could.
Fingerprints convert(const Recipe& recipe, const Architecture& architecture, TensorSource& tensors,
                     const std::filesystem::path& files, Catalogue& catalogue, bool overwrite);

}  // namespace roundhouse

// Repacking an exported checkpoint into another format that packs the same encodings, without quantizing again.
#pragma once

#include "host/abi/format_reader.h"
#include "host/discovery/catalogue.h"
#include "host/export/verify.h"
#include "host/model/architecture.h"
#include "host/plan/plan.h"

namespace roundhouse {

// A recipe that says how the checkpoint was tuned, as far as its config.json does, and the size of its calibration.
Recipe recorded_recipe(const Architecture& architecture);

// Writes what `source` holds through the formats of the recipe, whose `model` is the source's folder, and returns the
// fingerprints of what was read. Before anything is written it throws Error with all layers that a format cannot hold,
// why, and the formats that could.
Fingerprints convert(const Recipe& recipe, const Architecture& architecture, ExportedCheckpoint& source,
                     Catalogue& catalogue, bool overwrite);

}  // namespace roundhouse

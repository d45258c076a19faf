// SPDX-License-Identifier: Apache-2.0
// Quantized inputs in a model that is evaluated: as a plan says, or as an exported checkpoint says an engine does it.
#pragma once

#include <string>
#include <vector>

#include "host/abi/format_reader.h"
#include "host/discovery/catalogue.h"
#include "host/model/architecture.h"
#include "host/model/input_hook.h"
#include "host/plan/plan.h"
#include "host/tuning/results.h"

namespace roundhouse {

// Quantizes the inputs of a float32 decoder on `device` as the layers' plans say; empty when they say nothing of them.
InputHook activation_hook(const std::vector<LayerPlan>& plans, Catalogue& catalogue, const ActivationRanges& ranges,
                          const std::string& device);

struct InputQuantization {
  InputHook hook;       // for a float32 decoder; empty when no input is quantized
  int64_t layers = 0;   // whose inputs an engine quantizes
  int64_t applied = 0;  // of them, those that the hook quantizes
  std::string problem;  // why it does not quantize the others: of the first of them

  // "quantized", "unquantized", "quantized in 3 of 7 layers"
  std::string text() const;
};

// A checkpoint names encodings, not data types: the first data type that takes the encoding over quantizes the input,
// with the calibrated range that the checkpoint holds.
InputQuantization input_quantization(const Architecture& architecture, ExportedCheckpoint& checkpoint,
                                     Catalogue& catalogue, const std::string& device);

}  // namespace roundhouse

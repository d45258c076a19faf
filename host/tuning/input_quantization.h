// What an exported checkpoint says an engine does to the inputs of its layers, for evaluating it so.
#pragma once

#include <string>
#include <vector>

#include "host/abi/format_reader.h"
#include "host/discovery/catalogue.h"
#include "host/model/decoder.h"
#include "host/recipe/scheme_choice.h"

namespace roundhouse {

struct InputQuantization {
  InputHook hook;       // for a float32 decoder on the CPU; empty when no input is quantized
  int64_t layers = 0;   // whose inputs an engine quantizes
  int64_t applied = 0;  // of them, those that the hook quantizes
  std::string problem;  // why it does not quantize the others: of the first of them

  // "quantized", "unquantized", "quantized in 3 of 7 layers"
  std::string text() const;
};

// A checkpoint names encodings, not data types: the one of the first preset whose inputs are encoded in the same way
// is taken. A calibrated range is given to it as the statistic that leads to it.
InputQuantization input_quantization(const Architecture& architecture, ExportedCheckpoint& checkpoint,
                                     Catalogue& catalogue, const std::vector<Preset>& presets);

}  // namespace roundhouse

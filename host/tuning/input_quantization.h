// What an exported checkpoint says an engine does to the inputs of its layers, for evaluating it so.
#pragma once

#include <string>

#include "host/abi/format_reader.h"
#include "host/discovery/catalogue.h"
#include "host/model/decoder.h"

namespace roundhouse {

struct InputQuantization {
  InputHook hook;       // for a float32 decoder on the CPU; empty when no input is quantized
  int64_t layers = 0;   // whose inputs an engine quantizes
  int64_t applied = 0;  // of them, those that the hook quantizes
  std::string problem;  // why it does not quantize the others: of the first of them

  // "quantized", "unquantized", "quantized in 3 of 7 layers"
  std::string text() const;
};

// A checkpoint names encodings, not data types: the first data type that takes the encoding over quantizes the input, with
// the calibrated range that the checkpoint holds.
InputQuantization input_quantization(const Architecture& architecture, ExportedCheckpoint& checkpoint,
                                     Catalogue& catalogue);

}  // namespace roundhouse

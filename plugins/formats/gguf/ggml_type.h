// SPDX-License-Identifier: Apache-2.0
// The element types of GGUF files that Roundhouse reads and writes: plain numbers, and the blocks of ggml-block/1.
#pragma once

#include <cstdint>
#include <roundhouse/encoding/ggml_block.hpp>
#include <string>
#include <string_view>

#include "kernels/floats.h"

namespace roundhouse::formats {

struct GgmlType {
  const char* name;  // "q4_k", "f16"
  uint32_t id;       // enum ggml_type
  int64_t cols;      // elements of a block
  int64_t bytes;     // of a block
  int block;         // RH_GGML_*, -1: plain numbers

  bool quantized() const { return block >= 0; }
  int64_t row_bytes(int64_t n) const { return n / cols * bytes; }
};

// NULL when it is none of them.
const GgmlType* ggml_type(uint32_t id);
const GgmlType* ggml_type(std::string_view name);
// "iq4_nl (20)": any type as messages name it.
std::string ggml_type_text(uint32_t id);
// REQUIRES: it is not quantized.
kernels::Element element_of(const GgmlType& type);

}  // namespace roundhouse::formats

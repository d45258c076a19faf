// The element types of GGUF files that Roundhouse reads and writes.
#pragma once

#include <cstdint>
#include <string_view>

namespace roundhouse::formats {

struct GgmlType {
  const char* name;  // as ggml-block/1 has it: "q4_k"
  uint32_t id;       // enum ggml_type
  int64_t cols;      // elements of a block
  int64_t bytes;     // of a block
  // Of quantized ones:
  int bits = 0;           // of a code
  int64_t groups = 0;     // in a block, each with a scale
  bool symmetric = true;  // no minimum
  int super_bits = 0;     // of a group's scale in units of the block's; 0: the block is the group

  bool quantized() const { return cols > 1; }
  int64_t row_bytes(int64_t n) const { return n / cols * bytes; }
};

// NULL when it is none of them.
const GgmlType* ggml_type(uint32_t id);
const GgmlType* ggml_type(std::string_view name);

// Writes count * type.cols float32 numbers, in ggml's arithmetic.
void dequantize(const GgmlType& type, const uint8_t* blocks, int64_t count, float* out);

}  // namespace roundhouse::formats

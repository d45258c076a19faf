// The bytes of ggml's blocks (ggml-common.h in llama.cpp).
#pragma once

#include <cstdint>

#include "block_type.h"
#include "kernels/ggml.h"

namespace roundhouse::gguf {

// `codes` has block_cols codes from 0, `bytes` block_bytes. Of a block the d, dmin and integer scales are held; dmin is
// what is taken away (ggml's m of q4_1 and q5_1 is -dmin).
void pack_block(BlockType type, const kernels::GgmlBlock& block, const uint8_t* codes, uint8_t* bytes);
void unpack_block(BlockType type, const uint8_t* bytes, kernels::GgmlBlock& block, uint8_t* codes);

}  // namespace roundhouse::gguf

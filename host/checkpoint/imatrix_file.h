// SPDX-License-Identifier: Apache-2.0
// Importance matrices in the files of llama.cpp: GGUF, or the binary .dat that it wrote before.
// https://github.com/ggml-org/llama.cpp/tree/master/tools/imatrix
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "host/base/tensor.h"

namespace roundhouse {

struct ImatrixEntry {
  Tensor squares;  // f32: sums of squared inputs, or what is proportional to them; experts one after the other
  std::vector<double> counts;  // what was summed: tokens, of each expert, or in .dat chunks, one number for all
};

// By the name of the weight's tensor ("blk.0.attn_q.weight").
using ImatrixEntries = std::map<std::string, ImatrixEntry>;

struct Imatrix {
  ImatrixEntries entries;
  std::string dataset;                      // that it was collected on
  int64_t chunk_count = 0, chunk_size = 0;  // sequences, and tokens of each
};

// Whether the file is like those that write_imatrix() writes. Throws Error for an empty, unreadable or damaged one.
bool is_imatrix(const std::filesystem::path& file);
// Throws Error for a file that is neither, or damaged.
ImatrixEntries read_imatrix(const std::filesystem::path& file);
// Writes GGUF. Throws Error.
void write_imatrix(const std::filesystem::path& file, const Imatrix& imatrix);

}  // namespace roundhouse

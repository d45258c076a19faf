// SPDX-License-Identifier: Apache-2.0
// The size of a checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>

namespace roundhouse {

// Bytes of a checkpoint that is a file, or of the files in its folder that hold weights: the safetensors that are read,
// or else all but JSON, text and tokenizer files.
uint64_t weight_bytes(const std::filesystem::path& checkpoint);

}  // namespace roundhouse

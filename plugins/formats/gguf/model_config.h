// SPDX-License-Identifier: Apache-2.0
// A model's config.json, from a GGUF file's metadata.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "plugins/formats/gguf/reader.h"

namespace roundhouse::formats {

// Stands before llama.cpp's name of a family.
constexpr std::string_view kUnknownFamily = "gguf/";

// In the words of Hugging Face's config.json. For an architecture of llama.cpp that is not known here it is the model_type
// alone, under llama.cpp's name behind kUnknownFamily, so that whoever looks for the family can name it. What config.json has no form for stands
// there as a value that its reader refuses, or is the problem. Throws rh::Error for a damaged file.
Json model_config(GgufReader& file);

// Why that config.json is not the model's, or "".
std::string config_problem(GgufReader& file, const Json& config);

// llama.cpp's Gemmas of so many blocks have attention scaled by hidden / heads, others by the size of a head, whatever the
// file says; nothing: an architecture that is none of them.
std::optional<int64_t> wide_blocks(const std::string& architecture);

}  // namespace roundhouse::formats

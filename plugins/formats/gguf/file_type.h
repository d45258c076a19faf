// SPDX-License-Identifier: Apache-2.0
// llama.cpp's file types ("Q4_K_M"): which element type each tensor has in a mix.
#pragma once

#include <string>
#include <vector>

#include "plugins/formats/gguf/ggml_type.h"
#include "plugins/formats/gguf/names.h"

namespace roundhouse::formats {

struct FileType {
  const char* name;  // "Q4_K_M"
  uint32_t id;       // general.file_type, enum llama_ftype
  const char* base;  // the element type of most tensors
};

// auto-round's: routed experts in 2 bits, the rest in 4. llama.cpp has no number for it, and needs none.
inline constexpr const char* kExpertMix = "Q2_K_MIXED";

// Throws rh::Error with those that there are.
const FileType& file_type(const std::string& name);
// The first with that number in general.file_type, or NULL.
const FileType* file_type_of(int64_t id);
// The usual one of an element type ("q4_k": Q4_K_M), or NULL.
const FileType* usual_file_type(const std::string& base);
// The names, as a JSON array.
std::string file_type_names();

// The file type that the options ask for, else the usual one of `data_type`, the recipe's (a text, or null); NULL when
// there is none. Throws rh::Error for an unknown name.
const FileType* chosen_file_type(const Json& options, const Json& data_type);
// Throws rh::Error unless the recipe's data type is what the file type consists of.
void require_base(const FileType& type, const Json& data_type);

// rh_assign: the data type of each layer of `layers`. Throws rh::Error when llama.cpp has no such architecture.
nlohmann::json assign_types(const FileType& type, const Json& layers, const Json& architecture);

}  // namespace roundhouse::formats

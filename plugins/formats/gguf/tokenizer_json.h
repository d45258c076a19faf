// SPDX-License-Identifier: Apache-2.0
// A model's tokenizer.json and tokenizer_config.json, from a GGUF file's metadata.
#pragma once

#include <string>

#include "plugins/formats/gguf/reader.h"

namespace roundhouse::formats {

// Empty, with a warning, when llama.cpp's tokenizer has no such form, or none that is known here.
std::string tokenizer_json(GgufReader& file);
// The tokens of each role, and the chat template. Empty when there is no tokenizer.
std::string tokenizer_config_json(GgufReader& file);

}  // namespace roundhouse::formats

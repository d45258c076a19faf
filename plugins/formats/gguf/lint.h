// SPDX-License-Identifier: Apache-2.0
// What llama.cpp looks up in a GGUF file, and would refuse or silently misread.
#pragma once

#include <roundhouse/plugin.hpp>
#include <vector>

namespace roundhouse::formats {

// Throws rh::Error when the file is damaged.
std::vector<rh::Finding> lint_gguf(const rh_open& source);

}  // namespace roundhouse::formats

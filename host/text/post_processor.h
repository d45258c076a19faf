// SPDX-License-Identifier: Apache-2.0
// The "post_processor" of tokenizer.json, for a single text: the special tokens put around it.
#pragma once

#include <cstdint>
#include <vector>

#include "host/text/component.h"

namespace roundhouse {

struct SpecialTokens {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
};

// Throws Error when the component is of a type not supported, or damaged.
SpecialTokens read_post_processor(const Component& component);

}  // namespace roundhouse

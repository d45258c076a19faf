// SPDX-License-Identifier: Apache-2.0
// The "decoder" of tokenizer.json: turns the strings of tokens back into text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/text/component.h"

namespace roundhouse {

// Thread-safe.
class Decoder {
 public:
  virtual ~Decoder() = default;
  // The result, joined, is the text.
  virtual std::vector<std::string> apply(std::vector<std::string> tokens) const = 0;
};

// Throws Error when the component is of a type not supported, or damaged.
std::unique_ptr<const Decoder> make_decoder(const Component& component);

}  // namespace roundhouse

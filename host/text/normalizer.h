// SPDX-License-Identifier: Apache-2.0
// The "normalizer" of tokenizer.json: changes a text before it is split.
#pragma once

#include <memory>
#include <string>

#include "host/text/component.h"

namespace roundhouse {

// A part of the input on its way from text to tokens.
struct Piece {
  std::string text;
  bool at_start;  // its first character comes from the first character of the input
};

// Thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(Piece& piece) const = 0;
};

// Throws Error when the component is of a type not supported, or damaged.
std::unique_ptr<const Normalizer> make_normalizer(const Component& component);

}  // namespace roundhouse

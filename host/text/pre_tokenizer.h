// SPDX-License-Identifier: Apache-2.0
// The "pre_tokenizer" of tokenizer.json: cuts a text into the words that the model cuts into tokens.
#pragma once

#include <memory>
#include <vector>

#include "host/text/component.h"
#include "host/text/normalizer.h"

namespace roundhouse {

// Thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Appends the parts of `piece`, none of them empty.
  virtual void split(Piece piece, std::vector<Piece>& parts) const = 0;
};

// Throws Error when the component is of a type not supported, or damaged.
std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const Component& component);

}  // namespace roundhouse

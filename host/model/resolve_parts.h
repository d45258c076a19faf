// SPDX-License-Identifier: Apache-2.0
// How the parts of a block are read from a descriptor; the words are those of configs/architectures/README.md.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "host/model/descriptor.h"
#include "host/model/structure.h"

namespace roundhouse {

// A block's place in the model.
struct BlockPlace {
  std::string prefix;  // of its tensors: "model.layers.3."
  int64_t index = 0, count = 0;
};

// True unless of the part's `when:`, a flag or a list of them, one is false, or of its `unless:` one is true.
bool present(const Value& value);

// The keys by which a part says which blocks have it.
inline constexpr std::array<std::string_view, 6> kWhichBlocks = {"when",  "unless",      "labels",
                                                                 "label", "first_block", "all_but_every"};
// Whether this block has the part: those that `labels` labels `label`; without labels, those from `first_block` on, and
// of every `all_but_every` all but the last.
bool in_block(const Value& value, const BlockPlace& place);

LinearInfo read_linear(const Value& parent, std::string_view role, const std::string& prefix, int64_t out, int64_t in,
                       const std::string& siblings = "");
// The same of what `value` is, whatever other keys it has.
LinearInfo read_linear_of(const Value& value, std::string_view role, const std::string& prefix, int64_t out, int64_t in,
                          const std::string& siblings = "");
// The names are those of config.json's hidden_act and its like.
Activation read_activation(const Value& value);

// A norm is written as its name, or as a map; `defaults` is the descriptor's `norm`, and what the map says wins over it.
// Nothing where the key is not there, or the norm is not `present`.
std::optional<NormInfo> read_norm(const Value& defaults, const Value& parent, std::string_view key,
                                  const std::string& prefix, int64_t size);
// One that also says what it is `over`: each of the heads, or all at once.
std::optional<NormInfo> read_head_norm(const Value& defaults, const Value& parent, std::string_view key,
                                       const std::string& prefix, int64_t heads, int64_t head_dim);

// `positions`: that the model knows. Throws Error naming `sizes` where head_dim does not suit.
RotaryInfo read_rotary(const Value& value, const Value& sizes, int64_t head_dim, int64_t positions);

// `info`: sizes and rotary positions are read.
AttentionInfo read_attention(const Value& root, const Value& value, const DecoderInfo& info, const BlockPlace& place);

}  // namespace roundhouse

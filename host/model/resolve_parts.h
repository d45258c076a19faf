// SPDX-License-Identifier: Apache-2.0
// How the parts of a block are read from a descriptor; the words are those of configs/architectures/README.md.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
inline constexpr std::array<std::string_view, 11> kWhichBlocks = {
    "when", "unless",        "labels", "label", "first_block", "before_block",
    "last", "all_but_every", "every",  "only",  "except"};
// Whether this block has the part: those that `labels`, a list or a text of a letter a block, labels `label` or one of
// several; without labels, those from `first_block` on, those before `before_block`, the `last` so many, of every
// `all_but_every` all but the last, of every `every` the last, and those that `only` lists and `except` does not.
bool in_block(const Value& value, const BlockPlace& place);

bool lists(const Value& list, int64_t index);

LinearInfo read_linear(const Value& parent, std::string_view role, const std::string& prefix, int64_t out, int64_t in,
                       const std::string& siblings = "");
// One whose map has other words beside.
LinearInfo linear_of(const Value& value, std::string_view role, const std::string& prefix, int64_t out, int64_t in);
// The names are those of config.json's hidden_act and its like.
Activation read_activation(const Value& value);

// A norm is written as its name, or as a map; `defaults` is the descriptor's `norm`, and what the map says wins over it.
// Nothing where the key is not there, or the norm is not `present`.
std::optional<NormInfo> read_norm(const Value& defaults, const Value& parent, std::string_view key,
                                  const std::string& prefix, int64_t size);
// One that also says what it is `over`: each of the heads, or all at once; and which blocks have it.
std::optional<NormInfo> read_head_norm(const Value& defaults, const Value& parent, std::string_view key,
                                       const BlockPlace& place, int64_t heads, int64_t head_dim);

// `positions`: that the model knows. Throws Error naming `sizes` where head_dim does not suit.
RotaryInfo read_rotary(const Value& value, const Value& sizes, int64_t head_dim, int64_t positions);
// What config.json says in vain of it, each with its place.
std::vector<std::string> unused_scaling(const Value& value);

// `info`: sizes and rotary positions are read.
AttentionInfo read_attention(const Value& root, const Value& value, const DecoderInfo& info, const BlockPlace& place);

RecurrentInfo read_short_conv(const Value& value, const DecoderInfo& info, const BlockPlace& place);
RecurrentInfo read_delta_rule(const Value& root, const Value& value, const DecoderInfo& info, const BlockPlace& place);
RecurrentInfo read_mamba2(const Value& root, const Value& value, const DecoderInfo& info, const BlockPlace& place);

}  // namespace roundhouse

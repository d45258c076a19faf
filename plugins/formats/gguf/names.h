// SPDX-License-Identifier: Apache-2.0
// Names of GGUF tensors, and how rows of attention weights are laid out there. The table is the architecture
// descriptor's, under names.gguf.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

class Names {
 public:
  // `architecture`: rh_model's "architecture", or an empty object: then names stay as they are.
  explicit Names(const Json& architecture);

  // llama.cpp's id of the architecture, "llama"; empty: it has none.
  const std::string& architecture() const { return architecture_; }
  // Throws rh::Error when llama.cpp has no such architecture.
  void require_known() const;

  // "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; nothing: not stored. Experts have the name of their
  // stack. Throws rh::Error for a name that the table lacks.
  std::optional<std::string> to_gguf(const std::string& tensor) const;
  // Which of a stack's matrices the tensor is; nothing: it is a tensor of its own.
  std::optional<int64_t> place_in_stack(const std::string& tensor) const;
  // The other way round. A name that the table lacks stays as it is; in that of a stack "{}" is left for the expert.
  std::string from_gguf(const std::string& tensor) const;

  // The attention heads that a tensor's rows are divided into when those of a head are interleaved, 0 when they are
  // not. `tensor` is its name in the file.
  int64_t interleaved_heads(const std::string& tensor) const;
  // Whether a tensor is stored with one added to it, by its name in the file.
  bool plus_one(const std::string& tensor) const;
  // Whether llama.cpp heeds the sliding windows of the blocks.
  bool heeds_windows() const { return heeds_windows_; }
  // Whether llama.cpp has no head for the architecture but the embedding.
  bool tied_only() const { return tied_only_; }

 private:
  std::string family_, architecture_;
  std::map<std::string, std::optional<std::string>> to_gguf_;
  std::map<std::string, std::string> from_gguf_;
  std::map<std::string, int64_t> interleaved_;  // heads, by the last part of a layer's name
  std::set<std::string> plus_one_;              // last parts of names
  bool heeds_windows_ = false, tied_only_ = false;
};

// The row of the file that holds row `row` of the source. llama.cpp rotates neighbours, (2i, 2i + 1), the checkpoints
// pairs that are half a head apart, (i, i + half).
int64_t interleaved_row(int64_t row, int64_t head_rows);

}  // namespace roundhouse::formats

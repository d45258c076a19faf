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

// Which row of the file holds a row of the source.
struct RowOrder {
  int64_t heads = 0,
          kv_heads = 0;  // heads: of interleaved rows; kv_heads: with them, of rows in groups; 0: they are not

  bool changes() const { return heads > 0; }
  // "" or what is wrong with that many rows.
  std::string check(int64_t rows) const;
  // Interleaved: llama.cpp rotates neighbours, (2i, 2i + 1), the checkpoints pairs that are half a head apart,
  // (i, i + half). In groups: checkpoints have for each key head its queries, k and v, llama.cpp has all q, all k, all v.
  int64_t stored(int64_t row, int64_t rows) const;
};

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

  // The order of a tensor's rows in the file, by its name there.
  RowOrder row_order(const std::string& tensor) const;
  // Whether a tensor is stored with one added to it, by its name in the file.
  bool plus_one(const std::string& tensor) const;
  // Whether llama.cpp heeds the sliding windows of the blocks.
  bool heeds_windows() const { return heeds_windows_; }
  // Whether llama.cpp has no head for the architecture but the embedding, or wants one beside it.
  bool tied_only() const { return tied_only_; }
  bool untied_only() const { return untied_only_; }
  // Whether llama.cpp always, or never, divides the weights of a token's experts by their sum; nothing: as the file says.
  std::optional<bool> normalizes() const { return normalizes_; }

 private:
  std::string family_, architecture_;
  std::map<std::string, std::optional<std::string>> to_gguf_;
  std::map<std::string, std::string> from_gguf_;
  std::map<std::string, RowOrder> orders_;  // by the last part of a layer's name
  std::set<std::string> plus_one_;          // last parts of names
  std::optional<bool> normalizes_;
  bool heeds_windows_ = false, tied_only_ = false, untied_only_ = false;
};

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
// Names of GGUF tensors, and how their values are laid out there. The table is the architecture
// descriptor's, under names.gguf.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plugins/formats/gguf/layout.h"
#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

class Names {
 public:
  // `architecture`: rh_model's "architecture", or an empty object: then names stay as they are.
  explicit Names(const Json& architecture);

  // llama.cpp's id of the architecture, "llama"; empty: it has none.
  const std::string& architecture() const { return architecture_; }
  // Throws rh::Error when llama.cpp has no such architecture, or computes this model otherwise.
  void require_known() const;

  // "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; nothing: not stored. Experts have the name of their
  // stack. Throws rh::Error for a name that the table lacks.
  std::optional<std::string> to_gguf(const std::string& tensor) const;
  // The name of the second tensor that a tensor of the source is in the file; to_gguf() is that of the first. Nothing: it
  // is one.
  std::optional<std::string> second_of(const std::string& tensor) const;
  // Which of a stack's matrices the tensor is; nothing: it is a tensor of its own.
  std::optional<int64_t> place_in_stack(const std::string& tensor) const;
  // A tensor of one number that is an item of an array in the metadata, one for each block.
  struct Value {
    std::string tensor, key;  // in the source, "{}" stands for the block
    bool scalar;              // of no dimension there, else of one
  };
  const std::vector<Value>& values() const { return values_; }
  // The array, and the item; nothing: it is no such tensor.
  std::optional<std::pair<std::string, int64_t>> value_of(const std::string& tensor) const;
  // The other way round. A name that the table lacks stays as it is; in that of a stack "{}" is left for the expert.
  std::string from_gguf(const std::string& tensor) const;

  // What follows is asked by a tensor's name in the file, where it is one of two by the first's.
  // Null: its rows are those of the source.
  const Layout* layout(const std::string& tensor, int64_t rows) const;
  // Of its columns, as if they were rows; null: they are those of the source.
  const Layout* column_layout(const std::string& tensor) const;
  // Whether a tensor is stored with one added to it, or as -exp of it.
  bool plus_one(const std::string& tensor) const { return is_listed(plus_one_, tensor); }
  bool minus_exp(const std::string& tensor) const { return is_listed(minus_exp_, tensor); }
  // Whether the source has it the other way round where it is not quantized.
  bool transposed(const std::string& tensor) const { return is_listed(transposed_, tensor); }
  // The shape in the file of a tensor of the source, and the other way round.
  std::vector<int64_t> stored_shape(const std::string& tensor, std::vector<int64_t> shape) const;
  std::vector<int64_t> source_shape(const std::string& tensor, std::vector<int64_t> shape) const;
  bool reshaped(const std::string& tensor) const;
  // Whether llama.cpp heeds the sliding windows of the blocks.
  bool heeds_windows() const { return heeds_windows_; }
  // Whether it has them whatever the file says.
  bool own_windows() const { return own_windows_; }
  // Whether llama.cpp computes Mamba 2 without its norm too.
  bool bare_mamba2() const { return bare_mamba2_; }
  // Whether llama.cpp has no head for the architecture but the embedding, or wants one beside it.
  bool tied_only() const { return tied_only_; }
  bool untied_only() const { return untied_only_; }
  // Whether llama.cpp always, or never, divides the weights of a token's experts by their sum; nothing: as the file says.
  std::optional<bool> normalizes() const { return normalizes_; }
  // What llama.cpp has between the linears of MLPs, by the names of descriptors.
  const std::vector<std::string>& activations() const { return activations_; }
  // Whether in llama.cpp no heads share keys and values.
  bool own_keys() const { return own_keys_; }
  // Whether the architecture is one for experts alone, whose blocks have no other MLP.
  bool experts_alone() const { return experts_alone_; }
  // Whether llama.cpp has blocks without experts between those with experts.
  bool has_expert_steps() const { return expert_steps_; }
  // Which block llama.cpp leaves without rotary positions, every so many; 0: it has them where the model has.
  int64_t rotary_but_every() const { return rotary_but_every_; }
  // Whether the family is run with a YaRN that truncates its range, though its models say otherwise.
  bool truncates() const { return truncates_; }
  // Of rotary positions of several dimensions, of which a text has one; empty: there are none.
  const std::vector<int32_t>& sections() const { return sections_; }

 private:
  void read_layouts(const Json& table, const Json& architecture);
  bool is_listed(const std::set<std::string>& names, const std::string& tensor) const;

  std::string family_, architecture_;
  std::map<std::string, std::optional<std::string>> to_gguf_;
  std::map<std::string, std::string> from_gguf_;
  std::map<std::string, std::string> seconds_;     // patterns of the second of two tensors, by the first's
  std::map<std::string, Layout> layouts_, units_;  // by the last part of a name; units_: of tensors with a row a head
  std::map<std::string, Layout> column_layouts_;
  std::map<std::string, std::string> shapes_;
  std::set<std::string> plus_one_, minus_exp_, transposed_;  // last parts of names
  std::vector<Value> values_;
  std::vector<int32_t> sections_;
  int64_t groups_ = 0;  // of recurrent heads
  int64_t rotary_but_every_ = 0;
  std::vector<std::string> refusals_, activations_;
  std::optional<bool> normalizes_;
  bool heeds_windows_ = false, tied_only_ = false, untied_only_ = false, expert_steps_ = false, own_keys_ = false,
       experts_alone_ = false, truncates_ = false, own_windows_ = false, bare_mamba2_ = false;
};

}  // namespace roundhouse::formats

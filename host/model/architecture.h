// SPDX-License-Identifier: Apache-2.0
// What the host knows about a model without loading it: its config.json read with an architecture descriptor.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/base/tensor.h"
#include "host/model/descriptor.h"
#include "host/model/generic.h"
#include "host/model/structure.h"

namespace roundhouse {

// Safe to read from several threads.
class Architecture {
 public:
  // Reads model_dir/config.json and the descriptor (*.yaml) in descriptor_dirs that lists its model_type, or that
  // `choice` names; the first found wins, and folders that do not exist are passed over. Throws Error.
  static Architecture load(const std::filesystem::path& model_dir,
                           const std::vector<std::filesystem::path>& descriptor_dirs, const FamilyChoice& choice = {});
  // The stored stacks of experts that the architecture wants as their matrices (StackedSource).
  std::vector<StackedTensor> stacks(TensorSource& source) const;
  // Takes from the checkpoint's tensors what config.json leaves open: of a generic architecture all, of another how
  // its names are spelled and its experts stored. Called before all but facts() and stacks(); the stacks of a generic
  // one are matrices by then, and the spelling of another tells its stacks.
  void match(TensorSource& source);

  // Nothing is known of what its blocks compute: weights can be rounded, and that is all.
  bool generic() const { return generic_.has_value(); }
  // Weights of a generic architecture that are no layers, and why.
  // REQUIRES: the descriptor is generic.
  const std::vector<std::pair<std::string, std::string>>& left() const { return generic_->left; }

  const std::string& family() const { return info_.family; }
  int64_t blocks() const { return static_cast<int64_t>(generic_ ? generic_->blocks.size() : info_.blocks.size()); }
  int64_t vocab_size() const { return info_.vocab; }
  int64_t hidden_size() const { return info_.hidden; }
  // Of what a block reads and writes for a token: the hidden state, and what blocks pass on behind it.
  int64_t state_size() const { return info_.hidden + info_.passed_on; }
  int64_t max_positions() const { return info_.positions; }

  // In the order in which they are computed: q, k, v, o, then gate, up, down; of experts the router, each expert's, the
  // shared expert's, and its gate.
  std::vector<LinearInfo> block_linears(int64_t block) const;
  // Every tensor of the block, by its full name.
  std::vector<std::string> block_tensors(int64_t block) const;
  // Blocks are named block_prefix() + "." + index.
  const std::string& block_prefix() const { return info_.block_prefix; }

  // Layers outside the blocks, but for the head; only a generic architecture has some.
  std::vector<LinearInfo> outer_linears() const;

  const LinearInfo& head() const { return info_.head; }
  // Of a generic architecture a tied head is no layer.
  bool has_head() const { return !generic_ || generic_->head_is_layer; }
  // Where the head is tied, a checkpoint may store its weight under the head's name, the embedding's, or both.
  bool tied_head() const { return info_.tied_head; }
  // Gives the head a weight of its own, here and in config(), under every key by which the descriptor asks for it: what
  // config.json says of it is not so. Returns whether it does say that the head is tied; else the family's default did.
  bool untie_head();
  const std::string& embedding_name() const { return info_.embedding; }
  // The tensors outside the blocks. A tied head is not among them.
  std::vector<std::string> outer_tensors() const;
  // Whether it belongs to a module that a checkpoint may store, and nothing reads.
  bool unused(const std::string& tensor) const;

  const std::filesystem::path& descriptor_file() const { return descriptor_->file; }
  const DecoderInfo& info() const { return info_; }
  const nlohmann::json& config() const { return config_; }
  // What plugins are told: "architecture" of rh_model in host.h. {} before match() has read a generic architecture.
  nlohmann::json facts() const;
  // The names that importance matrices have for the model's modules, without ".weight"; "{}" in both stands for a block's
  // index. A module that is missing has its own name.
  const std::map<std::string, std::string>& imatrix_names() const { return imatrix_names_; }

 private:
  void resolve_names(const Descriptor& descriptor);

  std::shared_ptr<const Descriptor> descriptor_;
  DecoderInfo info_;
  bool untied_ = false;  // untie_head() was called
  std::optional<GenericModel> generic_;
  nlohmann::json config_, names_ = nlohmann::json::object();
  std::map<std::string, std::string> imatrix_names_;
};

// The name by which formats get a tensor that the source stores: its own, but a tied head that is stored alone has the
// embedding's, and beside the embedding it is left out (""), as is what nothing reads. `stored`: all that the source
// stores.
std::string exported_name(const Architecture& architecture, const std::vector<std::string>& stored,
                          const std::string& tensor);

}  // namespace roundhouse

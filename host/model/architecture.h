// What the host knows about a model without loading it: its config.json read with an architecture descriptor.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/model/structure.h"

namespace roundhouse {

// Immutable; safe to read from several threads.
class Architecture {
 public:
  // Reads model_dir/config.json and the descriptor (*.yaml) in descriptor_dirs that lists its model_type; the first
  // found wins, and folders that do not exist are passed over. Throws Error.
  static Architecture load(const std::filesystem::path& model_dir,
                           const std::vector<std::filesystem::path>& descriptor_dirs);

  const std::string& family() const { return info_.family; }
  int64_t blocks() const { return static_cast<int64_t>(info_.blocks.size()); }
  int64_t vocab_size() const { return info_.vocab; }
  int64_t hidden_size() const { return info_.hidden; }
  int64_t max_positions() const { return info_.positions; }

  // In the order in which they are computed: q, k, v, o, then gate, up, down.
  std::vector<LinearInfo> block_linears(int64_t block) const;
  // Every tensor of the block, by its full name.
  std::vector<std::string> block_tensors(int64_t block) const;
  // Blocks are named block_prefix() + "." + index.
  const std::string& block_prefix() const { return info_.block_prefix; }

  const LinearInfo& head() const { return info_.head; }
  // Where the head is tied, a checkpoint may store its weight under the head's name, the embedding's, or both.
  bool tied_head() const { return info_.tied_head; }
  const std::string& embedding_name() const { return info_.embedding; }
  // The tensors outside the blocks. A tied head is not among them.
  std::vector<std::string> outer_tensors() const;

  const DecoderInfo& info() const { return info_; }
  const nlohmann::json& config() const { return config_; }
  // The descriptor as JSON, with the keys under `names:` that plugins read.
  const nlohmann::json& descriptor() const { return descriptor_; }
  nlohmann::json names() const { return descriptor_.value("names", nlohmann::json::object()); }

 private:
  DecoderInfo info_;
  nlohmann::json config_, descriptor_;
};

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// What every checkpoint for engines is made of: tensors, config.json with a quantization_config, and the side files.
#pragma once

#include <string>
#include <vector>

#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

// The configuration follows from the plan alone, not from what has come: a writer that was resumed has seen a part.
class CheckpointWriter : public rh::SafetensorsWriter {
 public:
  explicit CheckpointWriter(const rh_export& target, rh::Experts experts = rh::Experts::kTogether);

 protected:
  // The checkpoint's quantization_config. Called once, after the last layer.
  virtual Json quantization_config() const = 0;

  // The plan's quantized layers.
  const std::vector<const rh_format_layer*>& layers() const { return layers_; }
  const std::string& block_prefix() const { return block_prefix_; }  // "model.layers"
  // The prefix, and after a comma the one in transformers where it is another.
  std::string block_prefixes() const;
  // The module that transformers has for a stored one, by names.modules of the architecture; "" where it is the same.
  std::string module_name(const std::string& stored) const;
  bool in_block(const std::string& layer) const { return layer.starts_with(block_prefix_ + "."); }

  // The modules whose two-dimensional weight stays as it is, known to the architecture or not, so that engines do not
  // look for a quantized one: linear layers, and the embedding, which engines pass over. Those that transformers calls
  // otherwise are there by both names.
  std::vector<std::string> unquantized() const;
  std::vector<std::string> unquantized_in_blocks() const;

 private:
  void write_files() override;
  void add_module_names(std::vector<std::string>& names) const;

  std::string block_prefix_;
  Json modules_ = Json::object();  // prefixes in transformers, by the stored ones
  std::vector<const rh_format_layer*> layers_;
  std::vector<std::string> unquantized_;
  std::string tied_head_;  // has no tensor of its own; "" when not tied
};

// The module prefix of the blocks that the architecture names: "model.layers".
std::string block_prefix(const rh_plan& plan);

// Refuses the quantized layers outside the blocks (lm_head).
void refuse_outside_blocks(const rh_plan& plan, std::vector<rh::Answer>& answers);

// Throws rh::Error when the plan quantizes nothing.
void require_layers(const rh_plan& plan);

// Refuses quantized experts that no engine reads, and warns of what transformers does not read. `experts`: as the writer
// stores them.
void check_experts(const rh_plan& plan, rh::Experts experts, std::vector<rh::Answer>& answers);

// How the layers were tuned, and by whom.
void add_tuning(const rh_export& target, Json& config);

}  // namespace roundhouse::formats

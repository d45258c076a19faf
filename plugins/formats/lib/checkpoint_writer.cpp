// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/checkpoint_writer.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {

CheckpointWriter::CheckpointWriter(const rh_export& target, rh::Experts experts) : SafetensorsWriter(target, experts) {
  const rh_plan& plan = *target.plan;
  const Json architecture = Json::parse(plan.architecture_json);
  block_prefix_ = text_at(architecture, "block_prefix");
  const Json names = architecture.value("names", Json::object());
  if (const auto modules = names.find("modules"); modules != names.end()) modules_ = *modules;
  if (architecture.value("tied_head", false)) tied_head_ = text_at(architecture, "head");
  constexpr std::string_view kWeight = ".weight";
  for (uint64_t i = 0; i < plan.tensor_count; ++i) {
    const rh_planned_tensor& tensor = *plan.tensors[i];
    const std::string name = tensor.name;
    if (tensor.layer) {
      layers_.push_back(tensor.layer);
    } else if (tensor.ndim == 2 && name.ends_with(kWeight)) {
      unquantized_.push_back(name.substr(0, name.size() - kWeight.size()));
    }
  }
}

std::string CheckpointWriter::module_name(const std::string& stored) const {
  for (size_t end = stored.size(); end != std::string::npos && end > 0; end = stored.rfind('.', end - 1))
    if (const std::string module = text_at(modules_, stored.substr(0, end).c_str()); !module.empty())
      return module + stored.substr(end);
  return "";
}

std::string CheckpointWriter::block_prefixes() const {
  const std::string module = module_name(block_prefix_);
  return module.empty() ? block_prefix_ : cat(block_prefix_, ",", module);
}

std::vector<std::string> CheckpointWriter::unquantized() const {
  std::vector<std::string> names = unquantized_;
  if (!tied_head_.empty()) names.push_back(tied_head_);
  add_module_names(names);
  return names;
}

std::vector<std::string> CheckpointWriter::unquantized_in_blocks() const {
  std::vector<std::string> names = unquantized_;
  std::erase_if(names, [&](const std::string& name) { return !in_block(name); });
  add_module_names(names);
  return names;
}

void CheckpointWriter::add_module_names(std::vector<std::string>& names) const {
  for (size_t i = 0, stored = names.size(); i < stored; ++i)
    if (std::string module = module_name(names[i]); !module.empty()) names.push_back(std::move(module));
}

void CheckpointWriter::write_files() { write_config(target(), quantization_config()); }

std::string block_prefix(const rh_plan& plan) { return text_at(Json::parse(plan.architecture_json), "block_prefix"); }

void refuse_outside_blocks(const rh_plan& plan, std::vector<rh::Answer>& answers) {
  const std::string blocks = block_prefix(plan) + ".";
  for (uint64_t i = 0; i < plan.tensor_count; ++i) {
    const rh_format_layer* layer = plan.tensors[i]->layer;
    if (layer && !std::string_view(layer->name).starts_with(blocks))
      answers[i] = {RH_TENSOR_REFUSED,
                    "the engines that read this format know no quantized layer outside the blocks; leave it "
                    "unquantized, or use the format auto_round"};
  }
}

void require_layers(const rh_plan& plan) {
  for (uint64_t i = 0; i < plan.tensor_count; ++i)
    if (plan.tensors[i]->layer) return;
  throw rh::Error(RH_INVALID_ARGUMENT, "the plan quantizes no layer: there is nothing to pack");
}

void check_experts(const rh_plan& plan, rh::Experts experts, std::vector<rh::Answer>& answers) {
  const rh::ExpertStacks mixed(plan, rh::Experts::kApart);
  for (uint64_t i = 0; i < plan.tensor_count; ++i) {
    const rh_planned_tensor& tensor = *plan.tensors[i];
    const rh_part* part = rh::ExpertStacks::part_of(&tensor);
    if (part && part->count == 0) {
      if (tensor.layer && experts == rh::Experts::kTogether)
        answers[i] = {
            RH_TENSOR_REFUSED,
            "the source has the weight transposed (transformers' Conv1D), and engines look for quantized "
            "layers of this format among nn.Linear alone; leave it unquantized, or use the format auto_round"};
    } else if (mixed.has(tensor.name)) {
      if (tensor.layer)
        answers[i] = {
            RH_TENSOR_REFUSED,
            "the source has the experts in tensors in which the rows of gate and up take turns, and no engine "
            "reads them quantized; leave the experts unquantized"};
      else if (experts == rh::Experts::kApart)
        answers[i].reason =
            "transformers with auto-round does not load these experts: they stay one tensor in which the rows of gate "
            "and "
            "up take turns, which auto-round takes apart by halves";
    } else if (tensor.layer && part && part->only && experts == rh::Experts::kTogether) {
      answers[i].reason += cat(
          answers[i].reason.empty() ? "" : "; ",
          "transformers knows the experts of this family as one tensor of all and does not read quantized ones; vLLM "
          "does. For transformers leave them unquantized, or use the format auto_round");
    }
  }
}

void add_tuning(const rh_export& target, Json& config) {
  const Json tuning = model_json(target, "tuning");
  config["iters"] = tuning.at("iters");
  if (tuning.at("iters") > 0) {
    config["lr"] = tuning.at("lr");
    config["minmax_lr"] = tuning.at("minmax_lr");
    config["nsamples"] = tuning.at("samples");
    config["seqlen"] = tuning.at("seqlen");
    config["batch_size"] = tuning.at("batch_size");
    config["gradient_accumulate_steps"] = tuning.at("gradient_accumulation");
    config["enable_quanted_input"] = tuning.at("quantized_input");
    config["seed"] = tuning.at("seed");
  }
  config["provider"] = "roundhouse";
  config["roundhouse_version"] = rh::host().version;
}

}  // namespace roundhouse::formats

#include "plugins/formats/lib/checkpoint_writer.h"

#include <algorithm>
#include <string_view>

namespace roundhouse::formats {

CheckpointWriter::CheckpointWriter(const rh_export& target) : target_(target), tensors_(target) {
  const Json plan = model_json(target, "plan");
  block_prefix_ = plan.at("block_prefix");
  if (plan.value("tied_head", false)) tied_head_ = plan.at("layers").back().at("name");
}

void CheckpointWriter::add_tensor(const std::string& name, const rh_tensor& tensor) {
  constexpr std::string_view kWeight = ".weight";
  if (tensor.ndim == 2 && name.ends_with(kWeight)) unquantized_.push_back(name.substr(0, name.size() - kWeight.size()));
  tensors_.add(name, tensor);
}

void CheckpointWriter::require_quantized_in_blocks() const {
  const Json layers = model_json(target_, "plan").at("layers");
  for (const Json& layer : layers) {
    const std::string name = layer.at("name");
    rh::require(!layer.at("quantized") || in_block(name),
                name +
                    ": the engines that read this format know no quantized layer outside the blocks; leave it "
                    "unquantized, or use the format auto_round");
  }
}

std::vector<std::string> CheckpointWriter::unquantized() const {
  std::vector<std::string> names = unquantized_;
  if (!tied_head_.empty()) names.push_back(tied_head_);
  return names;
}

std::vector<std::string> CheckpointWriter::unquantized_in_blocks() const {
  std::vector<std::string> names = unquantized_;
  std::erase_if(names, [&](const std::string& name) { return !in_block(name); });
  return names;
}

void CheckpointWriter::finish() {
  tensors_.finish();
  write_config(target_, quantization_config());
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

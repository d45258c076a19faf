// The format `auto_round`: AutoRound's own checkpoints, which transformers (with the package auto-round) and vLLM load.
#include <optional>

#include "plugins/formats/common/int_reader.h"
#include "plugins/formats/common/int_writer.h"
#include "plugins/formats/common/text.h"

namespace roundhouse::formats {
namespace {

// packing_format names a layout for the whole checkpoint. Symmetric ones use GPTQ's, which most engines read; engines
// read asymmetric layers from it only with extra packages, so those use AutoRound's own, with plain zero points.
const char* packing_format(IntLayout layout) {
  return layout == IntLayout::kMinusOne ? "auto_round:auto_gptq" : "auto_round";
}

std::optional<IntLayout> layout_of(const Json& quantization) {
  if (text_at(quantization, "data_type", "int") != "int") return std::nullopt;
  const std::string packing = text_at(quantization, "packing_format");
  if (packing == "auto_round" || packing == "auto_round:gptqmodel") return IntLayout::kDirect;
  if (packing == "auto_round:auto_gptq" || packing == "auto_round:gptq") return IntLayout::kMinusOne;
  if (packing == "auto_round:auto_awq" || packing == "auto_round:awq") return IntLayout::kAwq;
  return std::nullopt;
}

bool is_own(const Json& quantization) { return text_at(quantization, "quant_method") == "auto-round"; }

class AutoRoundWriter : public IntWriter {
 public:
  AutoRoundWriter(const rh_export& target, IntPlan plan)
      : IntWriter(target, plan, plan.all_symmetric ? IntLayout::kMinusOne : IntLayout::kDirect, false) {}

 private:
  Json quantization_config() const override {
    Json config = int_config(target(), plan().common);
    config["quant_method"] = "auto-round";
    config["packing_format"] = packing_format(plan().all_symmetric ? IntLayout::kMinusOne : IntLayout::kDirect);
    config["block_name_to_quantize"] = block_prefix();
    Json extra = Json::object();
    for (const auto& layer : layers()) {
      if (layer.in_block && layer.scheme == plan().common) continue;
      extra[layer.name] = {{"bits", layer.scheme.bits},
                           {"group_size", layer.scheme.group_size},
                           {"sym", layer.scheme.symmetric},
                           {"data_type", "int"}};
    }
    for (const auto& name : unquantized_in_blocks()) extra[name] = {{"bits", 16}, {"data_type", "float"}};
    if (!extra.empty()) config["extra_config"] = extra;
    return config;
  }
};

class AutoRound : public rh::Format {
 public:
  AutoRound() : Format("auto_round", "AutoRound's checkpoints: 2 to 8 bit integers.", {RH_ENCODING_AFFINE_INT}) {}

  void check(const rh_format_query& query) const override { check_int_layer(query, {2, 3, 4, 5, 6, 7, 8}); }

  const char* backends_json() const override {
    return R"([
      {"engine": "transformers with auto-round", "devices": ["cpu", "cuda", "xpu"], "bits": [2, 3, 4, 5, 6, 7, 8],
       "sym": [true, false], "packing": "auto_round:auto_gptq, or auto_round when asymmetric", "priority": 1},
      {"engine": "vllm", "devices": ["cpu", "cuda"], "bits": [4], "sym": [true], "packing": "auto_round:auto_gptq",
       "priority": 2, "command": "vllm serve {folder}"}])";
  }

  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<AutoRoundWriter>(target, int_plan(target));
  }

  int32_t probe(const std::string& folder) const override {
    const Json quantization = quantization_of(read_config_or_empty(folder));
    return is_own(quantization) && layout_of(quantization) ? 100 : 0;
  }

  std::unique_ptr<rh::Reader> open(const std::string& folder) const override {
    const Json config = read_config(folder);
    const Json quantization = quantization_of(config);
    const auto layout = layout_of(quantization);
    if (!is_own(quantization) || !layout) {
      throw rh::Error(
          RH_INVALID_ARGUMENT,
          cat(folder, "/config.json: not an integer checkpoint of AutoRound's (quant_method ",
              text_at(quantization, "quant_method", "none"), ", data_type ", text_at(quantization, "data_type", "int"),
              ", packing_format ", text_at(quantization, "packing_format", "none"), ")"));
    }
    return std::make_unique<IntReader>(folder, config, *layout);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<AutoRound>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "auto_round", "Roundhouse", "0.1.0",
          "Writes and reads AutoRound checkpoints.")

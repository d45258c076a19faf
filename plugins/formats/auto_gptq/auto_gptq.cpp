// The format `auto_gptq`: GPTQ checkpoints (version 1), which most engines load.
#include <algorithm>
#include <set>

#include "plugins/formats/lib/int_reader.h"
#include "plugins/formats/lib/int_writer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

// AutoGPTQ's first files have quantize_config.json alone, which names no method.
Json own_quantization(const std::string& folder) {
  Json quantization = quantization_in(folder, "quantize_config.json");
  const bool unnamed = quantization.contains("bits") && quantization.contains("group_size") &&
                       !quantization.contains("quant_method") && text_at(quantization, "checkpoint_format") != "marlin";
  return unnamed || text_at(quantization, "quant_method") == "gptq" ? quantization : Json::object();
}

// A regular expression that matches `name` alone.
std::string exactly(const std::string& name) {
  std::string pattern = "^";
  for (char c : name) {
    if (std::string_view(".^$|()[]{}*+?\\").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern + "$";
}

class GptqWriter : public IntWriter {
 public:
  explicit GptqWriter(const rh_export& target) : IntWriter(target, IntLayout::kMinusOne, true) {}

 private:
  Json quantization_config() const override {
    Json config = int_config(target(), plan().common());
    config["quant_method"] = "gptq";
    config["checkpoint_format"] = "gptq";
    config["desc_act"] = false;
    config["true_sequential"] = false;
    config["damp_percent"] = 0.01;  // GPTQ's default; transformers wants one between 0 and 1
    config["lm_head"] =
        std::any_of(layers().begin(), layers().end(), [&](const auto* layer) { return !in_block(layer->name); });
    Json dynamic = Json::object();  // "+:" quantized in its own way, "-:" not quantized
    for (const rh_format_layer* layer : layers()) {
      const IntScheme scheme = plan().of(*layer);
      // Engines take lm_head and the like only when told.
      if (in_block(layer->name) && scheme == plan().common()) continue;
      dynamic["+:" + exactly(layer->name)] = {
          {"bits", scheme.bits}, {"group_size", scheme.group_size}, {"sym", scheme.symmetric}};
    }
    const auto unquantized = unquantized_in_blocks();
    for (const auto& name : unquantized) dynamic["-:" + exactly(name)] = Json::object();
    if (!dynamic.empty()) config["dynamic"] = dynamic;
    if (!unquantized.empty()) config["modules_in_block_to_quantize"] = Json::array({Json(modules_in_block())});
    return config;
  }

  // The quantized layers' names inside a block ("mlp.down_proj"), each once.
  std::set<std::string> modules_in_block() const {
    std::set<std::string> names;
    for (const rh_format_layer* layer : layers()) {
      const std::string name = layer->name;
      if (!in_block(name)) continue;
      const size_t index = block_prefix().size() + 1;  // "model.layers." is followed by the block's number
      names.insert(name.substr(name.find('.', index) + 1));
    }
    return names;
  }
};

class AutoGptq : public rh::Format {
 public:
  AutoGptq()
      : Format("auto_gptq", "GPTQ checkpoints: 2, 3, 4 and 8 bit integers.", {RH_ENCODING_AFFINE_INT}, "{}",
               {{"gptq", "{}"}}) {}

  void check(const rh_format_layer& layer, const char*) const override { check_int_layer(layer, {2, 3, 4, 8}); }
  void plan(const rh_plan& plan, std::vector<rh::Answer>&) const override { IntPlan ints(plan); }

  const char* backends_json() const override {
    return R"([
      {"engine": "transformers with auto-round", "devices": ["cpu", "cuda"], "bits": [2, 3, 4, 8], "sym": [true],
       "packing": "gptq", "priority": 0},
      {"engine": "transformers with auto-round and auto-round-lib", "devices": ["cpu"], "bits": [2, 4, 8],
       "sym": [true, false], "packing": "gptq", "priority": 1},
      {"engine": "transformers with gptqmodel", "devices": ["cpu", "cuda"], "bits": [2, 3, 4, 8], "sym": [true, false],
       "packing": "gptq", "priority": 1},
      {"engine": "vllm", "devices": ["cpu", "cuda"], "bits": [4, 8], "sym": [true], "packing": "gptq",
       "priority": 2, "command": "vllm serve {folder}"}])";
  }

  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<GptqWriter>(target);
  }
  bool resumes() const override { return true; }

  int32_t probe(const std::string& folder) const override { return own_quantization(folder).empty() ? 0 : 100; }

  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder);
    const Json quantization = own_quantization(folder);
    rh::require(!quantization.empty(),
                folder + "/config.json: quant_method is not gptq, so this is no GPTQ checkpoint");
    const std::string form = text_at(quantization, "checkpoint_format", "gptq");
    rh::require(
        form == "gptq" || form == "gptq_v2",
        cat(folder, "/config.json: checkpoint_format ", form,
            " is not read; gptq and gptq_v2 are. GPTQModel converts it: load it, and save it with format=\"gptq\""));
    return int_reader(folder, config, quantization, form == "gptq_v2" ? IntLayout::kDirect : IntLayout::kMinusOne);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<AutoGptq>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "auto_gptq", "Roundhouse", "0.1.0", "Writes and reads GPTQ checkpoints.")

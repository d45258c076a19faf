// SPDX-License-Identifier: Apache-2.0
// The format `auto_round`: AutoRound's own checkpoints, which transformers (with the package auto-round) and vLLM load.
#include <algorithm>
#include <map>
#include <optional>

#include "plugins/formats/lib/input_range.h"
#include "plugins/formats/lib/int_reader.h"
#include "plugins/formats/lib/int_writer.h"
#include "plugins/formats/lib/json_object.h"
#include "plugins/formats/lib/lint.h"
#include "plugins/formats/lib/pattern.h"
#include "plugins/formats/lib/text.h"
#include "schemes.h"

namespace roundhouse::formats {
namespace {

// packing_format names a layout for the whole checkpoint. Symmetric integers use GPTQ's, which most engines read;
// engines read asymmetric layers from it only with extra packages, so those use AutoRound's own, with plain zero
// points.
std::optional<IntLayout> int_layout(const Json& quantization) {
  if (text_at(quantization, "data_type", "int") != "int") return std::nullopt;
  const std::string packing = text_at(quantization, "packing_format");
  if (packing == "auto_round" || packing == "auto_round:gptqmodel") return IntLayout::kDirect;
  if (packing == "auto_round:auto_gptq" || packing == "auto_round:gptq") return IntLayout::kMinusOne;
  if (packing == "auto_round:auto_awq" || packing == "auto_round:awq") return IntLayout::kAwq;
  return std::nullopt;
}

bool is_float(const Json& quantization) {
  const std::string data_type = text_at(quantization, "data_type");
  return data_type == "mx_fp" || data_type == "mx_int" || data_type == "nv_fp" || data_type == "nvfp4_v2" ||
         data_type == "fp";
}

bool has_ints(const rh_plan& plan) {
  return std::any_of(plan.tensors, plan.tensors + plan.tensor_count, [](const rh_planned_tensor* tensor) {
    return tensor->layer && rh::is(*tensor->layer->encoding, rh::AffineInt::kId);
  });
}

bool is_own(const Json& quantization) { return text_at(quantization, "quant_method") == "auto-round"; }

class AutoRoundWriter : public CheckpointWriter {
 public:
  explicit AutoRoundWriter(const rh_export& target) : CheckpointWriter(target, rh::Experts::kApart) {
    if (has_ints(*target.plan)) ints_.emplace(*target.plan);
  }

 private:
  LayerScheme scheme_of(const rh_format_layer& layer) const {
    const auto encoding = float_encoding(*layer.encoding);
    return encoding ? float_layer_scheme(*encoding, layer) : int_layer_scheme(*ints_, layer);
  }

  void store_layer(const rh_encoded_layer& encoded, TensorWriter& out) override {
    const rh_format_layer& layer = *encoded.layer;
    const LayerScheme scheme = scheme_of(layer);
    if (!float_encoding(*layer.encoding)) {
      const bool gptq = scheme.packing == "auto_round:auto_gptq";
      return store_int_layer(out, encoded, gptq ? IntLayout::kMinusOne : IntLayout::kDirect, false);
    }
    if (encoded.bias) out.add(cat(layer.name, ".bias"), *encoded.bias);
    add_codes(out, encoded);
    const bool is_block = scheme.fields.at("group_size").is_array();
    std::vector<int64_t> shape;  // of the scales, where it is not that of the groups
    if (scheme.fields.at("group_size") == RH_GROUP_TENSOR) shape = {1};
    if (scheme.fields.at("group_size") == RH_GROUP_ROW) shape = {layer.rows};
    add_scales(out, cat(layer.name, is_block ? ".weight_scale_inv" : ".weight_scale"), encoded, shape);
    add_input_range(out, encoded);
  }

  // What most layers of the blocks have in common: of equally many, what came first.
  Json common(const std::vector<LayerScheme>& schemes) const {
    std::vector<std::pair<Json, int64_t>> kinds;
    for (size_t i = 0; i < schemes.size(); ++i) {
      const Json& fields = schemes[i].fields;
      const auto found =
          std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.first == fields; });
      (found == kinds.end() ? kinds.emplace_back(fields, 0) : *found).second += in_block(layers()[i]->name);
    }
    return std::max_element(kinds.begin(), kinds.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }

  Json quantization_config() const override {
    std::vector<LayerScheme> schemes;
    for (const rh_format_layer* layer : layers()) schemes.push_back(scheme_of(*layer));
    const Json usual = common(schemes);
    Json config = usual;
    const bool input = config.contains("act_bits");
    add_tuning(target(), config);
    config["quant_method"] = "auto-round";
    if (!schemes[0].packing.empty()) config["packing_format"] = schemes[0].packing;
    add_fp8_keys(schemes[0], config);
    config["block_name_to_quantize"] = block_prefixes();
    JsonObject extra;
    for (size_t i = 0; i < schemes.size(); ++i) {
      const std::string name = layers()[i]->name;
      if (in_block(name) && schemes[i].fields == usual) continue;
      extra[name] = schemes[i].fields;
      if (const std::string module = module_name(name); !module.empty()) extra[module] = schemes[i].fields;
    }
    for (const auto& name : unquantized_in_blocks()) {
      extra[name] = {{"bits", 16}, {"data_type", "float"}};
      if (input) extra[name]["act_bits"] = 16;
    }
    if (!extra.empty()) config["extra_config"] = extra.take();
    return config;
  }

  std::optional<IntPlan> ints_;
};

std::vector<std::string> block_names(const Json& quantization) {
  std::vector<std::string> names;
  for (const std::string& text : texts_at(quantization, "block_name_to_quantize"))
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      const size_t first = text.find_first_not_of(' ', begin);
      if (first < end) names.push_back(text.substr(first, end - first));
      begin = end + 1;
    }
  return names;
}

// An entry of extra_config is for a module of that name, else for names in which it is found as a regular expression;
// modules_to_not_convert are such expressions.
struct Extra {
  Json common = Json::object();  // what holds for all
  std::map<std::string, Json> names;
  std::vector<std::pair<Pattern, Json>> patterns;
  std::vector<std::pair<Pattern, std::string>> kept;

  Extra(const Json& quantization, const std::map<std::string, LayerReader::Tensors>& modules) {
    for (const auto& [key, value] : quantization.items())
      if (key != "extra_config") common[key] = value;
    for (const std::string& entry : texts_at(quantization, "modules_to_not_convert")) kept.emplace_back(entry, entry);
    const auto extra = quantization.find("extra_config");
    if (extra == quantization.end() || !extra->is_object()) return;
    for (const auto& [name, fields] : extra->items()) {
      names[name] = fields;
      if (modules.contains(name)) continue;
      try {
        patterns.emplace_back(Pattern(name), fields);
      } catch (const rh::Error&) {
        // Then it is a name alone.
      }
    }
  }
  const Json* of(const std::string& module) const {
    if (const auto found = names.find(module); found != names.end()) return &found->second;
    for (const auto& [pattern, fields] : patterns)
      if (pattern.found_in(module)) return &fields;
    return nullptr;
  }
};

Said said_of(const std::string& module, const Json& quantization, const Extra& extra,
             const std::vector<std::string>& blocks) {
  const Json* own = extra.of(module);
  const bool in_block = blocks.empty() || std::any_of(blocks.begin(), blocks.end(), [&](const std::string& prefix) {
                          return module.starts_with(prefix);
                        });
  if (in_block)
    for (const auto& [pattern, entry] : extra.kept)
      if (pattern.found_in(module))
        return {false, cat("`modules_to_not_convert` has ", entry, ", which is in its name")};
  if (!own && !in_block) return {false, "`block_name_to_quantize` does not cover it, nor does `extra_config` name it"};
  if (!own && blocks.empty() && module.ends_with("lm_head")) return {false, "`extra_config` does not name it"};
  Json fields = extra.common;
  if (own && own->is_object()) fields.update(*own);
  const int bits = static_cast<int>(number_at(fields, "bits", 4));
  if (bits >= 16) return {false, "`extra_config` says 16 bits"};
  Said said;
  if (int_layout(quantization)) {
    said = int_said(bits, number_at(fields, "group_size", -1), flag_at(fields, "sym", true));
    said.allows = {"g_idx"};
    if (const int64_t inputs = number_at(fields, "act_bits", 16); inputs < 16)
      said.refused = cat("act_bits is ", inputs, ", and layers of packed integers take their input as it is");
  } else {
    said = float_said(fields);
  }
  said.named = own != nullptr;
  said.why = own ? "`extra_config` says so few bits" : "`extra_config` does not name it";
  return said;
}

class AutoRound : public rh::Format, public rh::Linter {
 public:
  AutoRound()
      : Format("auto_round", "AutoRound's checkpoints: 2 to 8 bit integers, mxfp4, mxfp8, mxint4, nvfp4 and fp8.",
               {RH_ENCODING_AFFINE_INT, RH_ENCODING_MX, RH_ENCODING_NVFP, RH_ENCODING_SCALED_FP8}) {}

  void check(const rh_format_layer& layer, const char*) const override {
    if (const auto encoding = float_encoding(*layer.encoding))
      float_layer_scheme(*encoding, layer);
    else
      check_int_layer(layer, {2, 3, 4, 5, 6, 7, 8});
  }

  // config.json names one packing_format for the whole checkpoint.
  void plan(const rh_plan& plan, std::vector<rh::Answer>& answers) const override {
    require_layers(plan);
    check_experts(plan, rh::Experts::kApart, answers);
    std::optional<IntPlan> ints;
    if (has_ints(plan)) ints.emplace(plan);
    std::map<std::string, int64_t> layers;  // by packing format
    std::vector<std::string> packing(plan.tensor_count);
    for (uint64_t i = 0; i < plan.tensor_count; ++i) {
      const rh_format_layer* layer = plan.tensors[i]->layer;
      if (!layer) continue;
      const auto encoding = float_encoding(*layer->encoding);
      packing[i] = encoding ? float_layer_scheme(*encoding, *layer).packing : int_layer_scheme(*ints, *layer).packing;
      ++layers[packing[i]];
    }
    if (layers.size() < 2) return;
    const auto most = std::max_element(layers.begin(), layers.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto named = [](const std::string& text) { return text.empty() ? std::string("none") : text; };
    for (uint64_t i = 0; i < plan.tensor_count; ++i)
      if (plan.tensors[i]->layer && packing[i] != most->first)
        answers[i] = {RH_TENSOR_REFUSED,
                      cat("it allows one packing_format per checkpoint: this layer needs ", named(packing[i]),
                          ", and most layers of this plan need ", named(most->first))};
  }

  const char* backends_json() const override {
    static const std::string backends = with_fuses(R"([
      {"engine": "transformers with auto-round", "devices": ["cpu", "cuda", "xpu"], "bits": [2, 3, 4, 5, 6, 7, 8],
       "sym": [true, false], "encodings": ["affine-int/1"],
       "packing": "auto_round:auto_gptq, or auto_round when asymmetric", "priority": 0},
      {"engine": "transformers with auto-round, triton", "devices": ["cuda", "xpu"], "bits": [2, 4, 8],
       "sym": [true, false], "encodings": ["affine-int/1"],
       "packing": "auto_round:auto_gptq, or auto_round when asymmetric", "priority": 2},
      {"engine": "transformers with auto-round and auto-round-lib", "devices": ["cpu"], "bits": [2, 4, 8],
       "sym": [true, false], "encodings": ["affine-int/1"], "packing": "auto_round:auto_gptq or auto_round",
       "priority": 6},
      {"engine": "transformers with auto-round and gptqmodel, marlin", "devices": ["cuda"], "bits": [4, 8],
       "group_sizes": [-1, 32, 64, 128], "sym": [true], "encodings": ["affine-int/1"],
       "packing": "auto_round:auto_gptq", "priority": 6},
      {"engine": "transformers with auto-round", "devices": ["cpu", "cuda", "xpu"], "bits": [4, 8],
       "group_sizes": [32], "sym": [true], "encodings": ["mx/1"], "parameters": {"element": ["fp4_e2m1", "fp8_e4m3"]},
       "packing": "auto_round:llm_compressor, mxfp4 and mxfp8", "priority": 0},
      {"engine": "transformers with auto-round", "devices": ["cpu", "cuda", "xpu"], "bits": [4],
       "group_sizes": [32], "sym": [true], "encodings": ["mx/1"], "parameters": {"element": ["int4"]},
       "packing": "auto_round, mxint4", "priority": 0},
      {"engine": "transformers with auto-round", "devices": ["cpu", "cuda", "xpu"], "bits": [4],
       "group_sizes": [16], "sym": [true], "encodings": ["nvfp/1"], "parameters": {"scale": ["e4m3"]},
       "packing": "auto_round:llm_compressor, nvfp4", "priority": 0},
      {"engine": "transformers with auto-round", "devices": ["cpu", "cuda", "xpu"], "bits": [4],
       "group_sizes": [16], "sym": [true], "encodings": ["nvfp/1"], "parameters": {"scale": ["ue5m3"]},
       "packing": "auto_round:llm_compressor_nvfp4_e5m3", "priority": 3},
      {"engine": "transformers with auto-round", "devices": ["cpu", "cuda", "xpu"], "bits": [8],
       "group_sizes": [-1], "sym": [true], "encodings": ["scaled-fp8/1"], "packing": "auto_round:fp8_static",
       "priority": 0},
      {"engine": "vllm", "devices": ["cpu", "cuda"], "bits": [4], "sym": [true], "encodings": ["affine-int/1"],
       "packing": "auto_round:auto_gptq", "priority": 2, "command": "vllm serve {folder}"}])");
    return backends.c_str();
  }

  const rh::Linter* linter() const override { return this; }
  std::vector<rh::Finding> lint(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder), quantization = quantization_of(config);
    Findings findings;
    const auto layout = int_layout(quantization);
    require_key(findings, quantization, kEvery, "bits", "a number");
    require_key(findings, quantization, kEvery, "sym", "true or false");
    if (layout) {
      require_key(findings, quantization, kEvery, "group_size", "a number");
      require_key(findings, quantization, kEvery, "packing_format", "a text");
    }
    if (!layout && !is_float(quantization))
      findings.error(kEvery, "config.json",
                     cat("quantization_config.packing_format is ", text_at(quantization, "packing_format", "missing"),
                         ", which is not known of data_type ", text_at(quantization, "data_type", "int")),
                     "Correct the configuration");
    if (quantization.contains("extra_config")) require_key(findings, quantization, kEvery, "extra_config", "an object");
    if (!findings.any_error()) {
      const rh_data_type dtype = config_dtype(config, folder);
      const std::vector<std::string> blocks = block_names(quantization);
      const TensorReader tensors(folder);
      const Extra extra(quantization, stored_modules(tensors));
      check_blocks(tensors, blocks, findings);
      lint_modules({.source = source,
                    .config = config,
                    .advice = "Add its name to `extra_config`, with 16 bits",
                    .said = [&](const std::string& module) { return said_of(module, quantization, extra, blocks); },
                    .make = layout ? int_layer_maker(folder, config, quantization, *layout)
                                   : [&](const std::string& name,
                                         const LayerReader::Tensors&
                                             tensors) { return float_layer(name, tensors, quantization, dtype); }},
                   findings);
    }
    return findings.take();
  }

  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<AutoRoundWriter>(target);
  }
  bool resumes() const override { return true; }

  int32_t probe(const std::string& folder) const override {
    const Json quantization = quantization_of(read_config_or_empty(folder));
    if (!is_own(quantization)) return 0;
    return int_layout(quantization) || is_float(quantization) ? 100 : 1;  // 1: to say what of it is not known
  }

  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder);
    const Json quantization = quantization_of(config);
    const auto layout = int_layout(quantization);
    if (is_own(quantization) && layout) return int_reader(folder, config, quantization, *layout);
    if (!is_own(quantization) || !is_float(quantization)) {
      throw rh::Error(
          RH_INVALID_ARGUMENT,
          cat(folder, "/config.json: not a checkpoint of AutoRound's that is known here (quant_method ",
              text_at(quantization, "quant_method", "none"), ", data_type ", text_at(quantization, "data_type", "int"),
              ", packing_format ", text_at(quantization, "packing_format", "none"), ")"));
    }
    const rh_data_type dtype = config_dtype(config, folder);
    return std::make_unique<LayerReader>(folder, quantization,
                                         [&](const std::string& name, const LayerReader::Tensors& tensors) {
                                           return float_layer(name, tensors, quantization, dtype);
                                         });
  }

 private:
  static void check_blocks(const TensorReader& tensors, const std::vector<std::string>& blocks, Findings& findings);
};

// Some of block_name_to_quantize is the beginning of a stored module's name.
void AutoRound::check_blocks(const TensorReader& tensors, const std::vector<std::string>& blocks, Findings& findings) {
  if (blocks.empty()) return;
  const auto stored = [&](const std::string& block) {
    return std::any_of(tensors.entries().begin(), tensors.entries().end(),
                       [&](const auto& entry) { return entry.name.starts_with(block + "."); });
  };
  if (std::any_of(blocks.begin(), blocks.end(), stored)) return;
  findings.error(kEvery, "config.json",
                 cat("quantization_config.block_name_to_quantize is ", blocks[0], ", and no stored module begins so"),
                 "Name the module that the blocks lie in");
}

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

// SPDX-License-Identifier: Apache-2.0
// The format `llm_compressor`: checkpoints of compressed-tensors, which vLLM and transformers load.
#include <algorithm>
#include <set>

#include "config_groups.h"
#include "int_weight.h"
#include "plugins/formats/lib/checkpoint_writer.h"
#include "plugins/formats/lib/input_range.h"
#include "plugins/formats/lib/lint.h"
#include "plugins/formats/lib/name_patterns.h"
#include "plugins/formats/lib/pattern.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr char kOptions[] = R"({
  "type": "object",
  "properties": {
    "output_dtype": {
      "enum": ["float16", "bfloat16"],
      "default": "float16",
      "description": "Element type of the scales of integer weights."
    }
  },
  "additionalProperties": false
})";

// The release whose layout this is; before it, widths other than 1, 2, 4 and 8 bits were packed in another way.
constexpr char kLayoutVersion[] = "0.20.0";

// config.json's quantization_config; in old files compression_config, whose quantization may be within it, beside a
// sparsity_config. Empty: it is not a checkpoint of compressed-tensors.
Json own_quantization(const Json& config) {
  Json quantization = quantization_of(config);
  const auto old = config.find("compression_config");
  if (quantization.empty() && old != config.end() && old->is_object()) {
    quantization = *old;
    if (const auto inner = old->find("quantization_config"); inner != old->end() && inner->is_object()) {
      quantization = *inner;
      quantization["sparsity_config"] = old->value("sparsity_config", Json());
    }
    if (!quantization.contains("quant_method")) quantization["quant_method"] = "compressed-tensors";
  }
  const std::string method = text_at(quantization, "quant_method");
  return method == "compressed-tensors" || method == "sparseml" ? quantization : Json::object();
}

// Throws rh::Error for what more is done to weights than to round them.
void refuse_other_forms(const Json& quantization, const std::string& where) {
  const Json none = Json::object();
  const auto part = [&](const char* key) -> const Json& {
    const auto found = quantization.find(key);
    return found != quantization.end() && found->is_object() ? *found : none;
  };
  std::string form = text_at(part("sparsity_config"), "format", "dense");
  if (const std::string packing = text_at(quantization, "format"); packing == "marlin-24") form = packing;
  rh::require(form == "dense", cat(where, ": the sparse format ", form,
                                   " is not read. compressed-tensors turns it into a dense one: load the model with "
                                   "transformers, and save it decompressed"));
  const auto& transforms = part("transform_config");
  rh::require(!transforms.contains("config_groups") || transforms.at("config_groups").empty(),
              cat(where,
                  ": transform_config: the weights are rotated, and the model rotates its hidden states to match, "
                  "which is not read; start from the model before the rotation"));
}

rh_data_type scale_dtype(const char* options_json) {
  const std::string name = text_at(Json::parse(options_json), "output_dtype", "float16");
  rh::require(name == "float16" || name == "bfloat16", cat("option output_dtype is float16 or bfloat16, not ", name));
  return name == "float16" ? rh::kF16 : rh::kBF16;
}

// ---- writing ----

class Writer : public CheckpointWriter {
 public:
  explicit Writer(const rh_export& target)
      : CheckpointWriter(target), int_scales_(scale_dtype(target.plan->options_json)), common_(*target.plan) {}

 private:
  struct Group {
    LayerScheme scheme;
    std::vector<std::string> layers;
  };

  void store_layer(const rh_encoded_layer& encoded, TensorWriter& out) override {
    const rh_format_layer& layer = *encoded.layer;
    const std::string name = layer.name;
    const LayerScheme scheme = layer_scheme(layer, common_);
    if (encoded.bias) out.add(name + ".bias", *encoded.bias);
    if (float_encoding(*layer.encoding)) {
      add_codes(out, encoded);
      add_scales(out, name + ".weight_scale", encoded,
                 scheme.weights.at("strategy") == "tensor" ? std::vector<int64_t>{1} : std::vector<int64_t>{});
    } else {
      store_int_weight(out, encoded, scheme.format == "pack-quantized", int_scales_);
    }
    add_input_range(out, encoded);
  }

  std::vector<Group> groups() const {
    std::vector<Group> all;
    for (const rh_format_layer* layer : layers()) {
      const LayerScheme scheme = layer_scheme(*layer, common_);
      const auto group = std::find_if(all.begin(), all.end(), [&](const auto& g) { return g.scheme == scheme; });
      std::vector<std::string>& names = group == all.end() ? all.emplace_back(Group{scheme, {}}).layers : group->layers;
      names.push_back(layer->name);
      if (std::string module = module_name(layer->name); !module.empty()) names.push_back(std::move(module));
    }
    return all;
  }

  Json linear_targets() const {
    Json targets = Json::array({"Linear"});
    for (const rh_format_layer* layer : layers()) {
      if (in_block(layer->name)) continue;
      targets.push_back(layer->name);
      if (const std::string module = module_name(layer->name); !module.empty()) targets.push_back(module);
    }
    return targets;
  }

  Json quantization_config() const override {
    const std::vector<Group> groups = this->groups();
    const std::vector<std::string> left = unquantized();
    // All names but these.
    const auto others = [&](const std::vector<std::string>* names) {
      std::vector<std::string> others = names == &left ? std::vector<std::string>() : left;
      for (const Group& group : groups)
        if (&group.layers != names) others.insert(others.end(), group.layers.begin(), group.layers.end());
      return others;
    };
    Json config_groups = Json::object();
    for (size_t i = 0; i < groups.size(); ++i) {
      const Group& group = groups[i];
      // vLLM fuses layers and matches the class of the result before the names of its parts: where schemes differ,
      // only names tell them apart. The head's class is another one.
      config_groups[cat("group_", i)] = {
          {"targets", groups.size() == 1 ? linear_targets() : Json(with_patterns(group.layers, others(&group.layers)))},
          {"weights", group.scheme.weights},
          {"input_activations", group.scheme.inputs},
          {"output_activations", nullptr},
          {"format", group.scheme.format}};
    }
    const bool mixed = std::any_of(groups.begin(), groups.end(),
                                   [&](const auto& g) { return g.scheme.format != groups[0].scheme.format; });
    return {{"quant_method", "compressed-tensors"},
            {"version", kLayoutVersion},
            {"format", mixed ? "mixed-precision" : groups.at(0).scheme.format},
            {"quantization_status", "compressed"},
            {"config_groups", config_groups},
            {"ignore", with_patterns(left, others(&left))},
            {"kv_cache_scheme", nullptr},
            {"global_compression_ratio", nullptr},
            {"provider", "roundhouse"},
            {"roundhouse_version", rh::host().version}};
  }

  const rh_data_type int_scales_;
  const CommonGroups common_;
};

// ---- reading ----

// The config groups, and which layers each is for: a name, "re:" and a regular expression, or a class, in this order.
class Groups {
 public:
  explicit Groups(const Json& quantization) {
    // Where a quantization was undone by hand, nothing may be left of the groups.
    const Json groups = quantization.value("config_groups", Json::object());
    for (const auto& [name, group] : groups.items()) {
      const std::string where = "config_groups: " + name;
      rh::require(!group.is_array(), cat(where,
                                         " is the name of a preset with its targets; compressed-tensors writes "
                                         "what the preset stands for when it saves a model"));
      rh::require(group.is_object(), where + " is not an object");
      const Json weights = complete_arguments(group.value("weights", Json()), where + ": weights");
      if (weights.is_null()) continue;  // of inputs or outputs alone
      LayerScheme scheme{text_at(group, "format", text_at(quantization, "format").c_str()), weights,
                         complete_arguments(group.value("input_activations", Json()), where + ": input_activations")};
      const auto targets = group.find("targets");
      rh::require(targets != group.end() && targets->is_array() &&
                      std::all_of(targets->begin(), targets->end(), [](const Json& t) { return t.is_string(); }),
                  where + ": targets is not a list of names");
      for (const std::string target : *targets) {
        if (target.starts_with("re:"))
          patterns_.emplace_back(Pattern(target.substr(3)), schemes_.size());
        else
          names_[target] = schemes_.size();
      }
      schemes_.push_back(std::move(scheme));
    }
  }

  const LayerScheme& of(const std::string& layer) const {
    if (const LayerScheme* scheme = matched(layer)) return *scheme;
    if (schemes_.size() == 1) return schemes_[0];
    throw rh::Error(RH_DATA_LOSS, layer + ": config.json has no config group for this layer");
  }

  // nullptr: no target is for it.
  const LayerScheme* matched(const std::string& layer) const {
    if (const auto found = names_.find(layer); found != names_.end()) return &schemes_[found->second];
    for (const auto& [pattern, index] : patterns_) {
      if (pattern.begins(layer)) return &schemes_[index];
    }
    // A checkpoint does not say of what class a module is: an embedding is known by its name, all others are linear.
    const bool embedding = layer.substr(layer.rfind('.') + 1).starts_with("embed");
    if (const auto found = names_.find(embedding ? "Embedding" : "Linear"); found != names_.end())
      return &schemes_[found->second];
    return nullptr;
  }

 private:
  std::vector<LayerScheme> schemes_;
  std::map<std::string, size_t> names_;  // and classes
  std::vector<std::pair<Pattern, size_t>> patterns_;
};

std::unique_ptr<StoredLayer> make_layer(const std::string& name, const LayerScheme& scheme,
                                        const LayerReader::Tensors& tensors, rh_data_type dtype) {
  std::unique_ptr<StoredLayer> layer;
  if (scheme.weights.at("type") == "float") {
    const rh_tensor* packed = find(tensors, "weight_packed");
    const rh_tensor* scale = find(tensors, "weight_scale");
    if (!scale) throw rh::Error(RH_DATA_LOSS, name + ": weight_scale is missing");
    layer = std::make_unique<FloatLayer>(
        name, float_weights(scheme, *scale),
        FloatLayer::Tensors{packed ? packed : find(tensors, "weight"), scale, find(tensors, "weight_global_scale")},
        dtype);
  } else {
    layer = std::make_unique<IntWeight>(name, scheme.weights, tensors, dtype);
  }
  if (auto activation = stored_activation(scheme, layer->cols(), tensors))
    layer->set_activation(std::move(*activation));
  return layer;
}

// `ignore`: a name, "re:" and a regular expression, or a class. Returns the entry, or "".
class Ignored {
 public:
  explicit Ignored(const Json& quantization) {
    for (const std::string& entry : texts_at(quantization, "ignore"))
      if (entry.starts_with("re:"))
        patterns_.emplace_back(entry, Pattern(entry.substr(3)));
      else
        names_.insert(entry);
  }
  std::string by(const std::string& module) const {
    if (names_.contains(module)) return module;
    for (const auto& [entry, pattern] : patterns_)
      if (pattern.begins(module)) return entry;
    return names_.contains("Linear") ? "Linear" : "";
  }

 private:
  std::set<std::string> names_;
  std::vector<std::pair<std::string, Pattern>> patterns_;
};

// What the layout of a scheme stores.
Said packed_as(const LayerScheme& scheme) {
  const Json& weights = scheme.weights;
  const std::string& form = scheme.format;
  const bool is_float = text_at(weights, "type") == "float", symmetric = flag_at(weights, "symmetric", true);
  const bool packed = form.find("pack-quantized") != std::string::npos;
  Said said{.quantized = true, .needs = {packed ? "weight_packed" : "weight", "weight_scale"}};
  const int64_t group_size = number_at(weights, "group_size", 0);
  said.scheme = cat(form, ", ", number_at(weights, "num_bits", 0), " bits by ", text_at(weights, "strategy"),
                    group_size > 0 ? cat(" of ", group_size) : "", symmetric ? "" : ", asymmetric");
  if (packed && !is_float) said.needs.emplace_back("weight_shape");
  if (!symmetric) said.needs.emplace_back("weight_zero_point");
  if (form == "nvfp4-pack-quantized") said.needs.emplace_back("weight_global_scale");
  said.allows = {"weight_zero_point", "weight_g_idx", "input_zero_point"};
  const Json& inputs = scheme.inputs;
  if (!inputs.is_object()) return said;
  const auto dynamic = inputs.find("dynamic");
  const bool calibrated = dynamic != inputs.end() && dynamic->is_boolean() && !dynamic->get<bool>();
  const bool local = dynamic != inputs.end() && dynamic->is_string();
  if (local && form == "nvfp4-pack-quantized") said.needs.emplace_back("input_global_scale");
  if (calibrated)
    said.needs.emplace_back(text_at(inputs, "strategy") == "tensor_group" ? "input_global_scale" : "input_scale");
  said.scheme += cat(", inputs of ", number_at(inputs, "num_bits", 0), " bits");
  return said;
}

// Transformers rounds keys and values to scales that nothing has filled in.
void check_cache(const Json& quantization, const std::string& folder, Findings& findings) {
  const auto cache = quantization.find("kv_cache_scheme");
  if (cache == quantization.end() || !cache->is_object() || flag_at(*cache, "dynamic", false)) return;
  const TensorReader tensors(folder);
  const auto& stored = tensors.entries();
  if (std::none_of(stored.begin(), stored.end(), [](const auto& e) { return is_cache_scale(e.name); }))
    findings.error(
        kTransformers, "config.json",
        "quantization_config.kv_cache_scheme is there, and no scales of keys and values (k_scale, v_scale) are "
        "stored: they have no values",
        "Set it to null");
}

// Transformers has a module for each expert in place of transposed stacks wherever a checkpoint of this format is loaded.
void note_transposed_experts(const rh_plan& plan, std::vector<rh::Answer>& answers) {
  for (uint64_t i = 0; i < plan.tensor_count; ++i) {
    const rh_part* part = rh::ExpertStacks::part_of(plan.tensors[i]);
    if (plan.tensors[i]->layer || !part || part->count == 0 || !part->transposed || part->only || part->interleaved)
      continue;
    answers[i].reason =
        "transformers looks for these experts one by one beside quantized layers, and does not find them: they stay "
        "one "
        "tensor of all, which vLLM reads. For transformers quantize them too";
  }
}

class LlmCompressor : public rh::Format, public rh::Linter {
 public:
  LlmCompressor()
      : Format("llm_compressor", "Checkpoints of compressed-tensors, for vLLM: integers, fp8, mxfp and nvfp4.",
               {RH_ENCODING_AFFINE_INT, RH_ENCODING_SCALED_FP8, RH_ENCODING_MX, RH_ENCODING_NVFP}, kOptions,
               {{"compressed-tensors", "{}"}, {"compressed_tensors", "{}"}}) {}

  void check(const rh_format_layer& layer, const char* options_json) const override {
    scale_dtype(options_json);
    layer_scheme(layer, CommonGroups());
  }

  void plan(const rh_plan& plan, std::vector<rh::Answer>& answers) const override {
    require_layers(plan);
    for (uint64_t i = 0; i < plan.tensor_count; ++i)
      if (const rh_format_layer* layer = plan.tensors[i]->layer) answers[i].reason = unsaid_of_input(*layer);
    check_experts(plan, rh::Experts::kTogether, answers);
    note_transposed_experts(plan, answers);
  }

  const char* backends_json() const override {
    static const std::string backends = with_fuses(R"([
      {"engine": "vllm", "devices": ["cuda"], "bits": [4, 8], "sym": [true, false],
       "encodings": ["affine-int/1"], "packing": "pack-quantized", "priority": 2, "command": "vllm serve {folder}"},
      {"engine": "vllm", "devices": ["cpu"], "bits": [4], "sym": [true, false],
       "encodings": ["affine-int/1"], "packing": "pack-quantized", "priority": 2, "command": "vllm serve {folder}"},
      {"engine": "vllm", "devices": ["cuda", "cpu"], "bits": [8], "sym": [true], "encodings": ["affine-int/1"],
       "packing": "int-quantized", "priority": 2, "command": "vllm serve {folder}"},
      {"engine": "vllm", "devices": ["cuda"], "bits": [8], "sym": [true], "encodings": ["scaled-fp8/1", "mx/1"],
       "packing": "float-quantized or mxfp8-quantized", "priority": 2, "command": "vllm serve {folder}"},
      {"engine": "vllm", "devices": ["cuda"], "bits": [4], "sym": [true], "encodings": ["nvfp/1", "mx/1"],
       "parameters": {"scale": ["e4m3"]}, "packing": "nvfp4-pack-quantized or mxfp4-pack-quantized", "priority": 2,
       "command": "vllm serve {folder}"},
      {"engine": "transformers with compressed-tensors", "devices": ["cpu", "cuda"], "bits": [2, 3, 4, 5, 6, 7, 8],
       "sym": [true, false], "encodings": ["affine-int/1", "scaled-fp8/1", "mx/1", "nvfp/1"],
       "parameters": {"scale": ["e4m3"]}, "packing": "all but nvfp4-e5m3-pack-quantized", "priority": 0}])");
    return backends.c_str();
  }

  const rh::Linter* linter() const override { return this; }
  std::vector<rh::Finding> lint(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder), quantization = own_quantization(config);
    Findings findings;
    const rh_data_type dtype = config_dtype(config, folder);
    try {
      check_keys(quantization, findings);
      if (findings.any_error()) return findings.take();
      check_cache(quantization, folder, findings);
      const Groups groups(quantization);
      const Ignored ignored(quantization);
      const auto said = [&](const std::string& module) -> Said {
        if (const std::string entry = ignored.by(module); !entry.empty())
          return {false, cat("`ignore` has ", entry == module ? "its name" : entry)};
        const LayerScheme* scheme = groups.matched(module);
        if (!scheme) return {false, "no target of `config_groups` is for it"};
        Said packed = packed_as(*scheme);
        packed.why = "`ignore` does not name it";
        return packed;
      };
      lint_modules({.source = source,
                    .config = config,
                    .wants_head = true,
                    .advice = "Add its name to `ignore`",
                    .said = said,
                    .make =
                        [&](const std::string& name, const LayerReader::Tensors& tensors) {
                          return make_layer(name, groups.of(name), tensors, dtype);
                        }},
                   findings);
    } catch (const Json::exception& e) {
      findings.error(kEvery, "config.json", cat("quantization_config: ", e.what()), "Correct it");
    } catch (const rh::Error& e) {
      findings.error(kEvery, "config.json", cat("quantization_config: ", e.what()), "Correct it");
    }
    return findings.take();
  }

  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override { return std::make_unique<Writer>(target); }

  int32_t probe(const std::string& folder) const override {
    return own_quantization(read_config_or_empty(folder)).empty() ? 0 : 100;
  }
  bool resumes() const override { return true; }

  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder);
    const Json quantization = own_quantization(config);
    rh::require(!quantization.empty(), folder + "/config.json: quant_method is not compressed-tensors");
    refuse_other_forms(quantization, folder + "/config.json");
    const rh_data_type dtype = config_dtype(config, folder);
    try {
      const Groups groups(quantization);
      return std::make_unique<LayerReader>(folder, quantization,
                                           [&](const std::string& name, const LayerReader::Tensors& tensors) {
                                             return make_layer(name, groups.of(name), tensors, dtype);
                                           });
    } catch (const Json::exception& e) {
      throw rh::Error(RH_DATA_LOSS, cat(folder, "/config.json: quantization_config: ", e.what()));
    } catch (const rh::Error& e) {
      throw rh::Error(RH_DATA_LOSS, cat(folder, "/config.json: quantization_config: ", e.what()));
    }
  }

 private:
  static void check_keys(const Json& quantization, Findings& findings);
};

void LlmCompressor::check_keys(const Json& quantization, Findings& findings) {
  require_key(findings, quantization, kEvery, "format", "a text");
  require_key(findings, quantization, kEvery, "config_groups", "an object");
  if (quantization.contains("ignore") && !quantization["ignore"].is_null())
    require_key(findings, quantization, kEvery, "ignore", "a list");
  if (findings.any_error()) return;
  for (const auto& [name, group] : quantization["config_groups"].items()) {
    const std::string path = cat("quantization_config.config_groups.", name);
    if (!group.is_object()) {
      findings.error(kEvery, "config.json", cat(path, " is no object"), "Correct it");
      continue;
    }
    require_key(findings, group, kEvery, "targets", "a list", path);
    for (const bool input : {false, true}) {
      const char* key = input ? "input_activations" : "weights";
      const Json arguments = complete_arguments(group.value(key, Json()), path + "." + key);
      if (arguments.is_null()) continue;
      const std::string format = text_at(group, "format", text_at(quantization, "format").c_str());
      const std::string refused = refused_arguments(arguments, input ? "" : format);
      if (!refused.empty())
        findings.error(kEvery, "config.json", cat(path, ".", key, refused, ": an engine refuses it"), "Correct it");
    }
  }
  const std::string status = text_at(quantization, "quantization_status", "missing");
  if (status != "compressed")
    findings.error(
        kTransformers, "config.json",
        cat("quantization_config.quantization_status is ", status, ": transformers then looks for plain weights"),
        "Set it to compressed");
}

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<LlmCompressor>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "llm_compressor", "Roundhouse", "0.1.0",
          "Writes and reads checkpoints of compressed-tensors.")

// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/model_config.h"

#include <algorithm>
#include <cmath>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

struct Family {
  const char *architecture, *model_type, *model_class;
  int64_t full_every =
      1;  // of the blocks one attends to all positions, where the file tells a window for no single block
};
constexpr Family kFamilies[] = {
    {"llama", "llama", "LlamaForCausalLM"},           {"qwen2", "qwen2", "Qwen2ForCausalLM"},
    {"qwen3", "qwen3", "Qwen3ForCausalLM"},           {"qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM"},
    {"gemma", "gemma", "GemmaForCausalLM"},           {"gemma2", "gemma2", "Gemma2ForCausalLM", 2},
    {"gemma3", "gemma3_text", "Gemma3ForCausalLM", 6}};
// llama.cpp's architecture llama with a sliding window, and with experts.
constexpr Family kMistral{"llama", "mistral", "MistralForCausalLM"};
constexpr Family kMixtral{"llama", "mixtral", "MixtralForCausalLM"};

constexpr struct {
  const char *key, *config;
} kNumbers[] = {{"vocab_size", "vocab_size"},
                {"embedding_length", "hidden_size"},
                {"feed_forward_length", "intermediate_size"},
                {"block_count", "num_hidden_layers"},
                {"context_length", "max_position_embeddings"},
                {"attention.head_count", "num_attention_heads"},
                {"attention.head_count_kv", "num_key_value_heads"},
                {"attention.key_length", "head_dim"},
                {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
                {"rope.freq_base", "rope_theta"}};

// In place of a rope_type.
constexpr const char* kUnknownScaling = "divisors that config.json has no form for";

// Llama 3.1's scaling, of which GGUF keeps the divisors alone: Llama 3.1 to 3.3 differ in the factor only.
Json llama3_scaling(const std::vector<float>& factors, const Json& config) {
  Json scaling{{"rope_type", "llama3"},
               {"factor", std::round(*std::max_element(factors.begin(), factors.end()))},
               {"low_freq_factor", 1.0},
               {"high_freq_factor", 4.0},
               {"original_max_position_embeddings", 8192}};
  const Json rotary{{"scaling", "llama3"},        {"theta", config.at("rope_theta")}, {"factor", scaling.at("factor")},
                    {"dims", factors.size() * 2}, {"low_freq_factor", 1.0},           {"high_freq_factor", 4.0},
                    {"original_positions", 8192}};
  const std::vector<float> known = rotary_factors({{"rotary", rotary}})[0].second;
  const bool same = std::equal(factors.begin(), factors.end(), known.begin(), known.end(),
                               [](float a, float b) { return std::abs(a - b) <= 1e-3f * b; });
  return same ? scaling : Json{{"rope_type", kUnknownScaling}};
}

// What Gemma 2 and 3 have beside the numbers of all; of the scale of attention llama.cpp knows by the number of blocks.
void add_gemma(GgufReader& file, const Family& family, Json& config) {
  const auto value = [&](const char* key) { return file.value(cat(family.architecture, ".", key)); };
  const int64_t heads = config.value("num_attention_heads", int64_t{1});
  config["query_pre_attn_scalar"] = config.value("num_hidden_layers", int64_t{0}) == wide_blocks(family.architecture)
                                        ? config.value("hidden_size", int64_t{0}) / std::max<int64_t>(heads, 1)
                                        : config.value("head_dim", int64_t{256});
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"})
    if (const Json cap = value(key); cap.is_number()) config[key] = cap;
  if (const Json local = value("rope.freq_base_swa"); local.is_number()) config["rope_local_base_freq"] = local;
}

void add_experts(GgufReader& file, const Family& family, Json& config) {
  const auto value = [&](const char* key) { return file.value(cat(family.architecture, ".", key)); };
  config["num_experts_per_tok"] = value("expert_used_count");
  config[family.model_type == kMixtral.model_type ? "num_local_experts" : "num_experts"] = value("expert_count");
  if (family.model_type == kMixtral.model_type) return;
  config["moe_intermediate_size"] = value("expert_feed_forward_length");
  config["norm_topk_prob"] = true;
}

}  // namespace

std::optional<int64_t> wide_blocks(const std::string& architecture) {
  if (architecture == "gemma2") return 46;  // 27B
  if (architecture == "gemma3") return 62;  // 27B
  return std::nullopt;
}

Json model_config(GgufReader& file) {
  const Json said = file.value("general.architecture");
  const std::string id = said.is_string() ? said.get<std::string>() : "";
  const auto* family = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                    [&](const Family& known) { return id == known.architecture; });
  // No name of a family, though transformers may have one that is spelled alike: its config.json cannot be rebuilt.
  if (family == std::end(kFamilies)) return {{"model_type", cat(kUnknownFamily, id)}};
  const auto value = [&](const char* key) { return file.value(cat(id, ".", key)); };
  // One number for all blocks: llama.cpp knows one for each as well.
  const auto number = [&](const char* key) -> Json {
    Json found = value(key);
    if (!found.is_array() || found.empty()) return found;
    return std::count(found.begin(), found.end(), found[0]) == static_cast<int64_t>(found.size()) ? found[0] : found;
  };
  const Json window = number("attention.sliding_window");
  const bool has_window = window.is_number_integer() && window > 0;
  const Json experts = value("expert_count");
  const bool has_experts = experts.is_number_integer() && experts > 0;
  if (id == kMistral.architecture && has_window) family = &kMistral;
  if (id == kMixtral.architecture && has_experts) family = &kMixtral;

  Json config{{"architectures", {family->model_class}}, {"model_type", family->model_type}};
  config["dtype"] = file.dtype_name();
  for (const auto& [key, name] : kNumbers)
    if (const Json found = number(key); !found.is_null()) config[name] = found;
  // llama.cpp stops without it, and there is no default that all models of a family have.
  if (!config.contains("rms_norm_eps")) config["rms_norm_eps"] = nullptr;
  if (!config.contains("num_key_value_heads") && config.contains("num_attention_heads"))
    config["num_key_value_heads"] = config["num_attention_heads"];
  const auto hidden = config.find("hidden_size"), heads = config.find("num_attention_heads");
  const bool divides = hidden != config.end() && heads != config.end() && hidden->is_number_integer() &&
                       heads->is_number_integer() && *heads > 0;
  if (!config.contains("head_dim") && divides) config["head_dim"] = hidden->get<int64_t>() / heads->get<int64_t>();
  if (!config.contains("rope_theta")) config["rope_theta"] = 10000.0;
  if (id.starts_with("gemma")) {
    config["hidden_activation"] = "gelu_pytorch_tanh";
  } else {
    config["hidden_act"] = "silu";
  }
  if (family->full_every > 1) add_gemma(file, *family, config);
  if (has_experts) add_experts(file, *family, config);
  if (const int64_t rows = file.vocabulary(); rows > 0) config["vocab_size"] = rows;
  config["tie_word_embeddings"] = !file.stores("output.weight");
  if (id == "llama" || id == "qwen3") config["attention_bias"] = file.stores("blk.0.attn_q.bias");
  if (id == "llama") config["mlp_bias"] = file.stores("blk.0.ffn_up.bias");
  if (has_window) {
    config["sliding_window"] = window;
    const Json pattern = value("attention.sliding_window_pattern");
    config["use_sliding_window"] = true;
    if (id != "llama") {
      Json labels = Json::array();
      const int64_t every = pattern.is_number_integer() ? pattern.get<int64_t>() : family->full_every;
      for (int64_t i = 0; i < config.value("num_hidden_layers", int64_t{0}); ++i) {
        const bool told = pattern.is_array() && static_cast<size_t>(i) < pattern.size() && pattern[i].is_boolean();
        const bool slides = told ? pattern[i].get<bool>() : every <= 1 || (i + 1) % every != 0;
        labels.push_back(slides ? "sliding_attention" : "full_attention");
      }
      config["layer_types"] = labels;
    }
  } else if (id == "gemma3") {  // without a window llama.cpp has none; the model's default is one
    config["layer_types"] = std::vector<std::string>(config.value("num_hidden_layers", size_t{0}), "full_attention");
  }
  const Json said_scaling = value("rope.scaling.type"), factor = value("rope.scaling.factor");
  const Json scaling = said_scaling.is_null() && !factor.is_null() ? "linear" : said_scaling;  // as in llama.cpp
  if (scaling.is_string() && scaling != "none" && (scaling != "linear" || !factor.is_null()))
    config["rope_scaling"] = {{"rope_type", scaling}, {"factor", factor}};
  if (scaling == "yarn")
    for (const auto& [key, name] : {std::pair{"original_context_length", "original_max_position_embeddings"},
                                    {"yarn_beta_fast", "beta_fast"},
                                    {"yarn_beta_slow", "beta_slow"}})
      if (const Json found = value(cat("rope.scaling.", key).c_str()); found.is_number())
        config["rope_scaling"][name] = found;
  // llama.cpp multiplies it with the attention's factor that YaRN has by itself.
  if (const Json own = value("rope.scaling.attn_factor"); scaling == "yarn" && own.is_number() && factor.is_number())
    config["rope_scaling"]["attention_factor"] = own.get<double>() * (0.1 * std::log(factor.get<double>()) + 1);
  if (const Json linear = value("rope.scale_linear"); !scaling.is_string() && linear.is_number())  // files of 2023
    config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", linear}};
  if (const std::vector<float> factors = file.rotary_factors(); !factors.empty())
    config["rope_scaling"] = llama3_scaling(factors, config);
  for (const char* token : {"bos", "eos"})
    if (const Json found = file.value(cat("tokenizer.ggml.", token, "_token_id")); found.is_number())
      config[cat(token, "_token_id")] = found;
  return config;
}

// llama.cpp rotates the first features of a head where the file says how many, but for Llama, whose file it refuses.
std::string config_problem(GgufReader& file, const Json& config) {
  const std::string type = config.at("model_type");
  if (type.starts_with(kUnknownFamily))
    return cat("the metadata of llama.cpp's ", type.substr(kUnknownFamily.size()), " is not turned into a config.json");
  if (config.at("rms_norm_eps").is_null())
    return cat("the metadata has no ", file.value("general.architecture").get<std::string>(),
               ".attention.layer_norm_rms_epsilon, which norms need");
  if (const Json scaling = config.value("rope_scaling", Json()); scaling.is_object()) {
    const Json kind = scaling.value("rope_type", Json());
    if (kind == kUnknownScaling)
      return "rope_freqs.weight divides the rotary frequencies otherwise than Llama 3.1's scaling does, and "
             "config.json "
             "has no form for that";
    if (kind != "linear" && kind != "llama3" && kind != "yarn")
      return cat(file.value("general.architecture").get<std::string>(), ".rope.scaling.type is ", kind,
                 ", of which the metadata does not have all that config.json needs");
    if (!scaling.value("factor", Json()).is_number())
      return cat("the metadata has no number ", file.value("general.architecture").get<std::string>(),
                 ".rope.scaling.factor, which positions that are scaled need");
  }
  const Json size = config.value("head_dim", Json());
  for (const char* suffix : {"", "_swa"}) {
    const std::string key = cat(file.value("general.architecture").get<std::string>(), ".rope.dimension_count", suffix);
    if (const Json rotated = file.value(key); rotated.is_number() && rotated != size)
      return cat(key, " is ", rotated, " and a head has ", size, " features, of which the config.json of ", type,
                 " can rotate no part alone");
  }
  return "";
}

}  // namespace roundhouse::formats

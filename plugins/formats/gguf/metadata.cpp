// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/metadata.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <optional>

#include "plugins/formats/gguf/model_config.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {

ByteWriter& Metadata::begin(const std::string& key, GgufValue type) {
  ++count_;
  bytes_.text(key);
  bytes_.number(type);
  return bytes_;
}

ByteWriter& Metadata::begin_array(const std::string& key, GgufValue type, size_t size) {
  begin(key, GgufValue::kArray).number(type);
  bytes_.number<uint64_t>(size);
  arrays_[key] = bytes_.bytes().size();
  return bytes_;
}

void Metadata::text(const std::string& key, const std::string& value) { begin(key, GgufValue::kString).text(value); }

void Metadata::u16(const std::string& key, uint64_t value) {
  begin(key, GgufValue::kU16).number(static_cast<uint16_t>(value));
}

void Metadata::i32(const std::string& key, int64_t value) {
  begin(key, GgufValue::kI32).number(static_cast<int32_t>(value));
}

void Metadata::u32(const std::string& key, uint64_t value) {
  begin(key, GgufValue::kU32).number(static_cast<uint32_t>(value));
}

void Metadata::f32(const std::string& key, double value) {
  begin(key, GgufValue::kF32).number(static_cast<float>(value));
}

void Metadata::flag(const std::string& key, bool value) { begin(key, GgufValue::kBool).number<uint8_t>(value ? 1 : 0); }

void Metadata::texts(const std::string& key, const std::vector<std::string>& values) {
  begin_array(key, GgufValue::kString, values.size());
  for (const std::string& value : values) bytes_.text(value);
}

void Metadata::f32s(const std::string& key, const std::vector<float>& values) {
  begin_array(key, GgufValue::kF32, values.size());
  for (const float value : values) bytes_.number(value);
}

void Metadata::i32s(const std::string& key, const std::vector<int32_t>& values) {
  begin_array(key, GgufValue::kI32, values.size());
  for (const int32_t value : values) bytes_.number(value);
}

void Metadata::flags(const std::string& key, const std::vector<bool>& values) {
  begin_array(key, GgufValue::kBool, values.size());
  for (const bool value : values) bytes_.number<uint8_t>(value ? 1 : 0);
}

std::string size_label(uint64_t parameters) {
  constexpr struct {
    double unit;
    char suffix;
  } kUnits[] = {{1e12, 'T'}, {1e9, 'B'}, {1e6, 'M'}, {1e3, 'K'}};
  const double n = static_cast<double>(parameters);
  for (const auto& [unit, suffix] : kUnits) {
    if (n <= unit && unit > 1e3) continue;
    char text[32];
    // Two digits at least.
    std::snprintf(text, sizeof text, std::round(n / unit) < 10 ? "%.1f%c" : "%.0f%c", n / unit, suffix);
    return text;
  }
  return "";
}

namespace {

// GGUF has one size, and which blocks have a window.
void add_sliding_window(Metadata& metadata, const Names& names, const Json& architecture) {
  const std::string& id = names.architecture();
  int64_t size = 0;
  std::vector<bool> windows;
  for (const Json& window : architecture.value("sliding_windows", Json::array())) {
    windows.push_back(!window.is_null());
    if (window.is_null()) continue;
    rh::require(size == 0 || size == window, "the blocks have sliding windows of different sizes; GGUF has one");
    size = window;
  }
  if (size == 0 || names.own_windows()) return;
  metadata.u32(id + ".attention.sliding_window", static_cast<uint64_t>(size));
  if (std::find(windows.begin(), windows.end(), false) != windows.end())
    metadata.flags(id + ".attention.sliding_window_pattern", windows);
  if (size < architecture.at("positions") && !names.heeds_windows())
    rh::log(RH_LOG_WARNING, cat("gguf: the model attends to the last ", size, " positions. llama.cpp's architecture ",
                                id, " attends to all, so that longer texts come out otherwise"));
}

// What multiplies or bounds, where it does something.
void add_scalars(Metadata& metadata, const std::string& id, const Json& architecture) {
  const auto unless_one = [&](const char* key, const char* fact) {
    if (architecture.at(fact) != 1) metadata.f32(cat(id, ".", key), architecture.at(fact));
  };
  const auto if_there = [&](const char* key, const char* fact) {
    if (!architecture.at(fact).is_null()) metadata.f32(cat(id, ".", key), architecture.at(fact));
  };
  if_there("attention.scale", "attention_scale");
  if_there("attn_logit_softcapping", "attention_softcap");
  if_there("final_logit_softcapping", "logit_softcap");
  unless_one("embedding_scale", "embedding_scale");
  unless_one("residual_scale", "residual_scale");
  // llama.cpp's architectures multiply with it, or divide by it, as the model does.
  if_there("logit_scale", "logit_scale");
  if_there("logit_scale", "logit_divisor");
}

// A number for all blocks, or where they differ one for each.
void add_numbers(Metadata& metadata, const std::string& key, const std::vector<int32_t>& values) {
  if (std::count(values.begin(), values.end(), values[0]) == static_cast<int64_t>(values.size()))
    metadata.u32(key, static_cast<uint64_t>(values[0]));
  else
    metadata.i32s(key, values);
}

template <typename T>
std::vector<T> of_blocks(const Json& architecture, const char* key) {
  std::vector<T> values;
  for (const Json& block : architecture.at("parts")) values.push_back(block.value(key, T()));
  return values;
}

bool some(const std::vector<bool>& flags) { return std::find(flags.begin(), flags.end(), true) != flags.end(); }

// Where blocks with experts follow each other at this distance, counted from block -1; 0: they do not.
int64_t expert_step(const std::vector<bool>& experts) {
  const auto first = std::find(experts.begin(), experts.end(), true) - experts.begin();
  const int64_t count = static_cast<int64_t>(experts.size());
  for (int64_t step = 1; step <= first + 1; ++step) {
    bool holds = true;
    for (int64_t i = first; i < count; ++i) holds = holds && experts[static_cast<size_t>(i)] == ((i + 1) % step == 0);
    if (holds) return step;
  }
  return 0;
}

void add_experts(Metadata& metadata, const Names& names, const Json& architecture) {
  const std::string& id = names.architecture();
  const Json& experts = architecture.at("experts");
  const auto number = [&](const char* key) { return experts.at(key).get<uint64_t>(); };
  const uint64_t intermediate = number("intermediate"), shared = number("shared_intermediate");
  metadata.u32(id + ".expert_count", number("count"));
  metadata.u32(id + ".expert_used_count", number("used"));
  metadata.u32(id + ".expert_feed_forward_length", intermediate);
  if (shared > 0) metadata.u32(id + ".expert_shared_feed_forward_length", shared);
  if (shared % intermediate == 0 && (shared > 0 || !architecture.at("latent").is_null()))
    metadata.u32(id + ".expert_shared_count", shared / intermediate);
  metadata.u32(id + ".leading_dense_block_count", number("dense_first_blocks"));
  if (names.has_expert_steps())
    metadata.u32(id + ".interleave_moe_layer_step",
                 static_cast<uint64_t>(expert_step(of_blocks<bool>(architecture, "experts"))));
  metadata.u32(id + ".expert_gating_func", experts.at("scores") == "sigmoid" ? 2 : 1);
  metadata.flag(id + ".expert_weights_norm", experts.at("normalize"));
  metadata.f32(id + ".expert_weights_scale", experts.at("scale"));
  if (number("latent") > 0) metadata.u32(id + ".moe_latent_size", number("latent"));
  if (number("groups") < 2) return;
  metadata.u32(id + ".expert_group_count", number("groups"));
  metadata.u32(id + ".expert_group_used_count", number("top_groups"));
}

// Latent attention is computed with one key and value head, of the latent and the rotated features.
void add_latent(Metadata& metadata, const std::string& id, const Json& architecture) {
  const Json& latent = architecture.at("latent");
  const auto number = [&](const char* key) { return latent.at(key).get<uint64_t>(); };
  metadata.u32(id + ".attention.q_lora_rank", number("q_rank"));
  metadata.u32(id + ".attention.kv_lora_rank", number("rank"));
  metadata.u32(id + ".attention.head_count_kv", 1);
  metadata.u32(id + ".attention.key_length", number("rank") + number("rope"));
  metadata.u32(id + ".attention.value_length", number("rank"));
  metadata.u32(id + ".attention.key_length_mla", number("nope") + number("rope"));
  metadata.u32(id + ".attention.value_length_mla", number("value"));
  if (architecture.contains("experts")) return;
  metadata.u32(id + ".leading_dense_block_count", architecture.at("blocks").get<uint64_t>());
  metadata.u32(id + ".expert_feed_forward_length", architecture.at("intermediate").get<uint64_t>());
  metadata.u32(id + ".expert_shared_count", 0);
}

// Heads of blocks with a sliding window may be of another size than those of the others.
void add_head_sizes(Metadata& metadata, const std::string& id, const Json& architecture) {
  std::optional<uint64_t> size, window;
  for (size_t i = 0; i < architecture.at("parts").size(); ++i) {
    const auto found = architecture.at("parts")[i].at("head_dim").get<uint64_t>();
    if (found == 0) continue;
    std::optional<uint64_t>& kind = architecture.at("sliding_windows")[i].is_null() ? size : window;
    rh::require(kind.value_or(found) == found,
                "the blocks have heads of different sizes; GGUF has one, and one of windows");
    kind = found;
  }
  const uint64_t usual = size ? *size : window ? *window : architecture.at("head_dim").get<uint64_t>();
  const auto add = [&](const std::string& suffix, uint64_t of) {
    metadata.u32(id + ".attention.key_length" + suffix, of);
    metadata.u32(id + ".attention.value_length" + suffix, of);
  };
  add("", usual);
  const uint64_t inputs = architecture.value("layer_input_size", uint64_t{0});
  if (window.value_or(usual) == usual && inputs == 0) return;
  add("_swa", window.value_or(usual));
  if (const Json& rotary = architecture.at("window_rotary"); !rotary.is_null())
    metadata.u32(id + ".rope.dimension_count_swa", rotary.at("dims").get<uint64_t>());
  const std::vector<bool> shared = of_blocks<bool>(architecture, "shared_kv");
  metadata.u32(id + ".embedding_length_per_layer_input", inputs);
  metadata.u32(id + ".attention.shared_kv_layers",
               static_cast<uint64_t>(std::count(shared.begin(), shared.end(), true)));
}

void add_recurrent(Metadata& metadata, const std::string& id, const Json& architecture) {
  const Json& recurrent = architecture.at("recurrent");
  const auto number = [&](const char* key) { return recurrent.at(key).get<uint64_t>(); };
  if (recurrent.at("kind") == "short_conv") return metadata.u32(id + ".shortconv.l_cache", number("kernel"));
  metadata.u32(id + ".ssm.conv_kernel", number("kernel"));
  metadata.u32(id + ".ssm.inner_size", number("heads") * number("head_dim"));
  metadata.u32(id + ".ssm.state_size", number("key_dim"));
  metadata.u32(id + ".ssm.time_step_rank", number("heads"));
  metadata.u32(id + ".ssm.group_count", number("key_heads"));
  if (recurrent.at("kind") == "mamba2") metadata.f32(id + ".attention.layer_norm_epsilon", architecture.at("norm_eps"));
  if (recurrent.at("kind") == "delta_rule")
    metadata.flags(id + ".attention.recurrent_layers", of_blocks<bool>(architecture, "recurrent"));
  else
    metadata.flag(id + ".rope.scaling.finetuned", some(of_blocks<bool>(architecture, "rotary")));
}

// Where YaRN scales the scores of latent attention: its mscale_all_dim.
double score_mscale(const Json& architecture) {
  const Json& latent = architecture.at("latent");
  const double size = latent.at("nope").get<double>() + latent.at("rope").get<double>();
  const double temperature = std::sqrt(architecture.at("attention_scale").get<double>() * std::sqrt(size));
  return (temperature - 1) / (0.1 * std::log(architecture.at("rotary").at("factor").get<double>()));
}

void add_rotary(Metadata& metadata, const Names& names, const Json& architecture) {
  const std::string& id = names.architecture();
  const Json& rotary = architecture.at("rotary");
  metadata.f32(id + ".rope.freq_base", rotary.at("theta"));
  metadata.u32(id + ".rope.dimension_count", rotary.at("dims").get<uint64_t>());
  if (!names.sections().empty()) metadata.i32s(id + ".rope.dimension_sections", names.sections());
  if (const Json& window = architecture.at("window_rotary");
      !window.is_null() && window.at("theta") != rotary.at("theta"))
    metadata.f32(id + ".rope.freq_base_swa", window.at("theta"));
  const std::string scaling = rotary.at("scaling");
  if (scaling == "longrope") {
    metadata.u32(id + ".rope.scaling.original_context_length", rotary.at("original_positions").get<uint64_t>());
    metadata.f32(id + ".rope.scaling.attn_factor", rotary.at("attention_factor"));
  }
  if (scaling != "linear" && scaling != "yarn") return;
  metadata.text(id + ".rope.scaling.type", scaling);
  metadata.f32(id + ".rope.scaling.factor", rotary.at("factor"));
  if (scaling == "linear") return;
  metadata.u32(id + ".rope.scaling.original_context_length", rotary.at("original_positions").get<uint64_t>());
  if (!rotary.at("truncate"))
    rh::log(
        RH_LOG_WARNING,
        "gguf: config.json says truncate: false, and llama.cpp's YaRN truncates its range: a few rotary frequencies "
        "differ a little");
  const auto unless = [&](double usual, const char* key, double value) {
    if (value != usual) metadata.f32(cat(id, ".rope.scaling.", key), value);
  };
  // llama.cpp has these defaults.
  unless(32, "yarn_beta_fast", rotary.at("beta_fast"));
  unless(1, "yarn_beta_slow", rotary.at("beta_slow"));
  // It multiplies with YaRN's own temperature, 0.1 ln(factor) + 1, or with mscale_all_dim with what is left of it.
  const auto temperature = [&](double mscale) {
    return 0.1 * mscale * std::log(std::max(rotary.at("factor").get<double>(), 1.0)) + 1;
  };
  double factor = temperature(1);
  if (!architecture.at("latent").is_null() && !architecture.at("attention_scale").is_null()) {
    const double mscale = score_mscale(architecture);
    metadata.f32(id + ".rope.scaling.yarn_log_multiplier", 0.1 * mscale);  // it divides by 0.1
    factor = id == "deepseek2" ? 1 : temperature(1) / temperature(mscale);
  }
  unless(1, "attn_factor", rotary.at("attention_factor").get<double>() / factor);
}

// The last blocks may have the keys and values of the two before them: the first of the two slides, the second does not.
void check_shared_keys(const Names& names, const Json& architecture) {
  const std::vector<bool> shared = of_blocks<bool>(architecture, "shared_kv");
  const size_t first = static_cast<size_t>(std::find(shared.begin(), shared.end(), true) - shared.begin());
  const Json& windows = architecture.at("sliding_windows");
  for (size_t i = first; i < shared.size(); ++i) {
    const size_t back = windows[i].is_null() ? 1 : 2;
    rh::require(shared[i] && back <= first && windows[first - back].is_null() == windows[i].is_null(),
                cat("llama.cpp's ", names.architecture(), " takes the keys and values of block ", i, " from block ",
                    static_cast<int64_t>(first) - static_cast<int64_t>(back),
                    ", and this model from another; choose another format"));
  }
}

}  // namespace

void check_hyperparameters(const Names& names, const Json& architecture) {
  const auto require = [&](bool right, const std::string& otherwise) {
    rh::require(right, cat("llama.cpp's ", names.architecture(), " ", otherwise, "; choose another format"));
  };
  require(architecture.at("tied_head") || !names.tied_only(),
          "has the embedding as its head, and this model has another one");
  require(!architecture.at("tied_head") || !names.untied_only(),
          "wants a head beside the embedding, and this model's is the embedding");
  require(architecture.at("heads") == architecture.at("kv_heads") || !names.own_keys(),
          "has keys and values for each head, and here heads share some");
  for (const std::string& activation : architecture.value("activations", std::vector<std::string>())) {
    const std::vector<std::string>& known = names.activations();
    require(std::find(known.begin(), known.end(), activation) != known.end(),
            cat("has ", known[0], " in its MLPs, and this model has ", activation));
  }
  if (const int64_t every = names.rotary_but_every(); every > 0) {
    const std::vector<bool> rotary = of_blocks<bool>(architecture, "rotary");
    for (size_t i = 0; i < rotary.size(); ++i)
      require(rotary[i] == ((static_cast<int64_t>(i) + 1) % every != 0),
              cat("has rotary positions in all blocks but every ", every, "th, and this model in others"));
  }
  const Json& rotary = architecture.at("rotary");
  if (const auto& sections = names.sections(); !sections.empty())
    require(!rotary.is_null() && 2 * std::accumulate(sections.begin(), sections.end(), 0) == rotary.at("dims"),
            "wants an mrope_section for each pair of rotary features, and this model has others");
  require(!architecture.value("chunked_windows", false) || names.own_windows(),
          "has no attention in chunks, and this model has");
  check_shared_keys(names, architecture);
  const int64_t input_vocab = architecture.value("layer_input_vocab", int64_t{0});
  require(input_vocab == 0 || input_vocab == architecture.at("vocab"),
          cat("has inputs of the blocks' own for the tokens of the vocabulary alone, ", architecture.at("vocab").dump(),
              ", and this model's vocab_size_per_layer_input is ", input_vocab));
  if (const auto wide = wide_blocks(names.architecture()); wide && !architecture.at("attention_scale").is_null()) {
    const int64_t size = architecture.at("blocks") == *wide
                             ? architecture.at("hidden").get<int64_t>() / architecture.at("heads").get<int64_t>()
                             : architecture.at("head_dim").get<int64_t>();
    const double usual = 1 / std::sqrt(static_cast<double>(size)), own = architecture.at("attention_scale");
    require(std::abs(own - usual) <= 1e-6 * usual, cat("scales the scores of attention by the root of ", size,
                                                       " in a model of so many blocks, and this one's ",
                                                       "query_pre_attn_scalar is ", std::round(1 / (own * own))));
  }
  if (architecture.contains("experts")) {
    const Json& experts = architecture.at("experts");
    if (names.normalizes())
      require(experts.at("normalize") == *names.normalizes(),
              cat(*names.normalizes() ? "divides" : "does not divide",
                  " the weights of a token's experts by their sum, and this model does otherwise"));
    require(experts.at("groups") < 2 || experts.at("by_best_two"),
            "takes a group of experts for as good as its best two together, and this model as its best one");
    std::vector<bool> blocks;  // of those with an MLP or experts
    for (const Json& block : architecture.at("parts"))
      if (block.at("experts") || block.at("intermediate") > 0) blocks.push_back(block.at("experts"));
    const int64_t step = expert_step(blocks);
    require(step == 1 || (step > 1 && names.has_expert_steps()),
            "has experts in all blocks after the first ones, and this model has them in others");
    require(!names.experts_alone() || (!blocks.empty() && blocks[0]),
            "has experts wherever there is an MLP, and this model has MLPs of its own beside");
  }
  if (const Json& latent = architecture.at("latent"); !latent.is_null()) {
    require(rotary.is_null() || rotary.at("scaling") != "yarn" || rotary.at("attention_factor") == 1,
            "scales latent attention by YaRN with mscale and mscale_all_dim alike, and this model's differ");
    require(rotary.is_null() || rotary.at("interleaved"),
            "rotates neighbours, and this model's pairs are half a head apart");
  }
  if (!rotary.is_null() && rotary.at("scaling") == "yarn")
    require(rotary.at("truncate") || names.truncates(), "truncates YaRN's range, and config.json says truncate: false");
  if (const Json& recurrent = architecture.at("recurrent"); !recurrent.is_null()) {
    require(recurrent.value("activation", "silu") == "silu",
            "has silu in what is recurrent, and this model has another activation there");
    require(recurrent.at("kind") != "delta_rule" || recurrent.at("key_dim") == recurrent.at("head_dim"),
            "has heads of one size in the gated delta rule, and this model's keys and values differ");
    // Below this a step changes next to nothing.
    require(recurrent.at("dt_min") <= 1e-3 && recurrent.at("dt_max").is_null(),
            "knows no limits of Mamba 2's time steps, and this model has some");
    require(!recurrent.at("scaled"), "knows no multipliers of Mamba 2's inputs, and this model has some");
    require(recurrent.at("kind") != "mamba2" ||
                (recurrent.at("norm") ? !recurrent.at("norm_before_gate").get<bool>() : names.bare_mamba2()),
            "has Mamba 2's norm behind its gate, and this model has not");
  }
}

void add_hyperparameters(Metadata& metadata, const Names& names, const Json& architecture) {
  const std::string& id = names.architecture();
  const auto number = [&](const char* key) { return architecture.at(key).get<uint64_t>(); };
  const Json &latent = architecture.at("latent"), &recurrent = architecture.at("recurrent");
  metadata.u32(id + ".block_count", number("blocks"));
  metadata.u32(id + ".context_length", number("positions"));
  metadata.u32(id + ".embedding_length", number("hidden"));
  // A block may be one of attention, MLP and recurrence alone; llama.cpp tells which by these numbers.
  std::vector<int32_t> mlps = of_blocks<int32_t>(architecture, "intermediate");
  const std::vector<bool> experts = of_blocks<bool>(architecture, "experts");
  for (size_t i = 0; i < mlps.size(); ++i)
    if (experts[i] && mlps[i] == 0) mlps[i] = architecture.at("experts").at("intermediate");
  bool usual = true;  // in all blocks with an MLP of their own
  for (size_t i = 0; i < mlps.size(); ++i)
    usual = usual && mlps[i] != 0 && (experts[i] || static_cast<uint64_t>(mlps[i]) == number("intermediate"));
  if (usual)
    metadata.u32(id + ".feed_forward_length", number("intermediate"));
  else
    add_numbers(metadata, id + ".feed_forward_length", mlps);
  metadata.u32(id + ".attention.head_count", number("heads"));
  if (!latent.is_null()) {
    add_latent(metadata, id, architecture);
  } else {
    if (!recurrent.is_null() && recurrent.at("kind") == "delta_rule")
      metadata.u32(id + ".attention.head_count_kv", number("kv_heads"));
    else
      add_numbers(metadata, id + ".attention.head_count_kv", of_blocks<int32_t>(architecture, "kv_heads"));
    add_head_sizes(metadata, id, architecture);
  }
  metadata.f32(
      id + (architecture.at("norm") == "rms" ? ".attention.layer_norm_rms_epsilon" : ".attention.layer_norm_epsilon"),
      architecture.at("norm_eps"));
  metadata.u32(id + ".vocab_size", number("vocab"));
  add_sliding_window(metadata, names, architecture);
  add_scalars(metadata, id, architecture);
  if (architecture.at("norm") == "layer") metadata.flag(id + ".use_parallel_residual", architecture.at("parallel"));
  if (architecture.contains("experts")) add_experts(metadata, names, architecture);
  if (!recurrent.is_null()) add_recurrent(metadata, id, architecture);
  if (!architecture.at("length_scale").is_null()) {
    metadata.f32(id + ".attention.temperature_scale", architecture.at("length_scale"));
    metadata.u32(id + ".attention.temperature_length", number("length_scale_positions"));
  }
  if (!architecture.at("rotary").is_null()) add_rotary(metadata, names, architecture);
}

RotaryFactors rotary_factors(const Json& architecture) {
  const Json& rotary = architecture.at("rotary");
  if (rotary.is_null()) return {};
  if (rotary.at("scaling") == "longrope")
    return {{kLongFactors, rotary.at("long_factors").get<std::vector<float>>()},
            {kShortFactors, rotary.at("short_factors").get<std::vector<float>>()}};
  if (rotary.at("scaling") == "proportional") {  // the other pairs do not turn
    const auto turning = rotary.at("turning").get<size_t>(), pairs = rotary.at("dims").get<size_t>() / 2;
    std::vector<float> factors(turning, rotary.at("factor").get<float>());
    factors.resize(pairs, 1e30f);
    return {{kRotaryFactors, factors}};
  }
  if (rotary.at("scaling") != "llama3") return {};
  const double theta = rotary.at("theta"), factor = rotary.at("factor"), dims = rotary.at("dims");
  const double low = rotary.at("low_freq_factor"), high = rotary.at("high_freq_factor");
  const double positions = rotary.at("original_positions");
  std::vector<float> factors;
  for (int64_t i = 0; i < static_cast<int64_t>(dims) / 2; ++i) {
    const double turns = positions / (2 * M_PI) * std::pow(theta, -2.0 * static_cast<double>(i) / dims);
    const double smooth = (turns - low) / (high - low);
    const double divisor = turns > high ? 1 : turns < low ? factor : 1 / ((1 - smooth) / factor + smooth);
    factors.push_back(static_cast<float>(divisor));
  }
  return {{kRotaryFactors, factors}};
}

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/metadata.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

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
  if (size == 0) return;
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
  unless_one("logit_scale", architecture.at("logit_divisor") == 1 ? "logit_scale" : "logit_divisor");
}

void add_experts(Metadata& metadata, const std::string& id, const Json& experts) {
  const auto number = [&](const char* key) { return experts.at(key).get<uint64_t>(); };
  const uint64_t intermediate = number("intermediate"), shared = number("shared_intermediate");
  metadata.u32(id + ".expert_count", number("count"));
  metadata.u32(id + ".expert_used_count", number("used"));
  metadata.u32(id + ".expert_feed_forward_length", intermediate);
  if (shared > 0) {
    metadata.u32(id + ".expert_shared_feed_forward_length", shared);
    if (shared % intermediate == 0) metadata.u32(id + ".expert_shared_count", shared / intermediate);
  }
  metadata.u32(id + ".leading_dense_block_count", number("dense_first_blocks"));
  metadata.u32(id + ".expert_gating_func", experts.at("scores") == "sigmoid" ? 2 : 1);
  metadata.flag(id + ".expert_weights_norm", experts.at("normalize"));
  metadata.f32(id + ".expert_weights_scale", experts.at("scale"));
  if (number("groups") < 2) return;
  metadata.u32(id + ".expert_group_count", number("groups"));
  metadata.u32(id + ".expert_group_used_count", number("top_groups"));
}

}  // namespace

void add_hyperparameters(Metadata& metadata, const Names& names, const Json& architecture) {
  const std::string& id = names.architecture();
  const auto number = [&](const char* key) { return architecture.at(key).get<uint64_t>(); };
  metadata.u32(id + ".block_count", number("blocks"));
  metadata.u32(id + ".context_length", number("positions"));
  metadata.u32(id + ".embedding_length", number("hidden"));
  metadata.u32(id + ".feed_forward_length", number("intermediate"));
  metadata.u32(id + ".attention.head_count", number("heads"));
  metadata.u32(id + ".attention.head_count_kv", number("kv_heads"));
  metadata.u32(id + ".attention.key_length", number("head_dim"));
  metadata.u32(id + ".attention.value_length", number("head_dim"));
  metadata.f32(
      id + (architecture.at("norm") == "rms" ? ".attention.layer_norm_rms_epsilon" : ".attention.layer_norm_epsilon"),
      architecture.at("norm_eps"));
  metadata.u32(id + ".vocab_size", number("vocab"));
  add_sliding_window(metadata, names, architecture);
  add_scalars(metadata, id, architecture);
  if (architecture.at("norm") == "layer") metadata.flag(id + ".use_parallel_residual", architecture.at("parallel"));
  if (architecture.contains("experts")) add_experts(metadata, id, architecture.at("experts"));
  const Json& rotary = architecture.at("rotary");
  if (rotary.is_null()) return;
  metadata.f32(id + ".rope.freq_base", rotary.at("theta"));
  metadata.u32(id + ".rope.dimension_count", rotary.at("dims").get<uint64_t>());
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
  // llama.cpp multiplies with YaRN's own temperature, 0.1 ln(factor) + 1, and has these defaults.
  const double temperature = 0.1 * std::log(std::max(rotary.at("factor").get<double>(), 1.0)) + 1;
  const auto unless = [&](double usual, const char* key, double value) {
    if (value != usual) metadata.f32(cat(id, ".rope.scaling.", key), value);
  };
  unless(32, "yarn_beta_fast", rotary.at("beta_fast"));
  unless(1, "yarn_beta_slow", rotary.at("beta_slow"));
  unless(1, "attn_factor", rotary.at("attention_factor").get<double>() / temperature);
}

RotaryFactors rotary_factors(const Json& architecture) {
  const Json& rotary = architecture.at("rotary");
  if (rotary.is_null()) return {};
  if (rotary.at("scaling") == "longrope")
    return {{kLongFactors, rotary.at("long_factors").get<std::vector<float>>()},
            {kShortFactors, rotary.at("short_factors").get<std::vector<float>>()}};
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

// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "host/base/error.h"
#include "host/model/resolve_parts.h"

namespace roundhouse {
namespace {

std::optional<double> number(const Value& parent, std::string_view key) {
  const auto value = parent.find(key);
  return value && !value->is_null() ? std::optional(value->number()) : std::nullopt;
}

std::optional<int64_t> read_window(const Value& value, const BlockPlace& place) {
  value.only({"size"}, kWhichBlocks);
  const Value size = value.at("size");
  if (size.is_null() || !in_block(value, place)) return std::nullopt;
  return size.positive();
}

// The projections of q, k and v: three linears, or one.
void read_projections(const Value& value, AttentionInfo& attention, const std::string& prefix, int64_t hidden) {
  const int64_t q_size = attention.heads * attention.head_dim, kv_size = attention.kv_heads * attention.head_dim;
  if (const auto fused = value.find("qkv_proj")) {
    attention.qkv = read_linear(value, "qkv_proj", prefix, q_size + 2 * kv_size, hidden);
    const Value layout = value.at("layout");
    if (layout.text() != "rows" && layout.text() != "groups") layout.fail("rows or groups");
    attention.layout = layout.text() == "rows" ? FusedLayout::kRows : FusedLayout::kGroups;
    return;
  }
  attention.q = read_linear(value, "q_proj", prefix, attention.output_gate ? 2 * q_size : q_size, hidden, "qkv");
  attention.k = read_linear(value, "k_proj", prefix, kv_size, hidden, "qkv");
  const auto v = value.find("v_proj");
  if (!v || !v->is_null()) attention.v = read_linear(value, "v_proj", prefix, kv_size, hidden, "qkv");
}

}  // namespace

AttentionInfo read_attention(const Value& root, const Value& value, const DecoderInfo& info, const BlockPlace& place) {
  value.only({"q_proj",       "k_proj", "v_proj",   "qkv_proj",           "layout",         "o_proj",
              "q_norm",       "k_norm", "v_norm",   "norms_after_rotary", "sliding_window", "rotary",
              "length_scale", "alibi",  "scale",    "scale_of",           "softcap",        "sinks",
              "output_gate",  "heads",  "kv_heads", "head_dim",           "input_scale"});
  const auto size = [&](const char* key, int64_t usual) {
    const auto own = value.find(key);
    return own && !own->is_null() ? own->positive() : usual;
  };
  const auto flag = [&](const char* key) {
    const auto found = value.find(key);
    return found && found->flag();
  };
  AttentionInfo attention;
  attention.heads = size("heads", info.heads);
  attention.kv_heads = size("kv_heads", info.kv_heads);
  attention.head_dim = size("head_dim", info.head_dim);
  if (attention.heads % attention.kv_heads != 0)
    value.at("kv_heads").fail(cat("a divisor of the ", attention.heads, " heads"));
  attention.output_gate = flag("output_gate");
  attention.norms_after_rotary = flag("norms_after_rotary");
  read_projections(value, attention, place.prefix, info.hidden);
  attention.o = read_linear(value, "o_proj", place.prefix, info.hidden, attention.heads * attention.head_dim);

  const Value norm = root.at("norm");
  const auto head_norm = [&](const char* key, int64_t heads) {
    return read_head_norm(norm, value, key, place.prefix, heads, attention.head_dim);
  };
  attention.q_norm = head_norm("q_norm", attention.heads);
  attention.k_norm = head_norm("k_norm", attention.kv_heads);
  attention.v_norm = head_norm("v_norm", attention.kv_heads);

  if (const auto window = value.find("sliding_window")) attention.sliding_window = read_window(*window, place);
  const auto rotated = value.find("rotary");
  if (rotated) rotated->only({}, kWhichBlocks);
  if (!rotated || in_block(*rotated, place))
    attention.rotary = attention.sliding_window && info.window_rotary ? info.window_rotary : info.rotary;

  if (const auto growth = value.find("length_scale")) {
    growth->only({"beta", "positions"});
    if (const auto beta = number(*growth, "beta")) attention.length_scale = {*beta, growth->at("positions").positive()};
  }
  if (const auto sinks = value.find("sinks")) attention.sinks = place.prefix + sinks->text();
  if (const auto alibi = value.find("alibi")) {
    alibi->only({"when", "unless", "scaled", "bfloat16"});
    const auto is = [&](const char* key) {
      const auto flag = alibi->find(key);
      return flag && flag->flag();
    };
    const double scale = is("scaled") ? 1 / std::sqrt(static_cast<double>(attention.head_dim)) : 1;
    if (present(*alibi)) attention.alibi = {scale, is("bfloat16")};
  }
  attention.softcap = number(value, "softcap");
  attention.input_scale = number(value, "input_scale").value_or(1);
  attention.scale = number(value, "scale");
  if (const auto of = number(value, "scale_of")) attention.scale = 1 / std::sqrt(*of);
  return attention;
}

}  // namespace roundhouse

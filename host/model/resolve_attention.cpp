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
  value.only({"size", "chunked"}, kWhichBlocks);
  const Value size = value.at("size");
  if (size.is_null() || !in_block(value, place)) return std::nullopt;
  return size.positive();
}

// Without q_rank the queries have no latent.
LatentInfo read_latent(const Value& norm, const Value& value, AttentionInfo& attention, const std::string& prefix,
                       int64_t hidden) {
  const Value sizes = value.at("latent"), q_rank = sizes.at("q_rank");
  sizes.only({"rank", "q_rank", "nope", "rope", "value"});
  LatentInfo latent;
  latent.rank = sizes.at("rank").positive();
  latent.nope = sizes.at("nope").positive();
  latent.rope = sizes.at("rope").positive();
  latent.value = sizes.at("value").positive();
  attention.head_dim = latent.nope + latent.rope;
  attention.kv_heads = attention.heads;

  const bool low_rank = !q_rank.is_null();
  const int64_t q_in = low_rank ? q_rank.positive() : hidden;
  const std::string siblings = low_rank ? "qkv_a" : "";
  if (low_rank) {
    latent.q_a = read_linear(value, "q_a_proj", prefix, q_in, hidden, siblings);
    latent.q_norm = read_norm(norm, value, "q_a_norm", prefix, q_in);
  }
  attention.q =
      read_linear(value, low_rank ? "q_b_proj" : "q_proj", prefix, attention.heads * attention.head_dim, q_in);
  latent.kv_a = read_linear(value, "kv_a_proj", prefix, latent.rank + latent.rope, hidden, siblings);
  value.at("kv_a_norm");
  latent.kv_norm = *read_norm(norm, value, "kv_a_norm", prefix, latent.rank);
  latent.kv_b = read_linear(value, "kv_b_proj", prefix, attention.heads * (latent.nope + latent.value), latent.rank);
  return latent;
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

// Of attention with an earlier block's keys and values.
void leave_own_keys(AttentionInfo& attention) {
  const auto leave = [&](auto& part) {
    if (part) attention.unused.push_back(part->name);
    part.reset();
  };
  leave(attention.k);
  leave(attention.v);
  leave(attention.k_norm);
  leave(attention.v_norm);
}

}  // namespace

AttentionInfo read_attention(const Value& root, const Value& value, const DecoderInfo& info, const BlockPlace& place) {
  value.only({"q_proj",       "k_proj",   "v_proj",    "qkv_proj",           "layout",         "o_proj",
              "q_norm",       "k_norm",   "v_norm",    "norms_after_rotary", "sliding_window", "rotary",
              "length_scale", "alibi",    "scale",     "scale_of",           "softcap",        "sinks",
              "output_gate",  "heads",    "kv_heads",  "head_dim",           "latent",         "q_a_proj",
              "q_a_norm",     "q_b_proj", "kv_a_proj", "kv_a_norm",          "kv_b_proj",      "input_scale",
              "shared_kv"});
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
  if (const auto shared = value.find("shared_kv")) {
    shared->only({}, kWhichBlocks);
    if (value.find("latent") || value.find("qkv_proj"))
      shared->fail("q_proj, k_proj and v_proj beside it, or nothing,");
    if (in_block(*shared, place)) attention.kv_from = 0;  // the resolver knows where
  }
  const Value norm = root.at("norm");
  if (value.find("latent"))
    attention.latent = read_latent(norm, value, attention, place.prefix, info.hidden);
  else
    read_projections(value, attention, place.prefix, info.hidden);
  const int64_t value_dim = attention.latent ? attention.latent->value : attention.head_dim;
  attention.o = read_linear(value, "o_proj", place.prefix, info.hidden, attention.heads * value_dim);

  const auto head_norm = [&](const char* key, int64_t heads) {
    return read_head_norm(norm, value, key, place, heads, attention.head_dim);
  };
  attention.q_norm = head_norm("q_norm", attention.heads);
  attention.k_norm = head_norm("k_norm", attention.kv_heads);
  attention.v_norm = head_norm("v_norm", attention.kv_heads);
  if (attention.kv_from) leave_own_keys(attention);

  if (const auto window = value.find("sliding_window")) {
    attention.sliding_window = read_window(*window, place);
    if (const auto chunked = window->find("chunked")) attention.chunked = chunked->flag();
  }
  const auto rotated = value.find("rotary");
  if (rotated) rotated->only({}, kWhichBlocks);
  if (!rotated || in_block(*rotated, place)) {
    const bool own = attention.sliding_window && info.window_rotary;
    attention.rotary = own ? info.window_rotary : info.rotary;
    const int64_t rotary_dim = attention.latent ? attention.latent->rope : attention.head_dim;
    if (attention.rotary && rotary_dim != info.head_dim)
      attention.rotary = read_rotary(root.at("positions").at(own ? "window_rotary" : "rotary"), root.at("sizes"),
                                     rotary_dim, info.positions);
  }

  if (const auto growth = value.find("length_scale")) {
    growth->only({"beta", "positions", "offset"}, kWhichBlocks);
    const auto offset = growth->find("offset");
    if (const auto beta = number(*growth, "beta"); beta && in_block(*growth, place))
      attention.length_scale = {*beta, growth->at("positions").positive(), offset ? offset->integer() : 0};
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
  if (attention.latent && attention.rotary && attention.rotary->scores_factor != 1)
    attention.scale = attention.rotary->scores_factor / std::sqrt(static_cast<double>(attention.head_dim));
  return attention;
}

}  // namespace roundhouse

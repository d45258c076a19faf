// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "host/base/error.h"
#include "host/model/resolve_parts.h"

namespace roundhouse {
namespace {

using Kind = RecurrentInfo::Kind;

ConvInfo read_conv(const Value& value, const std::string& prefix, int64_t channels) {
  value.only({"name", "kernel", "bias"});
  const auto bias = value.find("bias");
  return {prefix + value.at("name").text(), channels, value.at("kernel").positive(), bias && bias->flag()};
}

// The sizes of heads, of which `key_heads` share their keys. Without a head_dim all heads together are `inner`, or without
// that `expand` times the hidden size.
void read_heads(RecurrentInfo& part, const Value& value, const char* key_heads, const char* key_dim, int64_t hidden) {
  part.heads = value.at("heads").positive();
  part.key_heads = value.at(key_heads).positive();
  part.key_dim = value.at(key_dim).positive();
  const Value head_dim = value.at("head_dim");
  if (head_dim.is_null()) {
    const auto inner = value.find("inner");
    const int64_t all = inner && !inner->is_null() ? inner->positive() : value.at("expand").positive() * hidden;
    if (all % part.heads != 0) value.at("heads").fail(cat("a divisor of ", all));
    part.head_dim = all / part.heads;
  } else {
    part.head_dim = head_dim.positive();
  }
  if (part.heads % part.key_heads != 0) value.at(key_heads).fail(cat("a divisor of the ", part.heads, " heads"));
}

// A number, or infinity as JSON has it.
std::optional<double> read_limit(const Value& value) {
  if (!value.is_map()) return value.number();
  if (const Value word = value.at("__float__"); word.text() != "Infinity") word.fail("Infinity");
  return std::nullopt;
}

}  // namespace

RecurrentInfo read_short_conv(const Value& value, const DecoderInfo& info, const BlockPlace& place) {
  value.only({"in_proj", "out_proj", "conv"});
  RecurrentInfo part;
  part.in = {read_linear(value, "in_proj", place.prefix, 3 * info.hidden, info.hidden)};
  part.out = read_linear(value, "out_proj", place.prefix, info.hidden, info.hidden);
  part.conv = read_conv(value.at("conv"), place.prefix, info.hidden);
  return part;
}

RecurrentInfo read_delta_rule(const Value& root, const Value& value, const DecoderInfo& info, const BlockPlace& place) {
  value.only({"heads", "key_heads", "key_dim", "head_dim", "activation", "conv", "a_log", "dt_bias", "norm",
              "in_proj_qkvz", "in_proj_ba", "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"});
  RecurrentInfo part;
  part.kind = Kind::kDeltaRule;
  read_heads(part, value, "key_heads", "key_dim", info.hidden);
  const int64_t inner = part.heads * part.head_dim, channels = 2 * part.key_heads * part.key_dim + inner;
  const auto add = [&](const char* role, int64_t rows, bool decides) {
    part.in.push_back(read_linear(value, role, place.prefix, rows, info.hidden, decides ? "" : "in_proj"));
    part.in.back().decides = decides;
  };
  if (value.find("in_proj_qkvz")) {
    add("in_proj_qkvz", channels + inner, false);
    add("in_proj_ba", 2 * part.heads, true);
  } else {
    add("in_proj_qkv", channels, false);
    add("in_proj_z", inner, false);
    add("in_proj_b", part.heads, true);
    add("in_proj_a", part.heads, true);
  }
  part.out = read_linear(value, "out_proj", place.prefix, info.hidden, inner);
  part.conv = read_conv(value.at("conv"), place.prefix, channels);
  part.activation = read_activation(value.at("activation"));
  part.a_log = place.prefix + value.at("a_log").text();
  part.dt_bias = place.prefix + value.at("dt_bias").text();
  part.norm = read_norm(root.at("norm"), value, "norm", place.prefix, part.head_dim);
  if (!part.norm || part.norm->float32)
    value.at("norm").fail("a norm whose weight is stored as it is, and multiplies what is rounded,");
  return part;
}

RecurrentInfo read_mamba2(const Value& root, const Value& value, const DecoderInfo& info, const BlockPlace& place) {
  value.only({"heads", "groups", "state", "head_dim", "inner", "expand", "activation", "conv", "a_log", "dt_bias", "d",
              "norm", "norm_before_gate", "dt_limits", "input_scale", "scales", "in_proj", "out_proj"});
  RecurrentInfo part;
  part.kind = Kind::kMamba2;
  read_heads(part, value, "groups", "state", info.hidden);
  const int64_t inner = part.heads * part.head_dim, channels = inner + 2 * part.key_heads * part.key_dim;
  part.in = {read_linear(value, "in_proj", place.prefix, inner + channels + part.heads, info.hidden)};
  part.out = read_linear(value, "out_proj", place.prefix, info.hidden, inner);
  part.conv = read_conv(value.at("conv"), place.prefix, channels);
  part.activation = read_activation(value.at("activation"));
  part.a_log = place.prefix + value.at("a_log").text();
  part.dt_bias = place.prefix + value.at("dt_bias").text();
  part.d = place.prefix + value.at("d").text();
  part.norm = read_norm(root.at("norm"), value, "norm", place.prefix, inner / part.key_heads);
  if (part.norm) part.norm->heads = part.key_heads;
  if (const auto before = value.find("norm_before_gate")) part.norm_before_gate = before->flag();
  if (const auto limits = value.find("dt_limits"); limits && !limits->is_null()) {
    const std::vector<Value> all = limits->items();
    if (all.empty() || all.size() > 2) limits->fail("a list of the least dt, and of the largest if there is one,");
    part.dt_min = all[0].number();
    if (all.size() == 2) part.dt_max = read_limit(all[1]);
  }
  if (const auto scale = value.find("input_scale")) part.input_scale = scale->number();
  if (const auto scales = value.find("scales"); scales && !scales->is_null()) {
    for (const Value& scale : scales->items()) part.scales.push_back(scale.number());
    if (part.scales.size() != 5) scales->fail("a list of five numbers, of z, x, B, C and dt,");
  }
  return part;
}

}  // namespace roundhouse

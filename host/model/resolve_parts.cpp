// SPDX-License-Identifier: Apache-2.0
#include "host/model/resolve_parts.h"

#include <algorithm>

#include "host/base/error.h"

namespace roundhouse {

bool present(const Value& value) {
  const auto flags = [&](const char* key) {
    const auto flag = value.find(key);
    return !flag ? std::vector<Value>() : flag->is_list() ? flag->items() : std::vector{*flag};
  };
  const std::vector<Value> when = flags("when"), unless = flags("unless");
  return std::all_of(when.begin(), when.end(), [](const Value& flag) { return flag.flag(); }) &&
         std::none_of(unless.begin(), unless.end(), [](const Value& flag) { return flag.flag(); });
}

bool in_block(const Value& value, const BlockPlace& place) {
  if (!present(value)) return false;
  if (const auto labels = value.find("labels"); labels && !labels->is_null()) {
    const std::vector<Value> all = labels->items();
    if (static_cast<int64_t>(all.size()) < place.count)
      labels->fail(cat("one label for each of ", place.count, " blocks"));
    const Value own = all[static_cast<size_t>(place.index)], label = value.at("label");
    return label.is_text() ? own.text() == label.text() : own.integer() == label.integer();
  }
  if (const auto first = value.find("first_block"); first && place.index < first->integer()) return false;
  const auto period = value.find("all_but_every");
  return !period || period->is_null() || (place.index + 1) % period->positive() != 0;
}

LinearInfo read_linear(const Value& parent, std::string_view role, const std::string& prefix, int64_t out, int64_t in,
                       const std::string& siblings) {
  const Value value = parent.at(role);
  if (!value.is_text()) value.only({"name", "bias"});
  return read_linear_of(value, role, prefix, out, in, siblings);
}

LinearInfo read_linear_of(const Value& value, std::string_view role, const std::string& prefix, int64_t out, int64_t in,
                          const std::string& siblings) {
  LinearInfo info{"", std::string(role), siblings, out, in, false};
  if (value.is_text()) {
    info.name = prefix + value.text();
  } else {
    info.name = prefix + value.at("name").text();
    if (const auto bias = value.find("bias")) info.has_bias = bias->flag();
  }
  return info;
}

Activation read_activation(const Value& value) {
  const std::string name = value.text();
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") return Activation::kGeluTanh;
  if (name == "relu") return Activation::kRelu;
  if (name == "relu2") return Activation::kSquaredRelu;
  if (name == "xielu") return Activation::kXielu;
  value.fail("one of silu, swish, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, relu2, xielu");
}

namespace {

NormInfo norm_of(const Value& defaults, const Value& value, const std::string& prefix, int64_t size) {
  NormInfo norm;
  norm.name = prefix + (value.is_text() ? value : value.at("name")).text();
  norm.size = size;
  const auto own_eps = value.is_text() ? std::nullopt : value.find("eps");
  norm.eps = (own_eps ? *own_eps : defaults.at("eps")).number();
  const Value kind = defaults.at("kind");
  if (kind.text() == "rms") {
    defaults.only({"kind", "eps", "weight", "plus_one"});
  } else if (kind.text() == "layer") {
    defaults.only({"kind", "eps", "weight", "bias", "plus_one"});
    norm.kind = NormKind::kLayer;
  } else {
    kind.fail("rms or layer");
  }
  const auto flag = [&](const char* key, bool& flag) {
    if (const auto found = defaults.find(key)) flag = found->flag();
    if (value.is_text()) return;
    if (const auto found = value.find(key)) flag = found->flag();
  };
  flag("weight", norm.has_weight);
  flag("plus_one", norm.plus_one);
  if (norm.kind == NormKind::kLayer) flag("bias", norm.has_bias);
  return norm;
}

}  // namespace

std::optional<NormInfo> read_norm(const Value& defaults, const Value& parent, std::string_view key,
                                  const std::string& prefix, int64_t size) {
  const auto value = parent.find(key);
  if (!value) return std::nullopt;
  if (!value->is_text()) {
    value->only({"name", "when", "unless", "eps", "weight", "bias", "plus_one"});
    if (!present(*value)) return std::nullopt;
  }
  return norm_of(defaults, *value, prefix, size);
}

std::optional<NormInfo> read_head_norm(const Value& defaults, const Value& parent, std::string_view key,
                                       const std::string& prefix, int64_t heads, int64_t head_dim) {
  const auto value = parent.find(key);
  if (!value) return std::nullopt;
  value->only({"name", "over", "when", "unless", "eps", "weight", "bias", "plus_one"});
  if (!present(*value)) return std::nullopt;
  const Value over = value->at("over");
  if (over.text() == "all_heads") return norm_of(defaults, *value, prefix, heads * head_dim);
  NormInfo norm = norm_of(defaults, *value, prefix, head_dim);
  if (over.text() == "each_head")
    norm.heads = heads;
  else if (over.text() != "head")
    over.fail("head, each_head or all_heads");
  return norm;
}

}  // namespace roundhouse

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

bool lists(const Value& list, int64_t index) {
  const std::vector<Value> items = list.items();
  return std::any_of(items.begin(), items.end(), [&](const Value& item) { return item.integer() == index; });
}

namespace {

// `labels` is a list, or a text whose letters are the labels.
bool is_labelled(const Value& labels, const Value& label, const BlockPlace& place) {
  const size_t count = labels.is_text() ? labels.text().size() : labels.items().size();
  if (static_cast<int64_t>(count) < place.count) labels.fail(cat("one label for each of ", place.count, " blocks"));
  const auto index = static_cast<size_t>(place.index);
  const auto is = [&](const Value& one) {
    if (labels.is_text()) return one.text() == labels.text().substr(index, 1);
    const Value own = labels.items()[index];
    if (one.is_flag()) return (own.is_flag() ? own.flag() : own.integer() != 0) == one.flag();  // as in Python
    return one.is_text() ? own.text() == one.text() : own.integer() == one.integer();
  };
  const std::vector<Value> all = label.is_list() ? label.items() : std::vector{label};
  return std::any_of(all.begin(), all.end(), is);
}

}  // namespace

bool in_block(const Value& value, const BlockPlace& place) {
  if (!present(value)) return false;
  const auto said = [&](const char* key) {
    const auto found = value.find(key);
    return found && !found->is_null() ? found : std::nullopt;
  };
  if (const auto labels = said("labels"); labels && !(labels->is_list() && labels->items().empty()))
    return is_labelled(*labels, value.at("label"), place);
  const auto last_of = [&](const Value& period) { return (place.index + 1) % period.positive() == 0; };
  if (const auto first = said("first_block"); first && place.index < first->integer()) return false;
  if (const auto before = said("before_block"); before && place.index >= before->integer()) return false;
  if (const auto last = said("last"); last && place.index < place.count - last->integer()) return false;
  if (const auto period = said("all_but_every"); period && last_of(*period)) return false;
  if (const auto period = said("every"); period && !last_of(*period)) return false;
  if (const auto only = said("only"); only && !lists(*only, place.index)) return false;
  const auto except = said("except");
  return !except || !lists(*except, place.index);
}

LinearInfo linear_of(const Value& value, std::string_view role, const std::string& prefix, int64_t out, int64_t in) {
  LinearInfo info{"", std::string(role), "", out, in, false};
  if (value.is_text()) {
    info.name = prefix + value.text();
  } else {
    info.name = prefix + value.at("name").text();
    if (const auto bias = value.find("bias")) info.has_bias = bias->flag();
  }
  return info;
}

LinearInfo read_linear(const Value& parent, std::string_view role, const std::string& prefix, int64_t out, int64_t in,
                       const std::string& siblings) {
  const Value value = parent.at(role);
  if (!value.is_text()) value.only({"name", "bias", "scale", "transposed"});
  LinearInfo info = linear_of(value, role, prefix, out, in);
  if (const auto scale = value.is_text() ? std::nullopt : value.find("scale")) info.output_scale = scale->number();
  if (const auto stored = value.is_text() ? std::nullopt : value.find("transposed")) info.transposed = stored->flag();
  info.siblings = siblings;
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
    defaults.only({"kind", "eps", "weight", "plus_one", "float32"});
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
  if (norm.kind == NormKind::kLayer) {
    flag("bias", norm.has_bias);
  } else {
    norm.float32 = norm.plus_one;
    flag("float32", norm.float32);
  }
  return norm;
}

}  // namespace

std::optional<NormInfo> read_norm(const Value& defaults, const Value& parent, std::string_view key,
                                  const std::string& prefix, int64_t size) {
  const auto value = parent.find(key);
  if (!value) return std::nullopt;
  if (!value->is_text()) {
    value->only({"name", "when", "unless", "eps", "weight", "bias", "plus_one", "float32"});
    if (!present(*value)) return std::nullopt;
  }
  return norm_of(defaults, *value, prefix, size);
}

std::optional<NormInfo> read_head_norm(const Value& defaults, const Value& parent, std::string_view key,
                                       const BlockPlace& place, int64_t heads, int64_t head_dim) {
  const auto value = parent.find(key);
  if (!value) return std::nullopt;
  value->only({"name", "over", "eps", "weight", "bias", "plus_one", "float32"}, kWhichBlocks);
  if (!in_block(*value, place)) return std::nullopt;
  const Value over = value->at("over");
  if (over.text() == "all_heads") return norm_of(defaults, *value, place.prefix, heads * head_dim);
  NormInfo norm = norm_of(defaults, *value, place.prefix, head_dim);
  if (over.text() == "each_head")
    norm.heads = heads;
  else if (over.text() != "head")
    over.fail("head, each_head or all_heads");
  return norm;
}

}  // namespace roundhouse

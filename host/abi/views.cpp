// SPDX-License-Identifier: Apache-2.0
#include "host/abi/views.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace roundhouse {

SchemeView::SchemeView(const TensorScheme& scheme) : scheme_(scheme), options_(scheme.options.dump()), view_{} {
  view_.struct_size = sizeof view_;
  view_.options_json = options_.c_str();
  for (const SchemeField& field : scheme_fields())
    if (field.show) field.show(scheme_, view_);
}

EncodingCopy::EncodingCopy(const rh_encoding& encoding)
    : id_(encoding.id), text_(encoding.parameters_json), parameters_(nlohmann::json::parse(text_)) {
  for (uint32_t i = 0; i < encoding.tensor_count; ++i) {
    names_.emplace_back(encoding.tensors[i]->name);
    rh_tensor_spec spec{};  // an older plugin's struct may be shorter
    std::memcpy(&spec, encoding.tensors[i], std::min<size_t>(encoding.tensors[i]->struct_size, sizeof spec));
    specs_.push_back(spec);
  }
  for (size_t i = 0; i < specs_.size(); ++i) {
    specs_[i].struct_size = sizeof specs_[i];
    specs_[i].name = names_[i].c_str();
    pointers_.push_back(&specs_[i]);
  }
  table_ = {sizeof table_, encoding.tensor_count, id_.c_str(), text_.c_str(), pointers_.data()};
}

bool same_encoding(const rh_encoding& a, const rh_encoding& b) {
  const auto same = [](const rh_tensor_spec& s, const rh_tensor_spec& t) {
    return std::strcmp(s.name, t.name) == 0 && from_rh(s.dtype) == from_rh(t.dtype) && s.ndim == t.ndim &&
           std::equal(s.shape, s.shape + s.ndim, t.shape);
  };
  return std::strcmp(a.id, b.id) == 0 &&
         nlohmann::json::parse(a.parameters_json) == nlohmann::json::parse(b.parameters_json) &&
         a.tensor_count == b.tensor_count &&
         std::equal(a.tensors, a.tensors + a.tensor_count, b.tensors,
                    [&](const auto* s, const auto* t) { return same(*s, *t); });
}

rh_format_layer view(const FormatLayer& layer, rh_stack& stack) {
  rh_format_layer out{};
  out.struct_size = sizeof out;
  out.dtype = to_rh(layer.dtype);
  out.name = layer.name.c_str();
  out.role = layer.role.c_str();
  out.rows = layer.rows;
  out.cols = layer.cols;
  out.encoding = &layer.encoding->get();
  out.activation_encoding = layer.activation_encoding ? &layer.activation_encoding->get() : nullptr;
  if (layer.stack) {
    stack = layer.stack->view();
    out.stack = &stack;
  }
  return out;
}

PlanView::PlanView(const nlohmann::json& options, const nlohmann::json& architecture)
    : options_(options.dump()), architecture_(architecture.dump()) {}

void PlanView::add(const std::string& name, std::vector<int64_t> shape, DType dtype, bool extra,
                   std::unique_ptr<const FormatLayer> layer, std::optional<StackedPart> part) {
  Entry& entry = *entries_.emplace_back(std::make_unique<Entry>());
  entry.name = name;
  entry.shape = std::move(shape);
  entry.layer = std::move(layer);
  if (entry.layer) entry.layer_view = roundhouse::view(*entry.layer, entry.stack_view);
  entry.view = {};
  entry.view.struct_size = sizeof entry.view;
  entry.view.ndim = static_cast<int32_t>(entry.shape.size());
  entry.view.name = entry.name.c_str();
  entry.view.dtype = to_rh(dtype);
  entry.view.extra = extra;
  entry.view.shape = entry.shape.data();
  entry.view.layer = entry.layer ? &entry.layer_view : nullptr;
  entry.part = std::move(part);
  if (entry.part) {
    entry.part_view = entry.part->view();
    entry.view.part = &entry.part_view;
  }
  pointers_.push_back(&entry.view);
}

const rh_plan* PlanView::get() const {
  table_ = {sizeof table_, 0, pointers_.size(), pointers_.data(), options_.c_str(), architecture_.c_str()};
  return &table_;
}

}  // namespace roundhouse

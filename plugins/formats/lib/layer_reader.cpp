// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/layer_reader.h"

#include <algorithm>
#include <cstring>
#include <roundhouse/encoding/decode.hpp>
#include <set>

#include "plugins/formats/lib/encoded_layer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr std::string_view kParts[] = {"weight",
                                       "weight_packed",
                                       "weight_scale",
                                       "weight_scale_inv",
                                       "weight_scale_2",
                                       "weight_global_scale",
                                       "weight_zero_point",
                                       "weight_shape",
                                       "weight_g_idx",
                                       "pre_quant_scale",
                                       "activation_scale",
                                       "input_scale",
                                       "input_scale_ub",
                                       "input_global_scale",
                                       "input_zero_point",
                                       "qweight",
                                       "qzeros",
                                       "scales",
                                       "g_idx"};

// Each of them makes a layer a quantized one.
constexpr std::string_view kQuantized[] = {"weight_scale", "weight_scale_inv", "weight_packed", "qweight", "qzeros"};

// Of a quantized cache of keys and values.
constexpr std::string_view kCacheScales[] = {"k_scale", "v_scale", "q_scale", "prob_scale", "kv_scale", "output_scale"};

// What follows the name of a stack of experts in those of its tensors, and the parts of an expert's layer in them.
constexpr std::pair<std::string_view, const char*> kStackParts[] = {{"", "weight"},
                                                                    {"_blocks", "weight_packed"},
                                                                    {"_scale_inv", "weight_scale_inv"},
                                                                    {"_scale", "weight_scale"},
                                                                    {"_scales", "weight_scale"},
                                                                    {"_activation_scale", "activation_scale"},
                                                                    {"_input_scale", "input_scale"}};

// The stack whose quantized weights these are, or "".
std::string stack_of(const TensorReader& tensors, const TensorReader::Entry& entry) {
  constexpr std::string_view kBlocks = "_blocks";
  const std::string& name = entry.name;
  const rh_tensor& view = *entry.view;
  if (view.ndim == 4 && rh::same_type(view.dtype, rh::kU8) && name.ends_with(kBlocks))
    return name.substr(0, name.size() - kBlocks.size());
  const bool scaled = tensors.find(name + "_scale_inv") || tensors.find(name + "_scale");
  return view.ndim == 3 && is_fp8(view.dtype) && scaled ? name : "";
}

// The part of one expert, of `count`, in a tensor whose first axis is theirs, or in one number for all. It has two axes
// at most: what a row has is one.
std::unique_ptr<rh::View> part_of(const rh_tensor& all, int64_t expert, int64_t count, const std::string& name) {
  const bool shared = rh::elements(all) == 1;
  rh::require(shared || (all.ndim > 0 && all.shape[0] == count),
              cat(name, ": its first axis is not that of ", count, " experts"));
  std::vector<int64_t> shape;
  for (int axis = 1; axis < std::min(all.ndim, 3); ++axis) shape.push_back(all.shape[axis]);
  for (int axis = 3; axis < all.ndim; ++axis) shape.back() *= all.shape[axis];
  if (shape.empty()) shape.push_back(1);
  auto* const data = static_cast<uint8_t*>(all.data) + (shared ? 0 : rh::bytes(all) / count * expert);
  return std::make_unique<rh::View>(data, all.dtype, std::move(shape));
}

// The layer's name in that of a tensor that may be one of its parts, else "".
std::string layer_of(const std::string& tensor) {
  const size_t dot = tensor.rfind('.');
  if (dot == std::string::npos) return "";
  const std::string_view part = std::string_view(tensor).substr(dot + 1);
  return std::find(std::begin(kParts), std::end(kParts), part) == std::end(kParts) ? "" : tensor.substr(0, dot);
}

}  // namespace

StoredLayer::StoredLayer(std::string name, int64_t rows, int64_t cols, rh_data_type dtype)
    : name_(std::move(name)), weight_name_(name_ + ".weight"), shape_{rows, cols}, dtype_(dtype) {}

void StoredLayer::set_activation(StoredActivation activation) {
  if (activation.range && rh::elements(*activation.range) != 1)
    damaged(cat("an input's ", activation.encoding.specs()[0].name, " is one number"));
  activation_ = std::move(activation);
}

void StoredLayer::damaged(const std::string& what) const { throw rh::Error(RH_DATA_LOSS, cat(name_, ": ", what)); }

void StoredLayer::describe(rh_item& out) const {
  out.kind = RH_ITEM_LAYER;
  out.name = weight_name_.c_str();
  out.dtype = dtype_;
  out.ndim = 2;
  out.shape = shape_;
  out.encoding = encoding_.get();
  out.activation_encoding = activation_.encoding.get();
}

void StoredLayer::read(rh_tensor& output) const {
  const rh::Specs& specs = encoding_.specs();
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<std::unique_ptr<rh::View>> views;
  std::vector<rh_tensor*> tensors;
  for (uint32_t i = 0; i < specs.count(); ++i) {
    const rh_tensor_spec& spec = specs[i];
    auto view = std::make_unique<rh::View>(nullptr, spec.dtype, std::vector(spec.shape, spec.shape + spec.ndim));
    bytes.emplace_back(rh::bytes(*view->get()));
    tensors.push_back(const_cast<rh_tensor*>(view->get()));
    tensors.back()->data = bytes.back().data();
    views.push_back(std::move(view));
  }
  read_encoded(tensors.data());
  rh::decode(*encoding_.get(), tensors.data(), output);
}

void StoredLayer::read_activation(rh_tensor* const* tensors) const {
  if (!activation_.range) return;
  const float range = rh_load(activation_.range, 0);
  copy_bytes(&range, sizeof range, *tensors[0], name_);
}

void copy_bytes(const void* from, size_t size, const rh_tensor& to, const std::string& name) {
  rh::require(rh::bytes(to) == size, name + ": the output has another shape");
  std::memcpy(to.data, from, size);
}

const rh_tensor* find(const LayerReader::Tensors& tensors, std::string_view name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? nullptr : found->second;
}

bool is_cache_scale(const std::string& tensor) {
  const size_t dot = tensor.rfind('.');
  return dot != std::string::npos &&
         std::count(std::begin(kCacheScales), std::end(kCacheScales), std::string_view(tensor).substr(dot + 1)) > 0;
}

std::map<std::string, LayerReader::Tensors> stored_modules(const TensorReader& tensors) {
  std::map<std::string, LayerReader::Tensors> modules;
  for (const auto& entry : tensors.entries()) {
    const std::string module = layer_of(entry.name);
    if (!module.empty()) modules[module][entry.name.substr(module.size() + 1)] = entry.view;
  }
  return modules;
}

bool is_packed(const LayerReader::Tensors& tensors) {
  return std::any_of(std::begin(kQuantized), std::end(kQuantized), [&](const auto& p) { return tensors.contains(p); });
}

LayerReader::LayerReader(const std::string& folder, const Json& quantization, const MakeLayer& make_layer)
    : tensors_(folder), facts_(recorded_facts(quantization).dump()) {
  const auto cache = quantization.find("kv_cache_scheme");
  const bool has_cache = cache != quantization.end() && !cache->is_null();
  int64_t cache_scales = 0;
  std::map<std::string, Tensors> parts = stored_modules(tensors_);
  std::erase_if(parts, [](const auto& layer) { return !is_packed(layer.second); });
  std::set<std::string> of_stacks;
  for (const auto& entry : tensors_.entries())
    if (const std::string stack = stack_of(tensors_, entry); !stack.empty())
      for (const auto& [suffix, part] : kStackParts) of_stacks.insert(stack + std::string(suffix));
  for (const auto& entry : tensors_.entries()) {
    if (const std::string stack = stack_of(tensors_, entry); !stack.empty()) {
      try {
        add_stack(stack, entry.view->shape[0], make_layer);
      } catch (const rh::Error& e) {
        throw rh::Error(e.code(), cat(folder, ": ", e.what()));
      }
      continue;
    }
    if (of_stacks.contains(entry.name)) continue;
    if (has_cache && is_cache_scale(entry.name)) {
      ++cache_scales;
      continue;
    }
    const auto layer = parts.find(layer_of(entry.name));
    if (layer == parts.end()) {
      items_.push_back({&entry, nullptr, nullptr});
    } else if (!layer->second.empty()) {  // its first tensor
      try {
        items_.push_back({nullptr, make_layer(layer->first, layer->second), nullptr});
      } catch (const rh::Error& e) {
        throw rh::Error(e.code(), cat(folder, ": ", e.what()));
      }
      layer->second.clear();
    }
  }
  if (cache_scales > 0)
    rh::log(RH_LOG_INFO,
            cat(folder, ": ", cache_scales,
                " scales of a quantized cache of keys and values are left out: they say nothing of weights"));
}

void LayerReader::add_stack(const std::string& stack, int64_t count, const MakeLayer& make_layer) {
  rh::require(count > 0, stack + ": it has no experts");
  const size_t last = stack.rfind('.') + 1;  // 0: there is none
  for (int64_t i = 0; i < count; ++i) {
    auto expert = std::make_unique<Expert>();
    expert->stack_name = stack;
    expert->stack = {sizeof(rh_stack), 0, expert->stack_name.c_str(), i, count};
    Tensors parts;
    for (const auto& [suffix, part] : kStackParts)
      if (const std::string name = stack + std::string(suffix); const rh_tensor* found = tensors_.find(name)) {
        expert->parts.push_back(part_of(*found, i, count, name));
        parts[part] = expert->parts.back()->get();
      }
    items_.push_back(
        {nullptr, make_layer(cat(stack.substr(0, last), i, ".", stack.substr(last)), parts), &expert->stack});
    experts_.push_back(std::move(expert));
  }
}

const LayerReader::Item& LayerReader::at(uint64_t index) const {
  if (index >= items_.size()) throw rh::Error(RH_OUT_OF_RANGE, "no such tensor");
  return items_[index];
}

const StoredLayer& LayerReader::layer_at(uint64_t index) const {
  const Item& item = at(index);
  if (!item.layer) throw rh::Error(RH_INVALID_ARGUMENT, item.tensor->name + " is not quantized");
  return *item.layer;
}

void LayerReader::item(uint64_t index, rh_item& out) {
  const Item& item = at(index);
  if (item.tensor) return describe_tensor(*item.tensor, out);
  item.layer->describe(out);
  out.stack = item.stack;
}

void LayerReader::read(uint64_t index, rh_tensor& output) {
  const Item& item = at(index);
  if (item.tensor) return copy_tensor(*item.tensor, output);
  rh::require(output.ndim == 2 && output.shape[0] == item.layer->rows() && output.shape[1] == item.layer->cols(),
              item.layer->name() + ": the output has another shape");
  item.layer->read(output);
}

void LayerReader::read_encoded(uint64_t index, rh_tensor* const* tensors) { layer_at(index).read_encoded(tensors); }

void LayerReader::read_activation(uint64_t index, rh_tensor* const* tensors) {
  layer_at(index).read_activation(tensors);
}

}  // namespace roundhouse::formats

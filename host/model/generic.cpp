// SPDX-License-Identifier: Apache-2.0
#include "host/model/generic.h"

#include <fnmatch.h>

#include <algorithm>
#include <unordered_map>

#include "host/base/error.h"
#include "host/base/name_numbers.h"

namespace roundhouse {
namespace {

constexpr std::string_view kWeight = ".weight";

std::string parent_of(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

bool matches(const std::string& pattern, const std::string& text) {
  return fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

std::vector<std::string> texts(const Value& list) {
  std::vector<std::string> all;
  for (const Value& item : list.items()) all.push_back(item.text());
  return all;
}

Value weights_of(const Descriptor& descriptor) {
  const Value root(descriptor);
  root.only({"version", "family", "model_types", "weights"});
  const Value weights = root.at("weights");
  weights.only(
      {"hidden", "head", "tied", "smallest", "leave", "stacks", "siblings", "multimodal", "modules", "imatrix"});
  return weights;
}

class Reader {
 public:
  Reader(const Descriptor& descriptor, TensorSource& source) : weights_(weights_of(descriptor)), source_(source) {
    for (const auto& [why, parts] : weights_.at("leave").members()) leave_.emplace_back(why, texts(parts));
    for (const Value& group : weights_.at("siblings").items()) siblings_.push_back(texts(group));
    smallest_ = weights_.at("smallest").positive();
  }

  GenericModel run() {
    find_head();
    for (const std::string& name : source_.names()) add(name);
    find_blocks();
    count_stacks();
    if (!weights_.at("multimodal").is_null())
      for (const auto& [stored, module] : weights_.at("modules").members())
        model_.modules.emplace(stored, module.text());
    for (const auto& [layer, name] : weights_.at("imatrix").members())
      model_.imatrix_names.emplace(cat(model_.block_prefix, ".{}.", layer), "blk.{}." + name.text());
    return std::move(model_);
  }

 private:
  void find_head() {
    const std::vector<std::string> patterns = texts(weights_.at("head"));
    model_.head = {patterns.at(0), "lm_head", "", 0, 0, false};
    const bool tied = weights_.at("tied").flag();
    for (const std::string& pattern : patterns)
      for (const std::string& name : source_.names()) {
        if (!name.ends_with(kWeight)) continue;
        const std::string module = name.substr(0, name.size() - kWeight.size());
        if (!matches(pattern, module) || source_.info(name).shape.size() != 2) continue;
        model_.head = linear(module, source_.info(name));
        model_.head.role = "lm_head";
        model_.head_is_stored = true;
        model_.head_is_layer = !tied;
        return;
      }
  }

  LinearInfo linear(const std::string& module, const TensorInfo& info) {
    LinearInfo layer{module, last_part(module), "", info.shape[0], info.shape[1], source_.contains(module + ".bias")};
    for (const auto& group : siblings_)
      if (std::find(group.begin(), group.end(), layer.role) != group.end())
        layer.siblings = cat(parent_of(module), ".", group[0]);
    return layer;
  }

  // Why a weight is no layer, or "".
  std::string reason(const std::string& module, const TensorInfo& info) const {
    for (const auto& [why, patterns] : leave_)
      for (size_t begin = 0; begin < module.size();) {
        const size_t end = std::min(module.find('.', begin), module.size());
        const std::string part = module.substr(begin, end - begin);
        if (std::any_of(patterns.begin(), patterns.end(), [&](const auto& p) { return matches(p, part); })) return why;
        begin = end + 1;
      }
    if (*std::min_element(info.shape.begin(), info.shape.end()) < smallest_)
      return cat("fewer than ", smallest_, " rows or columns");
    return "";
  }

  void add(const std::string& name) {
    tensors_.push_back(name);
    const TensorInfo info = source_.info(name);
    if (info.shape.size() < 2) return;
    if (info.dtype == DType::kF8E4M3 || info.dtype == DType::kF8E5M2)
      throw Error(
          cat(name, " is ", safetensors_name(info.dtype), ", and no loaded format finds its scale in the checkpoint"));
    if (!is_floating(info.dtype)) return;
    const bool is_weight = name.ends_with(kWeight);
    const std::string module = is_weight ? name.substr(0, name.size() - kWeight.size()) : name;
    if (model_.head_is_layer && module == model_.head.name) return;
    std::string why = reason(module, info);
    if (why.empty() && !is_weight) why = "no linear layer by its name";
    if (why.empty() && info.shape.size() > 2) why = "no matrix";
    if (why.empty())
      layers_.push_back(linear(module, info));
    else
      model_.left.emplace_back(module, why);
  }

  void find_blocks() {
    std::map<std::string, int64_t> layers;  // by prefix
    for (const LinearInfo& layer : layers_)
      if (const std::vector<NameNumber> numbers = numbers_in(layer.name); !numbers.empty())
        ++layers[layer.name.substr(0, numbers[0].begin - 1)];
    const auto most = std::max_element(layers.begin(), layers.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most != layers.end()) model_.block_prefix = most->first;
    for (LinearInfo& layer : layers_) block_of(layer.name).linears.push_back(std::move(layer));
    for (const std::string& tensor : tensors_) block_of(tensor).tensors.push_back(tensor);
  }

  GenericModel::Block& block_of(const std::string& name) {
    const std::vector<NameNumber> numbers = numbers_in(name);
    if (numbers.empty() || model_.block_prefix.empty() || numbers[0].value >= kMostBlocks ||
        name.compare(0, numbers[0].begin - 1, model_.block_prefix) != 0)
      return model_.outside;
    const auto index = static_cast<size_t>(numbers[0].value);
    if (index >= model_.blocks.size()) model_.blocks.resize(index + 1);
    return model_.blocks[index];
  }

  // Equal layers of a block whose names differ in a number alone, which counts them all from 0.
  void count_stacks() {
    std::map<std::string, std::map<int64_t, LinearInfo*>> stacks;
    for (GenericModel::Block& block : model_.blocks)
      for (LinearInfo& layer : block.linears)
        if (const std::vector<NameNumber> numbers = numbers_in(layer.name); numbers.size() > 1) {
          const auto& number = numbers.back();
          stacks[layer.name.substr(0, number.begin - 1) + layer.name.substr(number.end)][number.value] = &layer;
        }
    for (const auto& [name, layers] : stacks) {
      const auto count = static_cast<int64_t>(layers.size());
      const LinearInfo& first = *layers.begin()->second;
      const bool equal = std::all_of(layers.begin(), layers.end(), [&](const auto& layer) {
        return layer.second->out_features == first.out_features && layer.second->in_features == first.in_features;
      });
      if (count < 2 || !equal || layers.rbegin()->first != count - 1) continue;
      for (const auto& [index, layer] : layers) layer->stack = StackPlace{name, index, count};
    }
  }

  static constexpr int64_t kMostBlocks = 1 << 16;  // a larger number in a name counts no blocks

  const Value weights_;
  TensorSource& source_;
  std::vector<std::pair<std::string, std::vector<std::string>>> leave_;
  std::vector<std::vector<std::string>> siblings_;
  int64_t smallest_ = 0;
  std::vector<std::string> tensors_;
  std::vector<LinearInfo> layers_;
  GenericModel model_;
};

}  // namespace

bool is_generic(const Descriptor& descriptor) { return descriptor.yaml.contains("weights"); }

std::vector<StackedTensor> find_stacks(const Descriptor& descriptor, TensorSource& source) {
  const Value weights = weights_of(descriptor);
  const Value hidden_value = weights.at("hidden");
  const int64_t hidden = hidden_value.is_null() ? 0 : hidden_value.positive();
  std::vector<StackedTensor> stacks;
  std::vector<size_t> undecided;  // of stacks
  std::optional<bool> transposed;
  for (const std::string& name : source.names()) {
    const TensorInfo info = source.info(name);
    if (info.shape.size() != 3 || info.shape[0] == 0 || !is_floating(info.dtype)) continue;
    for (const Value& value : weights.at("stacks").items()) {
      value.only({"match", "hidden", "parts"});
      if (!matches(value.at("match").text(), name)) continue;
      const Value side = value.at("hidden");
      if (side.text() != "rows" && side.text() != "columns") side.fail("rows or columns");
      const size_t at = side.text() == "rows" ? 1 : 2;  // of the hidden size, unless the matrices are transposed
      const bool plain = info.shape[at] == hidden, other = info.shape[3 - at] == hidden;
      if (!plain && !other)
        throw Error(cat(info.file, ": ", name, " is ", shape_text(info.shape),
                        ", a stack of matrices, and it is not clear which side is the input: ",
                        hidden ? cat("neither has the ", hidden, " channels of the hidden states")
                               : "config.json names no hidden size",
                        ". Set ", weights.at("hidden").origin(), " in a copy of this descriptor"));
      StackedTensor stack{name, {}, other && !plain};
      if (plain && other)
        undecided.push_back(stacks.size());
      else
        transposed = stack.transposed;
      const std::string module = name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : name;
      std::vector<std::string> parts{last_part(module)};
      // A bias of the whole matrix cannot be told apart into its parts' here.
      if (const auto named = value.find("parts"); named && !source.contains(name + "_bias")) parts = texts(*named);
      if (info.shape[stack.transposed ? 2 : 1] % static_cast<int64_t>(parts.size()) != 0) parts = {last_part(module)};
      for (const std::string& part : parts) stack.parts.push_back(cat(parent_of(module), ".{}.", part, kWeight));
      stacks.push_back(std::move(stack));
      break;
    }
  }
  // A checkpoint stores all its stacks alike.
  for (const size_t i : undecided) stacks[i].transposed = transposed.value_or(false);
  return stacks;
}

GenericModel read_generic(const Descriptor& descriptor, TensorSource& source) {
  return Reader(descriptor, source).run();
}

}  // namespace roundhouse

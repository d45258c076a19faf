// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: header-only C++ helper for formats, no part of the ABI: the tensors of all experts that a checkpoint
// stores, put together again from the matrices that a writer gets. C++17, no dependency.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../plugin.hpp"

namespace rh {

// Which experts' tensors a writer stores as the tensors of all experts that the source has (rh_part): those that stay as
// they are, wherever all parts of a tensor do; or only those that no engine takes apart in the descriptor's way, because
// their rows take turns.
enum class Experts { kTogether, kApart };

// The tensors of all experts that an export stores as the source does. Parts come one by one; a tensor is in memory from
// its first part to its last.
class ExpertStacks {
 public:
  ExpertStacks(const rh_plan& plan, Experts experts) {
    std::set<std::string> mixed;  // modules with a tensor whose rows take turns
    const auto module_of = [](const rh_part& part) {
      const std::string tensor = part.tensor;
      return tensor.substr(0, tensor.rfind('.'));
    };
    for (uint64_t i = 0; i < plan.tensor_count; ++i)
      if (const rh_part* part = part_of(plan.tensors[i]); part && part->interleaved) mixed.insert(module_of(*part));
    for (uint64_t i = 0; i < plan.tensor_count; ++i) {
      const rh_part* part = part_of(plan.tensors[i]);
      if (part && (part->count == 0 || experts == Experts::kTogether || mixed.count(module_of(*part))))
        parts_[plan.tensors[i]->name] = plan.tensors[i];
    }
  }

  // Where the source has a planned tensor; nullptr: as one of its own.
  static const rh_part* part_of(const rh_planned_tensor* tensor) {
    return RH_KNOWS(tensor, part) ? tensor->part : nullptr;
  }
  // Whether it may be stored so.
  bool has(const std::string& name) const { return parts_.count(name) > 0; }
  // A tensor that will come. Counts only where it is what the source has.
  void note(const std::string& name, rh_data_type dtype, const std::vector<int64_t>& shape) {
    const auto found = parts_.find(name);
    if (found == parts_.end()) return;
    const rh_planned_tensor& planned = *found->second;
    if (same_type(dtype, planned.dtype) &&
        std::equal(shape.begin(), shape.end(), planned.shape, planned.shape + planned.ndim))
      ++stacks_[planned.part->tensor].noted;
  }
  // The tensor that this one is a part of; nullptr: it is stored by itself. After all are noted.
  const rh_part* part(const std::string& name) const {
    const auto found = parts_.find(name);
    if (found == parts_.end()) return nullptr;
    const rh_part& part = *found->second->part;
    const auto stack = stacks_.find(part.tensor);
    return stack != stacks_.end() && stack->second.noted == parts_of(part) ? &part : nullptr;
  }
  // The shape of the tensor that one of this shape is a part of.
  static std::vector<int64_t> shape(const rh_part& part, std::vector<int64_t> shape) {
    shape[0] *= part.parts;
    if (part.transposed) std::swap(shape[0], shape[1]);
    if (part.count > 0) shape.insert(shape.begin(), part.count);
    return shape;
  }
  // Takes a part, and calls store(whole) with the last.
  template <typename Store>
  void add(const rh_part& part, const rh_tensor& tensor, Store&& store) {
    Stack& stack = stacks_[part.tensor];
    const std::vector<int64_t> whole = shape(part, {tensor.shape, tensor.shape + tensor.ndim});
    const View view(nullptr, tensor.dtype, whole);
    stack.bytes.resize(bytes(*view.get()));
    place(part, tensor, stack.bytes.data());
    if (++stack.come < parts_of(part)) return;
    const View all(stack.bytes.data(), tensor.dtype, whole);
    store(*all.get());
    stack.bytes = {};
  }

  static void require_saved(bool whole) {
    if (!whole) throw Error(RH_DATA_LOSS, "what was saved of the export is damaged");
  }
  // The parts that have come of tensors that are not whole, for restore().
  std::string save() const {
    std::string saved;
    for (const auto& [name, stack] : stacks_) {
      if (stack.bytes.empty()) continue;
      const uint64_t numbers[] = {name.size(), static_cast<uint64_t>(stack.come), stack.bytes.size()};
      saved.append(reinterpret_cast<const char*>(numbers), sizeof numbers).append(name);
      saved.append(stack.bytes.data(), stack.bytes.size());
    }
    return saved;
  }
  void restore(const std::string& saved) {
    for (size_t at = 0; at < saved.size();) {
      uint64_t numbers[3] = {};
      require_saved(saved.size() - at >= sizeof numbers);
      std::memcpy(numbers, saved.data() + at, sizeof numbers);
      at += sizeof numbers;
      require_saved(numbers[0] <= saved.size() - at && numbers[2] <= saved.size() - at - numbers[0]);
      const auto stack = stacks_.find(saved.substr(at, numbers[0]));
      require_saved(stack != stacks_.end());
      stack->second.come = static_cast<int64_t>(numbers[1]);
      const char* const begin = saved.data() + at + numbers[0];
      stack->second.bytes.assign(begin, begin + numbers[2]);
      at += numbers[0] + numbers[2];
    }
  }

 private:
  struct Stack {
    int64_t noted = 0, come = 0;  // parts
    std::vector<char> bytes;
  };
  static int64_t parts_of(const rh_part& part) { return std::max<int64_t>(1, part.count) * part.parts; }
  static void place(const rh_part& part, const rh_tensor& tensor, char* whole) {
    const int64_t rows = tensor.shape[0], cols = tensor.ndim == 2 ? tensor.shape[1] : 1, all = rows * part.parts;
    const int64_t run = part.transposed ? 1 : cols;  // elements side by side in both
    const size_t size = tensor.dtype.bits / 8, bytes = static_cast<size_t>(run) * size;
    const char* from = data<const char>(tensor);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = part.interleaved ? r * part.parts + part.part : part.part * rows + r;
      for (int64_t c = 0; c < cols; c += run, from += bytes) {
        const int64_t at = part.index * all * cols + (part.transposed ? c * all + row : row * cols);
        std::memcpy(whole + static_cast<size_t>(at) * size, from, bytes);
      }
    }
  }

  std::map<std::string, const rh_planned_tensor*> parts_;
  std::map<std::string, Stack> stacks_;
};

}  // namespace rh

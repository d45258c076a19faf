// SPDX-License-Identifier: Apache-2.0
// The tensors of a block, read once.
#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <exception>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "host/base/tensor.h"
#include "host/model/accelerator.h"
#include "host/model/torch_tensor.h"

namespace roundhouse {

// Another source, whose tensors stay loaded until they are dropped: a block's weights are read once for quantizer,
// forward pass and export.
class HeldSource : public TensorSource {
 public:
  explicit HeldSource(TensorSource& source) : source_(source) {}
  std::vector<std::string> names() const override { return source_.names(); }
  bool contains(const std::string& name) const override { return source_.contains(name); }
  std::string location() const override { return source_.location(); }
  TensorInfo info(const std::string& name) override { return source_.info(name); }
  bool checks_finite(const std::string& name) const override { return source_.checks_finite(name); }
  Tensor load(const std::string& name) override {
    const auto found = held_.find(name);
    return found == held_.end() ? held_.emplace(name, source_.load(name)).first->second : found->second;
  }
  // Hands a tensor over that nobody needs after this.
  Tensor take(const std::string& name) {
    auto held = held_.extract(name);
    return held ? std::move(held.mapped()) : source_.load(name);
  }
  // Drops what is held, but for what was loaded ahead.
  void drop() {
    settle();
    held_ = std::exchange(ahead_, {});
  }

  // Copies these, as far as `bytes` go, in a thread, to host memory from which `device` copies without a wait. Until
  // settle() or drop() nothing else may be asked of the source.
  void load_ahead(std::vector<std::string> names, at::Device device, uint64_t bytes) {
    thread_ = std::thread([this, names = std::move(names), device, left = bytes]() mutable {
      try {
        for (const std::string& name : names) {
          if (!source_.contains(name)) continue;
          const TensorInfo info = source_.info(name);
          const uint64_t size = bytes_of(info.dtype, info.shape);
          if (size > left) break;
          left -= size;
          const Tensor loaded = source_.load(name);
          const at::Tensor stored = to_torch(loaded);
          const at::Tensor copy = at::empty(stored.sizes(), host_memory_for(device, stored.scalar_type()));
          std::memcpy(copy.mutable_data_ptr(), stored.const_data_ptr(), stored.nbytes());
          ahead_[name] = from_torch(copy);
        }
      } catch (const std::exception&) {  // whoever needs the tensor asks again, and is told
      }
    });
  }
  void settle() {
    if (thread_.joinable()) thread_.join();
  }
  ~HeldSource() override { settle(); }

 private:
  TensorSource& source_;
  std::unordered_map<std::string, Tensor> held_, ahead_;
  std::thread thread_;
};

}  // namespace roundhouse

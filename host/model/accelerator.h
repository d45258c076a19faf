// SPDX-License-Identifier: Apache-2.0
// What differs where a run computes on another device than the CPU. The one place that asks for it; CUDA itself is meant
// where plugins get its streams and memory, and where bfloat16 is chosen.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>

namespace roundhouse {

// The devices that plugins get as RH_DEVICE_CUDA. Tests let another type stand for it.
inline at::DeviceType cuda_of_plugins = at::kCUDA;

// Whether work is enqueued, and the host goes on without its results.
inline bool runs_ahead(at::Device device) { return !device.is_cpu(); }

// The stream that this thread's work on a device goes to, as its API has it.
inline void* stream_of(at::Device device) {
  if (device.is_cpu()) return nullptr;
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
}

// Host memory from and to which the device copies while the host goes on.
inline at::TensorOptions host_memory_for(at::Device device, at::ScalarType type) {
  return at::TensorOptions(type).pinned_memory(runs_ahead(device));
}

// A copy in host memory, or the tensor itself where it is there. The device makes it when it comes to it: a DeviceEvent
// that is recorded after this says when.
inline at::Tensor begin_copy_to_host(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  return at::empty(tensor.sizes(), host_memory_for(tensor.device(), tensor.scalar_type()))
      .copy_(tensor, /*non_blocking=*/true);
}

// A point in the work that a device was given. On the CPU it is reached at once.
class DeviceEvent {
 public:
  explicit DeviceEvent(at::Device device) : device_(device) {
    if (runs_ahead(device)) event_.emplace(device.type());
  }
  void record() {
    if (event_) event_->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  }
  void wait() {
    if (event_) event_->synchronize();
  }

 private:
  at::Device device_;
  std::optional<c10::Event> event_;
};

// For the length of a run, makes its device the current one of this thread, and its operators give the same bits every
// time: those that cannot throw.
class OnRunDevice {
 public:
  explicit OnRunDevice(at::Device device)
      : guard_(device),
        deterministic_(at::globalContext().deterministicAlgorithms()),
        warns_(at::globalContext().deterministicAlgorithmsWarnOnly()),
        fills_(at::globalContext().deterministicFillUninitializedMemory()) {
    if (!runs_ahead(device)) return;
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  }
  ~OnRunDevice() {
    at::globalContext().setDeterministicAlgorithms(deterministic_, warns_);
    at::globalContext().setDeterministicFillUninitializedMemory(fills_);
  }
  OnRunDevice(const OnRunDevice&) = delete;
  OnRunDevice& operator=(const OnRunDevice&) = delete;

 private:
  c10::DeviceGuard guard_;
  bool deterministic_, warns_, fills_;
};

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// The activations of all calibration samples at one point of a chain of blocks, partly on disk where the recipe bounds
// what stays in memory.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <filesystem>
#include <optional>

#include "host/checkpoint/append_file.h"
#include "host/model/accelerator.h"
#include "host/tuning/results.h"

namespace roundhouse {

// What the stores of a run share.
struct HiddenStatesMemory {
  std::optional<int64_t> left;   // bytes of host memory that further stores may take; nothing: no limit
  std::filesystem::path output;  // of the run: files are made beside it
  Spill spill;
};

// [samples, seq, hidden]. Without a limit on the run's device; with one in host memory, and the samples that do not fit
// in a file that has lost its name. The values are the same either way. Not thread-safe.
class HiddenStates {
 public:
  // Holds no values yet. `memory` must outlive it. Throws Error when the disk has no room.
  HiddenStates(at::IntArrayRef shape, at::ScalarType type, at::Device device, HiddenStatesMemory& memory);

  int64_t samples() const { return samples_; }
  int64_t features() const { return shape_.back(); }
  at::Device device() const { return device_; }
  // Where the indices for rows() have to be.
  at::Device index_device() const { return resident_.device(); }

  // Samples [begin, end), or those that a 1-d int64 tensor lists, on the run's device. They may be a view of the store.
  at::Tensor rows(int64_t begin, int64_t end) const;
  at::Tensor rows(const at::Tensor& indices) const;
  // rows: [any number of samples, seq, hidden] on the run's device.
  void write(int64_t begin, const at::Tensor& rows);

  at::IntArrayRef sample_shape() const { return shape_; }
  at::ScalarType type() const { return type_; }

 private:
  // Host memory that the device copies samples from while the host goes on.
  struct Staging {
    at::Tensor rows;
    DeviceEvent copied;
  };

  // Of samples, from memory and the file.
  void gather(const at::Tensor& indices, const at::Tensor& to) const;
  // Of one sample at its place in the file.
  void read(int64_t sample, void* to) const;

  std::vector<int64_t> shape_;  // of a sample
  int64_t samples_, sample_bytes_;
  at::ScalarType type_;
  at::Device device_;
  HiddenStatesMemory& memory_;
  at::Tensor resident_;             // the first samples, perhaps all
  std::optional<AppendFile> file_;  // the others
  // The host fills one while the device copies the other, and waits before it goes further ahead.
  mutable std::array<Staging, 2> staging_;
  mutable size_t turn_ = 0;
};

}  // namespace roundhouse

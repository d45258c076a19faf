// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/hidden_states.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/model/accelerator.h"
#include "host/ranks/ranks.h"

namespace roundhouse {
namespace {

// Adds the time it lives to a spill.
class Timer {
 public:
  explicit Timer(Spill& spill) : spill_(spill) {}
  ~Timer() { spill_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  Spill& spill_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// A file of that many bytes beside the run's output. It has no name any more: it goes with the process at the latest.
AppendFile unlinked_file(const std::filesystem::path& output, int64_t bytes) {
  static int files = 0;
  // Processes of several machines, or containers, may have one number.
  AppendFile file(cat(output.string(), ".activations-", this_rank(), "-", ::getpid(), "-", files++));
  ::unlink(file.path().c_str());
  int reason = 0;
  do {
    reason = ::fallocate(file.fd(), 0, 0, bytes) == 0 ? 0 : errno;
  } while (reason == EINTR);
  if (reason == EOPNOTSUPP)  // a disk where room cannot be taken ahead
    reason = free_bytes(output.parent_path()) < static_cast<uint64_t>(bytes) ? ENOSPC : 0;
  if (reason == 0) return file;
  throw Error(cat("cannot keep ", bytes, " bytes of calibration activations, those beyond the recipe's `memory`, in ",
                  file.path().string(), ": ", std::strerror(reason), ". ", free_bytes(output.parent_path()),
                  " bytes are free on that disk. Make room, raise memory, choose an output on another disk, or lower ",
                  "calibration.samples or calibration.seqlen."));
}

}  // namespace

HiddenStates::HiddenStates(at::IntArrayRef shape, at::ScalarType type, at::Device device, HiddenStatesMemory& memory)
    : shape_(shape.begin() + 1, shape.end()),
      samples_(shape[0]),
      type_(type),
      device_(device),
      memory_(memory),
      staging_{Staging{{}, DeviceEvent(device)}, Staging{{}, DeviceEvent(device)}} {
  sample_bytes_ = c10::multiply_integers(shape_) * static_cast<int64_t>(c10::elementSize(type));
  if (!memory.left) {
    resident_ = at::empty(shape, at::TensorOptions(type).device(device));
    return;
  }
  const int64_t fitting = std::min(samples_, *memory.left / sample_bytes_);
  *memory.left -= fitting * sample_bytes_;
  std::vector<int64_t> in_memory = shape_;
  in_memory.insert(in_memory.begin(), fitting);
  resident_ = at::empty(in_memory, type);
  const int64_t rest = (samples_ - fitting) * sample_bytes_;
  if (rest == 0) return;
  file_.emplace(unlinked_file(memory.output, rest));
  memory.spill.bytes += rest;
}

void HiddenStates::read(int64_t sample, void* to) const {
  const Timer timer(memory_.spill);
  char* next = static_cast<char*>(to);
  int64_t left = sample_bytes_, offset = (sample - resident_.size(0)) * sample_bytes_;
  while (left > 0) {
    const ssize_t n = ::pread(file_->fd(), next, static_cast<size_t>(left), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      throw Error(cat("cannot read ", left, " bytes of calibration activations from ", file_->path().string(), ": ",
                      n < 0 ? std::strerror(errno) : "it ends too early"));
    next += n;
    left -= n;
    offset += n;
  }
  memory_.spill.read += sample_bytes_;
}

at::Tensor HiddenStates::rows(int64_t begin, int64_t end) const {
  if (end <= resident_.size(0) && resident_.device() == device_) return resident_.slice(0, begin, end);
  return rows(at::arange(begin, end));
}

at::Tensor HiddenStates::rows(const at::Tensor& indices) const {
  if (!file_ && resident_.device() == device_) return resident_.index_select(0, indices);
  std::vector<int64_t> shape = shape_;
  shape.insert(shape.begin(), indices.size(0));
  if (!runs_ahead(device_)) {
    const at::Tensor rows = at::empty(shape, type_);
    gather(indices, rows);
    return rows;
  }
  Staging& staging = staging_[turn_++ % staging_.size()];
  staging.copied.wait();
  if (!staging.rows.defined() || staging.rows.size(0) < indices.size(0)) {
    staging.rows.reset();
    staging.rows = at::empty(shape, host_memory_for(device_, type_));
  }
  const at::Tensor rows = staging.rows.slice(0, 0, indices.size(0));
  gather(indices, rows);
  const at::Tensor copy = rows.to(device_, /*non_blocking=*/true);
  staging.copied.record();
  return copy;
}

void HiddenStates::gather(const at::Tensor& indices, const at::Tensor& to) const {
  const int64_t* const samples = indices.const_data_ptr<int64_t>();
  char* const data = static_cast<char*>(to.mutable_data_ptr());
  const char* const resident = static_cast<const char*>(resident_.const_data_ptr());
  parallel_for(indices.size(0), 1, [&](int64_t begin, int64_t) {
    if (samples[begin] < resident_.size(0))
      std::memcpy(data + begin * sample_bytes_, resident + samples[begin] * sample_bytes_,
                  static_cast<size_t>(sample_bytes_));
  });
  for (int64_t i = 0; i < indices.size(0); ++i)
    if (samples[i] >= resident_.size(0)) read(samples[i], data + i * sample_bytes_);
}

void HiddenStates::write(int64_t begin, const at::Tensor& rows) {
  const int64_t kept = std::clamp<int64_t>(resident_.size(0) - begin, 0, rows.size(0));
  if (kept > 0) resident_.slice(0, begin, begin + kept).copy_(rows.slice(0, 0, kept));
  if (kept == rows.size(0)) return;
  const at::Tensor rest = rows.slice(0, kept).to(at::kCPU).contiguous();
  const Timer timer(memory_.spill);
  const int64_t bytes = rest.size(0) * sample_bytes_;
  file_->write_at(static_cast<uint64_t>((begin + kept - resident_.size(0)) * sample_bytes_), rest.const_data_ptr(),
                  static_cast<uint64_t>(bytes));
  memory_.spill.written += bytes;
}

}  // namespace roundhouse

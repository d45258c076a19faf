// SPDX-License-Identifier: Apache-2.0
// The validator's host, as a plugin sees it: rh_host with all extensions, and with faults on request.
#pragma once

#include <roundhouse/format.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace roundhouse::validator {

// How rh_parallel runs its chunks.
enum class Schedule { kInOrder, kReversed, kThreads };

// What the host does from now on.
struct Faults {
  Schedule schedule = Schedule::kInOrder;
  bool extensions = true;          // false: get_extension knows nothing
  int64_t writes_until_full = -1;  // so many writes succeed, then the disk is full; -1: never
  bool full_once = false;          // for one write
};
extern Faults faults;

// While it lives: cancels when so many chunks of parallel_for and writes have begun.
class CancelAfter {
 public:
  explicit CancelAfter(int64_t begun);
  ~CancelAfter();
  CancelAfter(const CancelAfter&) = delete;
  CancelAfter& operator=(const CancelAfter&) = delete;
  const volatile int32_t* flag() const { return &flag_; }
  bool cancelled() const { return flag_ != 0; }
  void count() {
    if (--left_ == 0) flag_ = 1;
  }

 private:
  std::atomic<int64_t> left_;
  volatile int32_t flag_ = 0;
};

// Since the last reset: what plugins did with the output and safetensors extensions.
struct Use {
  int64_t writes = 0;        // calls that may fail for a full disk
  int64_t open_files = 0;    // rh_file without commit or discard
  int64_t open_writers = 0;  // rh_st_writer without finish or abort
  int64_t open_readers = 0;  // rh_st_reader without close
  int64_t failed = 0;        // writes that were made to fail
};
extern Use use;

const rh_host* test_host();
// A host of a later minor version: larger, and with bytes behind what 1.0 knows.
const rh_host* newer_host();

}  // namespace roundhouse::validator

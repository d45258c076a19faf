// SPDX-License-Identifier: Apache-2.0
// The way of results to the sink, in a thread where a device computes meanwhile. No libtorch here.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "host/export/encoded_layer.h"
#include "host/tuning/quantize_sink.h"

namespace roundhouse {

// Gives layers and tensors to a sink in the order in which they come.
class HandOver {
 public:
  // in_thread: while the caller goes on, as long as no more than `most_bytes` wait; else each before its call returns.
  HandOver(QuantizeSink& sink, bool in_thread, uint64_t most_bytes)
      : sink_(sink), in_thread_(in_thread), most_bytes_(most_bytes) {}
  HandOver(const HandOver&) = delete;
  HandOver& operator=(const HandOver&) = delete;
  // What waits is dropped.
  ~HandOver();

  void layer(EncodedLayer layer);
  void tensor(std::string name, Tensor tensor);
  // Throws what the sink has thrown, if anything: as every call here does, from then on.
  void check();
  // Waits until the sink has all.
  void finish();

 private:
  struct Item {
    uint64_t bytes;
    std::function<void()> give;
  };

  void add(Item item);
  void work();
  // REQUIRES: mutex_ is held.
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

  QuantizeSink& sink_;
  bool in_thread_;
  uint64_t most_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  int64_t left_ = 0;    // items that the sink does not have yet, with the one that it gets
  uint64_t bytes_ = 0;  // theirs
  bool ends_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/hand_over.h"

#include <system_error>
#include <utility>

#include "host/abi/views.h"
#include "host/base/error.h"
#include "host/base/process_state.h"

namespace roundhouse {
namespace {

uint64_t bytes_of(const std::vector<Tensor>& tensors) {
  uint64_t bytes = 0;
  for (const Tensor& tensor : tensors) bytes += tensor.bytes();
  return bytes;
}

}  // namespace

HandOver::~HandOver() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void HandOver::layer(EncodedLayer layer) {
  if (!same_encoding(layer.encoding, layer.plan.encoding->get()))
    throw Error(
        cat(layer.plan.info.name,
            ": its data type makes another encoding than it said when the run was planned, by which formats went"));
  const uint64_t bytes = bytes_of(layer.tensors) + bytes_of(layer.activation_tensors) + layer.bias.bytes();
  add({bytes, [this, layer = std::move(layer)] { sink_.layer(layer); }});
}

void HandOver::tensor(std::string name, Tensor tensor) {
  const uint64_t bytes = tensor.bytes();
  add({bytes, [this, name = std::move(name), tensor = std::move(tensor)] { sink_.tensor(name, tensor); }});
}

void HandOver::check() {
  const std::lock_guard lock(mutex_);
  rethrow();
}

void HandOver::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failure_ || left_ == 0; });
  rethrow();
}

void HandOver::add(Item item) {
  if (in_thread_ && !thread_.joinable()) {
    try {
      thread_ = std::thread([this] { work(); });
    } catch (const std::system_error&) {  // no more threads: it takes longer
      in_thread_ = false;
    }
  }
  if (!in_thread_) return item.give();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failure_ || left_ == 0 || bytes_ + item.bytes <= most_bytes_; });
  rethrow();
  ++left_;
  bytes_ += item.bytes;
  items_.push_back(std::move(item));
  changed_.notify_all();
}

void HandOver::work() {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, [&] { return ends_ || !items_.empty(); }), !ends_) {
    Item item = std::move(items_.front());
    items_.pop_front();
    lock.unlock();
    std::exception_ptr failure;
    try {
      const OwnDescriptors beside_plugins;
      item.give();
    } catch (...) {
      failure = std::current_exception();
    }
    item.give = nullptr;  // its quantizer ends here, without the lock
    lock.lock();
    --left_;
    bytes_ -= item.bytes;
    failure_ = failure;
    changed_.notify_all();
    if (failure) return;
  }
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: the host and its extensions.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include <exception>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "error.hpp"
#include "ext/log.h"
#include "ext/parallel.h"
#include "host.h"

namespace rh {

inline const rh_host*& host_slot() {
  static const rh_host* host = nullptr;
  return host;
}

// The host that loaded this plugin; never null between init and deinit.
inline const rh_host& host() { return *host_slot(); }

// An extension of the host, or nullptr.
template <typename Table>
const Table* extension(const char* id) {
  return static_cast<const Table*>(host().get_extension(&host(), id));
}
// An extension that the plugin cannot do without.
template <typename Table>
const Table& required_extension(const char* id) {
  const auto* table = extension<Table>(id);
  if (!table) throw Error(RH_UNIMPLEMENTED, std::string("this host lacks the extension ") + id);
  return *table;
}

inline void log(int32_t severity, const std::string& message) {
  if (const auto* table = extension<rh_log>(RH_EXT_LOG)) table->write(&host(), severity, message.c_str());
}

// The flag of rh_exec, rh_export or rh_open that tells the call on this thread to end soon, for as long as the object
// lives. The base classes set it for each call.
class Cancellation {
 public:
  explicit Cancellation(const volatile int32_t* flag) : before_(std::exchange(current(), flag)) {}
  ~Cancellation() { current() = before_; }
  Cancellation(const Cancellation&) = delete;
  Cancellation& operator=(const Cancellation&) = delete;

  static const volatile int32_t*& current() {
    static thread_local const volatile int32_t* flag = nullptr;
    return flag;
  }

 private:
  const volatile int32_t* before_;
};

// For loops that may last a second, on the thread of the call. parallel_for() does it before each chunk.
inline void throw_if_cancelled() {
  if (Cancellation::current() && *Cancellation::current()) throw Error(RH_CANCELLED, "cancelled");
}

// Chunks of `grain` items over [0, n) on the host's threads; in order on this thread when the host offers none.
// An exception thrown by body(begin, end) is rethrown here. Once the call is cancelled no more chunks run, and it throws
// Error with RH_CANCELLED.
template <typename Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  struct Context {
    std::remove_reference_t<Body>* body;
    const volatile int32_t* cancelled;
    std::mutex mutex;
    std::exception_ptr failure;
  } context{&body, Cancellation::current(), {}, nullptr};
  const auto chunk = [](void* opaque, int64_t begin, int64_t end) {
    auto& c = *static_cast<Context*>(opaque);
    {
      std::lock_guard<std::mutex> lock(c.mutex);
      if (c.failure) return;
    }
    try {
      const Cancellation here(c.cancelled);
      throw_if_cancelled();
      (*c.body)(begin, end);
    } catch (...) {
      std::lock_guard<std::mutex> lock(c.mutex);
      if (!c.failure) c.failure = std::current_exception();
    }
  };
  if (const auto* table = extension<rh_parallel>(RH_EXT_PARALLEL)) {
    table->parallel_for(&host(), n, grain, chunk, &context);
  } else {
    for (int64_t begin = 0; begin < n; begin += grain) chunk(&context, begin, begin + grain < n ? begin + grain : n);
  }
  if (context.failure) std::rethrow_exception(context.failure);
}

}  // namespace rh

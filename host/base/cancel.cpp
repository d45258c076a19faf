// SPDX-License-Identifier: Apache-2.0
#include "host/base/cancel.h"

namespace roundhouse {
namespace {

volatile int32_t flag = 0;

}  // namespace

Cancelled::Cancelled() : Error("cancelled", Failure::kCancelled) {}

const volatile int32_t* cancellation_flag() noexcept { return &flag; }

void request_cancel(int signal) noexcept { flag = signal; }

void throw_if_cancelled() {
  if (flag) throw Cancelled();
}

}  // namespace roundhouse

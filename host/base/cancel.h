// SPDX-License-Identifier: Apache-2.0
// Ending early: what Ctrl-C sets, and what long work looks at.
#pragma once

#include <cstdint>

#include "host/base/error.h"

namespace roundhouse {

// Thrown where work ends because the user cancelled it.
class Cancelled : public Error {
 public:
  Cancelled();
};

// 0 until somebody cancels, then the signal; plugins see it as `cancelled`.
const volatile int32_t* cancellation_flag() noexcept;
// May be called by a signal handler.
void request_cancel(int signal) noexcept;
// Throws Cancelled once cancellation was requested.
void throw_if_cancelled();

}  // namespace roundhouse

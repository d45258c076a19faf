// SPDX-License-Identifier: Apache-2.0
#include <roundhouse/helper/text.hpp>

#include "host/abi/services.h"

namespace roundhouse {

rh_code report_error(rh_error* error, rh_code code, const char* message) noexcept {
  if (error) {
    error->code = code;
    rh::copy_text(error->message, sizeof error->message, message);
  }
  return code;
}

rh_code code_of(Failure failure) noexcept {
  switch (failure) {
    case Failure::kInvalid:
      return RH_INVALID_ARGUMENT;
    case Failure::kNotFound:
      return RH_NOT_FOUND;
    case Failure::kExhausted:
      return RH_RESOURCE_EXHAUSTED;
    case Failure::kDataLoss:
      return RH_DATA_LOSS;
    case Failure::kPrecondition:
      return RH_FAILED_PRECONDITION;
    case Failure::kUnavailable:
      return RH_UNAVAILABLE;
    case Failure::kCancelled:
      return RH_CANCELLED;
  }
  return RH_UNKNOWN;
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Calling a plugin: what it reports becomes an Error that names plugin, call and place.
#pragma once

#include <roundhouse/abi.h>

#include <cstring>
#include <string>
#include <string_view>

#include "host/base/cancel.h"
#include "host/base/crash.h"
#include "host/base/error.h"

namespace roundhouse {

// What a plugin wrote into its error, or what its code means when it wrote nothing.
inline std::string error_text(rh_code code, const rh_error& error) {
  if (const size_t size = strnlen(error.message, sizeof error.message); size > 0) return {error.message, size};
  switch (code) {
    case RH_CANCELLED:
      return "cancelled";
    case RH_INVALID_ARGUMENT:
      return "invalid argument";
    case RH_NOT_FOUND:
      return "not found";
    case RH_RESOURCE_EXHAUSTED:
      return "out of memory or disk space";
    case RH_UNIMPLEMENTED:
      return "not implemented";
    case RH_INTERNAL:
      return "an internal error";
    case RH_DATA_LOSS:
      return "damaged or lost data";
    case RH_OUT_OF_RANGE:
      return "out of range";
    case RH_FAILED_PRECONDITION:
      return "not possible at this point";
    case RH_UNAVAILABLE:
      return "the system refuses";
    default:
      return cat("code ", code);
  }
}

// The inverse of code_of().
inline Failure failure_of_code(rh_code code) {
  switch (code) {
    case RH_NOT_FOUND:
      return Failure::kNotFound;
    case RH_RESOURCE_EXHAUSTED:
      return Failure::kExhausted;
    case RH_DATA_LOSS:
      return Failure::kDataLoss;
    case RH_FAILED_PRECONDITION:
      return Failure::kPrecondition;
    case RH_UNAVAILABLE:
      return Failure::kUnavailable;
    case RH_CANCELLED:
      return Failure::kCancelled;
    default:
      return Failure::kInvalid;
  }
}

// Runs call(rh_error*) and throws Error "<plugin>, <function> of <where>: <message>" unless it returns RH_OK. Throws
// Cancelled, before or after the call, once the user has cancelled. `Watch`: PluginCall or WatchedCall.
template <typename Watch = WatchedCall, typename Call>
void call_plugin(const std::string& plugin, std::string_view function, std::string_view where, Call&& call) {
  throw_if_cancelled();
  rh_error error{};
  const rh_code code = [&] {
    const Watch here(plugin, function, where);
    return call(&error);
  }();
  if (code == RH_CANCELLED) throw_if_cancelled();
  if (code != RH_OK)
    throw Error(cat(plugin, ", ", function, where.empty() ? "" : " of ", where, ": ", error_text(code, error)),
                failure_of_code(code));
}

// REQUIRES: called when RH_HAS says no.
[[noreturn]] inline void fail_missing(const std::string& plugin, std::string_view function, std::string_view where) {
  throw Error(cat(plugin, " has no ", function, ", which ", where, " needs"));
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: errors as exceptions.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "abi.h"
#include "helper/text.hpp"

namespace rh {

// What a plugin throws; the host shows the message.
class Error : public std::runtime_error {
 public:
  Error(rh_code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  rh_code code() const { return code_; }

 private:
  rh_code code_;
};

inline void require(bool condition, const std::string& message) {
  if (!condition) throw Error(RH_INVALID_ARGUMENT, message);
}

inline rh_code set_error(rh_error* error, rh_code code, const char* message) noexcept {
  if (error) {
    error->code = code;
    copy_text(error->message, sizeof error->message, message);
  }
  return code;
}

// Runs `body` so that no exception leaves it.
template <typename Body>
rh_code guard(rh_error* error, Body&& body) noexcept {
  try {
    body();
    return RH_OK;
  } catch (const Error& e) {
    return set_error(error, e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return set_error(error, RH_RESOURCE_EXHAUSTED, "out of memory");
  } catch (const std::exception& e) {
    return set_error(error, RH_INTERNAL, e.what());
  } catch (...) {
    return set_error(error, RH_INTERNAL, "an exception of unknown type");
  }
}

// Throws what a host call reported.
inline void check(rh_code code, const rh_error& error) {
  if (code != RH_OK) throw Error(code, error.message);
}

}  // namespace rh

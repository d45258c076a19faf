// SPDX-License-Identifier: Apache-2.0
// Errors of work with libtorch, as users get them.
#pragma once

#include <c10/util/Exception.h>

#include <algorithm>
#include <string>

#include "host/base/error.h"
#include "host/tuning/units.h"

namespace roundhouse {

// libtorch's message goes on with the state of its allocator: its first sentences, and what to change.
inline std::string out_of_memory_text(const c10::OutOfMemoryError& failure) {
  const std::string text = failure.what_without_backtrace();
  const size_t first = text.find(". ");
  const size_t end = std::min(first == std::string::npos ? first : text.find(". ", first + 1), text.find('\n'));
  return cat(text.substr(0, end), ". Lower calibration.seqlen if it is above ", kUnitTokens, ", set memory (then the ",
             "calibration activations leave the device), free memory that other programs hold on it, or choose ",
             "another device.");
}

// Calls body(). Errors begin with the place.
template <typename Body>
void at_place(const std::string& place, const Body& body) {
  try {
    body();
  } catch (const Error& failure) {
    throw Error(cat(place, ": ", failure.what()));
  } catch (const c10::OutOfMemoryError& failure) {
    throw Error(cat(place, ": ", out_of_memory_text(failure)));
  } catch (const c10::Error& failure) {
    throw Error(cat(place, ": libtorch: ", failure.what_without_backtrace()));
  }
}

}  // namespace roundhouse

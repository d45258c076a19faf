// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/place.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <new>
#include <string_view>
#include <typeinfo>

#include "host/base/cancel.h"
#include "host/base/error.h"
#include "host/tuning/units.h"

namespace roundhouse {
namespace {

// libtorch's message goes on with the state of its allocator: its first sentences, and what to change.
std::string device_text(const c10::OutOfMemoryError& failure, const Recipe& recipe) {
  const std::string text = failure.what_without_backtrace();
  const size_t first = text.find(". ");
  const size_t end = std::min(first == std::string::npos ? first : text.find(". ", first + 1), text.find('\n'));
  const std::string activations = recipe.calibration.data.empty()
                                      ? "Free"
                                      : cat("Lower calibration.seqlen if it is above ", kUnitTokens, ", set memory ",
                                            "(then the calibration activations leave the device), free");
  return cat(text.substr(0, end), ". ", activations,
             " memory that other programs hold on it, or choose another device.");
}

std::string memory_text(const Recipe& recipe) {
  const std::string activations =
      recipe.calibration.data.empty()
          ? ""
          : cat(recipe.memory ? "Lower" : "Set", " memory (calibration activations beyond it go to disk), lower ",
                "calibration.seqlen if it is above ", kUnitTokens, ", ");
  return cat("no memory is left. ", activations, activations.empty() ? "Free" : "free",
             " memory that other programs hold, or raise the limit of this one (ulimit -v, a container's).");
}

}  // namespace

void throw_with_place(const std::string& place, const Recipe& recipe) {
  try {
    throw;
  } catch (const Cancelled&) {
    throw;
  } catch (const Error& e) {
    throw Error(cat(place, ": ", e.what()), e.failure());
  } catch (const std::bad_alloc&) {
    throw Error(cat(place, ": ", memory_text(recipe)), Failure::kExhausted);
  } catch (const c10::OutOfMemoryError& e) {
    throw Error(cat(place, ": ", device_text(e, recipe)), Failure::kExhausted);
  } catch (const c10::Error& e) {
    const std::string text = e.what_without_backtrace();
    // The CPU's allocator has no exception of its own.
    if (text.find("can't allocate memory") != std::string::npos)
      throw Error(cat(place, ": ", memory_text(recipe)), Failure::kExhausted);
    throw Error(cat(place, ": libtorch: ", text));
  } catch (const std::exception& e) {
    // oneDNN's exception, which no header here declares, does not say what its library found missing.
    if (std::string_view(typeid(e).name()).find("dnnl") == std::string_view::npos) throw;
    throw Error(cat(place, ": libtorch: ", e.what(), ", perhaps because ", memory_text(recipe)), Failure::kExhausted);
  }
}

}  // namespace roundhouse

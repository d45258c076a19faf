// SPDX-License-Identifier: Apache-2.0
// Errors of the work on a model, with the place where it was. No libtorch here.
#pragma once

#include <string>

#include "host/recipe/recipe.h"

namespace roundhouse {

// REQUIRES: an exception is being handled. Throws it as an Error that begins with `place`, a block or a layer, and says
// what to change in the recipe where memory was used up. A Cancelled stays one.
[[noreturn]] void throw_with_place(const std::string& place, const Recipe& recipe);

// Calls body(), and throws so what it throws.
template <typename Body>
void at_place(const std::string& place, const Recipe& recipe, const Body& body) {
  try {
    body();
  } catch (...) {
    throw_with_place(place, recipe);
  }
}

}  // namespace roundhouse

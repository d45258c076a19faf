// SPDX-License-Identifier: Apache-2.0
// A file of presets.
#include "host/recipe/scheme_choice.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  fuzz::write("presets.yaml", fuzz::text(data, size));
  return fuzz::expect_result_or_exception([&] { list_presets({fuzz::folder()}); });
}

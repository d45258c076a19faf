// SPDX-License-Identifier: Apache-2.0
// A recipe: any YAML. One that is read is written and read again, and is the same.
#include "host/recipe/recipe.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  const fuzz::File file(fuzz::text(data, size));
  return fuzz::expect_result_or_exception([&] {
    const Recipe recipe = load_recipe(file.path(), {}, {ROUNDHOUSE_SOURCE "/configs/schemes"});
    const fuzz::File written(to_yaml(recipe));
    if (!(load_recipe(written.path(), {}, {ROUNDHOUSE_SOURCE "/configs/schemes"}) == recipe)) ::abort();
  });
}

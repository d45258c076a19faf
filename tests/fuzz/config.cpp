// SPDX-License-Identifier: Apache-2.0
// A model's config.json, read with the shipped descriptors.
#include "host/model/architecture.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  fuzz::write("config.json", fuzz::text(data, size));
  return fuzz::expect_result_or_exception([&] {
    const Architecture architecture =
        Architecture::load(fuzz::folder(), {ROUNDHOUSE_SOURCE "/configs/architectures"}, {.family = "", .generic = true});
    if (architecture.generic()) return;
    architecture.facts();
    for (int64_t block = 0; block < std::min<int64_t>(architecture.blocks(), 4); ++block)
      architecture.block_tensors(block);
  });
}

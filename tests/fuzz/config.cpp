// SPDX-License-Identifier: Apache-2.0
// A model's config.json, read with a few of the shipped descriptors: all would take most of the time.
#include "host/model/architecture.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  static const bool copied = [] {
    for (const char* name : {"deepseek_v3.yaml", "generic.yaml", "llama.yaml", "nemotron_h.yaml"})
      std::filesystem::copy_file(std::filesystem::path(ROUNDHOUSE_SOURCE "/configs/architectures") / name,
                                 fuzz::folder() / name);
    return true;
  }();
  fuzz::write("config.json", fuzz::text(data, size));
  return fuzz::expect_result_or_exception([&] {
    const Architecture architecture =
        Architecture::load(fuzz::folder(), {fuzz::folder()}, {.family = "", .generic = true});
    if (!copied || architecture.generic()) return;
    architecture.facts();
    for (int64_t block = 0; block < std::min<int64_t>(architecture.blocks(), 4); ++block)
      architecture.block_tensors(block);
  });
}

// SPDX-License-Identifier: Apache-2.0
// A descriptor of a model family, read with a Llama's config.json.
#include "host/model/descriptor.h"

#include "host/model/architecture.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  fuzz::write("config.json", R"({"model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 128, "rope_theta": 10000.0, "tie_word_embeddings": false})");
  fuzz::write("fuzzed.yaml", fuzz::text(data, size));
  return fuzz::expect_result_or_exception([&] {
    const Architecture architecture = Architecture::load(fuzz::folder(), {fuzz::folder()});
    architecture.facts();
    for (int64_t block = 0; block < std::min<int64_t>(architecture.blocks(), 4); ++block)
      architecture.block_tensors(block);
  });
}

// SPDX-License-Identifier: Apache-2.0
// A GGUF file, as the host reads one.
#include "host/checkpoint/gguf_file.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  const fuzz::File file(fuzz::text(data, size));
  return fuzz::expect_result_or_exception([&] {
    const GgufFile gguf(std::make_shared<const MappedFile>(file.path()));
    for (const auto& entry : gguf.tensors()) fuzz::expect_result_or_exception([&] { gguf.load_f32(entry); });
  });
}

// SPDX-License-Identifier: Apache-2.0
// A safetensors file, or an index of several.
#include "host/checkpoint/safetensors_header.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  const fuzz::File file(fuzz::text(data, size));
  fuzz::expect_result_or_exception([&] { parse_safetensors_header(MappedFile(file.path())); });
  return fuzz::expect_result_or_exception([&] { parse_safetensors_index(MappedFile(file.path())); });
}

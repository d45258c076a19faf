// SPDX-License-Identifier: Apache-2.0
// An importance matrix, in both of llama.cpp's forms.
#include "host/checkpoint/imatrix_file.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  const fuzz::File file(fuzz::text(data, size));
  return fuzz::expect_result_or_exception([&] { read_imatrix(file.path()); });
}

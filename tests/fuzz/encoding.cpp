// SPDX-License-Identifier: Apache-2.0
// An encoding's parameters, in every shared encoding, as formats and data types of others hand them over.
#include <roundhouse/encoding/affine_int.hpp>
#include <roundhouse/encoding/ggml_block.hpp>
#include <roundhouse/encoding/mx.hpp>
#include <roundhouse/encoding/nvfp.hpp>
#include <roundhouse/encoding/scaled_fp8.hpp>

#include "tests/fuzz/fuzz.h"

namespace {

template <typename Encoding>
void parse(const char* parameters) {
  rh_encoding encoding{};
  encoding.struct_size = sizeof encoding;
  encoding.id = Encoding::kId;
  encoding.parameters_json = parameters;
  roundhouse::fuzz::expect_result_or_exception([&] {
    const Encoding read = Encoding::of(encoding);
    const std::string again = read.json();  // what is read is written, and is the same again
    encoding.parameters_json = again.c_str();
    if (Encoding::of(encoding).json() != again) ::abort();
  });
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string parameters(roundhouse::fuzz::text(data, size));
  parse<rh::AffineInt>(parameters.c_str());
  parse<rh::GgmlBlock>(parameters.c_str());
  parse<rh::Mx>(parameters.c_str());
  parse<rh::Nvfp>(parameters.c_str());
  parse<rh::ScaledFp8>(parameters.c_str());
  return 0;
}

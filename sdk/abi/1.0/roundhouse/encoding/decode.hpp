// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: the shared encodings, whichever it is.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include "affine_int.hpp"
#include "ggml_block.hpp"
#include "mx.hpp"
#include "nvfp.hpp"
#include "scaled_fp8.hpp"

namespace rh {

// Calls body(typed) with AffineInt, ScaledFp8, Mx, Nvfp or GgmlBlock and returns true; returns false for an encoding that
// is none of them. Throws Error for wrong parameters.
template <typename Body>
bool with_encoding(const rh_encoding& encoding, Body&& body) {
  if (is(encoding, AffineInt::kId))
    body(AffineInt::of(encoding));
  else if (is(encoding, ScaledFp8::kId))
    body(ScaledFp8::of(encoding));
  else if (is(encoding, Mx::kId))
    body(Mx::of(encoding));
  else if (is(encoding, Nvfp::kId))
    body(Nvfp::of(encoding));
  else if (is(encoding, GgmlBlock::kId))
    body(GgmlBlock::of(encoding));
  else
    return false;
  return true;
}

// Writes the weight that `tensors` stand for to `output`, [rows, cols] of f32, f16 or bf16.
inline void decode(const rh_encoding& encoding, const rh_tensor* const* tensors, rh_tensor& output) {
  const bool known = with_encoding(encoding, [&](const auto& typed) { typed.decode(encoding, tensors, output); });
  if (!known) throw Error(RH_UNIMPLEMENTED, std::string("the encoding ") + encoding.id + " is not known here");
}

}  // namespace rh

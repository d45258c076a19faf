// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/affine_int.h"

#include <algorithm>
#include <cmath>

#include "plugins/formats/lib/bit_stream.h"
#include "plugins/formats/lib/encoded_layer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

using kernels::float_from_half;
using kernels::half_from_float;

std::vector<uint16_t> half_scales(const rh_encoded_layer& encoded, int64_t count) {
  const rh_tensor& scale = require_tensor(encoded, "scale", count);
  std::vector<uint16_t> halves(count);
  for (int64_t i = 0; i < count; ++i) {
    const float value = rh_load(&scale, i);
    halves[i] = half_from_float(value);
    if (!std::isfinite(float_from_half(halves[i]))) {
      throw rh::Error(RH_INVALID_ARGUMENT,
                      cat(encoded.layer->name, ": scale ", value,
                          " does not fit into float16, which this format stores; leave the layer unquantized"));
    }
  }
  return halves;
}

}  // namespace

AffineLayer affine_layer(const rh_encoded_layer& encoded) {
  const rh_format_layer& layer = *encoded.layer;
  const auto p = rh::AffineInt::of(*layer.encoding);
  AffineLayer out{p.bits, p.symmetric != 0, layer.rows, layer.cols, std::min(p.group_cols, layer.cols), {}, {}, {}};
  const int64_t weights = layer.rows * layer.cols;
  const uint8_t* codes = rh::data<uint8_t>(require_tensor(encoded, "codes", weights));
  out.codes.assign(codes, codes + weights);
  if (std::any_of(out.codes.begin(), out.codes.end(), [&](uint8_t code) { return code >> p.bits; })) {
    throw rh::Error(RH_INVALID_ARGUMENT, cat(layer.name, ": a code does not fit into ", p.bits, " bits"));
  }
  const int64_t scales = layer.rows * out.groups();
  out.scale = half_scales(encoded, scales);
  if (p.symmetric) {
    out.zero_point.assign(scales, symmetric_zero_point(p.bits));
  } else {
    const uint8_t* zero_point = rh::data<uint8_t>(require_tensor(encoded, "zero_point", scales));
    out.zero_point.assign(zero_point, zero_point + scales);
  }
  return out;
}

void mirror_zero_points(AffineLayer& layer) {
  const uint8_t max = static_cast<uint8_t>((1 << layer.bits) - 1);
  const int64_t groups = layer.groups();
  rh::parallel_for(layer.rows, kRowsPerChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * groups; i < end * groups; ++i) {
      if (layer.zero_point[i] != 0) continue;
      layer.zero_point[i] = max;
      layer.scale[i] ^= 0x8000;  // f16's sign
      const int64_t g = i % groups;
      uint8_t* row = layer.codes.data() + i / groups * layer.cols;
      const int64_t last = std::min(layer.cols, (g + 1) * layer.group_cols);
      for (int64_t c = g * layer.group_cols; c < last; ++c) row[c] = max - row[c];
    }
  });
}

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
#include "plugins/dtypes/lib/affine/affine_check.h"

#include <cmath>
#include <sstream>
#include <string>

#include "kernels/floats.h"

using namespace roundhouse::kernels;
using rh::require;

namespace {

// auto-round 0.16, wrapper.py: q_scale_thresh.
constexpr float kScaleThreshold = 1e-5f;
constexpr float kScaleThresholdF32 = 1e-8f;

float scale_threshold(const rh_scheme& scheme, Element scale) {
  const float by_default = scale_type(scheme) == Element::kF32 ? kScaleThresholdF32 : kScaleThreshold;
  const float threshold = round_to(scale, scheme.scale_threshold == 0 ? by_default : scheme.scale_threshold);
  std::ostringstream message;
  message << "q_scale_thresh " << scheme.scale_threshold << " is no positive number in " << name_of(scale)
          << ": omit it, or set scale_dtype to float32";
  require(threshold > 0 && threshold < INFINITY, message.str());
  return threshold;
}

}  // namespace

Element scale_type(const rh_scheme& scheme) {
  return scheme.scale_dtype.bits == 0 ? Element::kF16 : element_of(scheme.scale_dtype, "scale_dtype");
}

rh_scheme input_scheme(const rh::AffineInt& encoding, const char* dtype, int64_t cols) {
  rh_scheme scheme{};
  scheme.struct_size = sizeof scheme;
  scheme.bits = encoding.bits;
  scheme.dtype = dtype;
  scheme.symmetric = encoding.symmetric;
  scheme.group_rows = 1;
  scheme.group_cols = encoding.group_rows == 0   ? RH_GROUP_TENSOR
                      : encoding.whole_row(cols) ? RH_GROUP_ROW
                                                 : encoding.group_cols;
  scheme.dynamic = encoding.dynamic == RH_INPUT_DYNAMIC;
  scheme.options_json = encoding.mirrored ? R"({"mirrored": true})" : "{}";
  return scheme;
}

AffineLayer affine_layer(const rh_layer& layer, const char* dtype, Element scale) {
  const rh_scheme& scheme = *layer.scheme;
  const std::string name = dtype;
  const bool weight = layer.target == RH_TARGET_WEIGHT;
  require(scheme.bits >= 2 && scheme.bits <= 8, name + " has 2 to 8 bits, not " + std::to_string(scheme.bits));
  require(scheme.group_rows == 1, name +
                                      " has groups of columns within a row: set group_size to one number (128), to "
                                      "-1 (a row) or to 0 (the whole tensor)");
  require(scheme.group_cols >= RH_GROUP_ROW, "group_size " + std::to_string(scheme.group_cols) +
                                                 " is no group: set a number of columns, -1 (a row) or 0 (the whole "
                                                 "tensor)");
  require((!weight || layer.rows >= 1) && layer.cols >= 1, "a weight needs at least one row and one column");

  AffineLayer out{};
  out.rows = weight ? layer.rows : 0;
  out.cols = layer.cols;
  out.whole_tensor = scheme.group_cols == RH_GROUP_TENSOR;
  out.span_cols = scheme.group_cols > 0 && scheme.group_cols < layer.cols ? scheme.group_cols : layer.cols;
  out.symmetric = scheme.symmetric != 0;
  out.bits = scheme.bits;
  out.weight = element_of(layer.dtype, weight ? "the weight" : "the activation");
  out.scale = scale;
  out.scale_threshold = scale_threshold(scheme, scale);
  return out;
}

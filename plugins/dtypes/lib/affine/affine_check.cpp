#include "plugins/dtypes/lib/affine/affine_check.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "kernels/floats.h"

using namespace roundhouse::kernels;
using nlohmann::json;
using rh::require;

namespace {

// auto-round 0.16, wrapper.py: q_scale_thresh.
constexpr float kScaleThreshold = 1e-5f;
constexpr float kScaleThresholdF32 = 1e-8f;

bool mirrored(const rh_scheme& scheme, const std::string& dtype) {
  const json options = json::parse(scheme.options_json, nullptr, false);
  bool mirrored = false;
  for (const auto& [key, value] : options.items()) {
    require(key == "mirrored" && value.is_boolean(),
            dtype + " has no option " + key + ": " + value.dump() + "; it has mirrored, which is true or false");
    mirrored = value;
  }
  require(!mirrored || scheme.symmetric, "mirrored ranges are symmetric: set sym to true, or omit mirrored");
  return mirrored;
}

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
  require(scheme.super_bits == 0 && scheme.super_group == 0,
          name + " does not quantize its scales: omit super_bits and super_group_size");
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
  out.mirrored = mirrored(scheme, name);
  return out;
}

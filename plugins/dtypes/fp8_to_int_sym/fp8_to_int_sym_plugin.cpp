// SPDX-License-Identifier: Apache-2.0
// The data type "fp8_to_int_sym": a weight rounded to float8 with one scale, then to symmetric integers with a scale
// for each group, so that an engine computes in float8 (W4A8).
#include <roundhouse/plugin.hpp>

#include "fp8_to_int_sym_weight.h"
#include "plugins/dtypes/lib/affine/affine_check.h"

namespace {

class Fp8ToIntDtype : public rh::Dtype {
 public:
  Fp8ToIntDtype()
      : Dtype("fp8_to_int_sym", "integers within float8: a scale for the tensor and one for each group",
              RH_ENCODING_AFFINE_INT, kAffineDevices | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_TUNING | RH_SUPPORTS_ENCODED,
              {{"w4fp8", R"({"bits": 4, "sym": true})"}},
              R"({"type": "object", "additionalProperties": false, "properties": {
                "weight_fp8_max_scale": {"type": "number", "exclusiveMinimum": 0, "default": 1,
                  "description": "factor of the largest magnitude from which the scale of the float8 weight follows"}}})") {
  }

  void check(const rh_layer& layer) const override {
    rh::require(layer.target == RH_TARGET_WEIGHT,
                "fp8_to_int_sym quantizes weights only: give the activation another data type, such as fp8");
    rh::require(layer.scheme->rounding != RH_ROUNDING_SEARCH,
                "fp8_to_int_sym does not search for scales: set search to false, or tune (iters above 0)");
    fp8_to_int_layer(layer);
  }

  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<Fp8ToIntWeight>(layer);
  }
  std::unique_ptr<rh::Quantizer> create_encoded(const rh_layer& layer) const override {
    rh::require(layer.target == RH_TARGET_WEIGHT, "fp8_to_int_sym quantizes weights only");
    return std::make_unique<rh::EncodedWeight<rh::AffineInt>>(layer);
  }
};

struct Fp8ToIntPlugin {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<Fp8ToIntDtype>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(Fp8ToIntPlugin, "fp8_to_int_sym", "Roundhouse", "0.1.0", "integer weights within float8")

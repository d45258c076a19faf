// SPDX-License-Identifier: Apache-2.0
// The data type "fp8": 8-bit floats with one scale for each group, block, row or tensor.
#include <roundhouse/encoding/scaled_fp8.hpp>
#include <roundhouse/plugin.hpp>
#include <string>

#include "plugins/dtypes/lib/options.h"
#include "plugins/dtypes/lib/scaled/scaled_quantizer.h"

using namespace roundhouse::kernels;

namespace {

using rh::require;

constexpr uint32_t kSupports = RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_ACTIVATIONS | RH_SUPPORTS_TUNING |
                               RH_SUPPORTS_ENCODED
#if defined(ROUNDHOUSE_WITH_CUDA)
                               | RH_SUPPORTS_CUDA
#endif
    ;

ScaledDtype describe(int element, bool unit_scale, bool dynamic) {
  ScaledDtype out{};
  out.layer.element = element == RH_FP8_E4M3 ? e4m3() : e5m2();
  out.layer.rule = unit_scale ? ScaleRule::kUnit : ScaleRule::kRatio;
  out.layer.slope = ElementSlope::kOne;
  out.layer.half_as_bfloat = true;  // as the reference, which so keeps NaN out of float16 gradients
  out.element = element;
  out.max_scale = !unit_scale;
  out.calibrated = !dynamic && !unit_scale;
  return out;
}

ScaledDtype describe(const rh_layer& layer) {
  const Options options("fp8", layer.scheme->options_json,
                        {{"element", {"e4m3", "e5m2"}}, {"scale", {"largest", "unit"}}});
  return describe(options["element"] == "e4m3" ? RH_FP8_E4M3 : RH_FP8_E5M2, options["scale"] == "unit",
                  layer.scheme->dynamic != 0);
}

class Fp8Dtype : public rh::Dtype {
 public:
  Fp8Dtype()
      : Dtype("fp8", "8-bit floats, e4m3 or e5m2, with a scale for each group, block, row or tensor",
              RH_ENCODING_SCALED_FP8, kSupports,
              {{"fp", R"({"bits": 8})"},
               {"fp8_sym", R"({"bits": 8, "sym": true})"},
               {"fp8_e4m3", R"({"bits": 8, "options": {"element": "e4m3"}})"},
               {"fp8_e4m3fn", R"({"bits": 8, "options": {"element": "e4m3"}})"},
               {"fp8_e5m2", R"({"bits": 8, "options": {"element": "e5m2"}})"},
               {"fp8_dynamic", R"({"bits": 8, "dynamic": true})"},
               {"block_fp8", R"({"bits": 8, "group_size": [128, 128]})"},
               {"fp8_block", R"({"bits": 8, "group_size": [128, 128]})"},
               {"fp8_unit_scale", R"({"bits": 8, "options": {"scale": "unit"}})"},
               {"fp8_e5m2_unit_scale", R"({"bits": 8, "options": {"element": "e5m2", "scale": "unit"}})"}},
              R"({"type": "object", "properties": {
                "element": {"enum": ["e4m3", "e5m2"], "description": "e4m3 is the default; e5m2 has more range"},
                "scale": {"enum": ["largest", "unit"],
                          "description": "from the largest magnitude (the default), or 1"}}})") {}

  void check(const rh_layer& layer) const override { check(layer, describe(layer)); }
  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<ScaledQuantizer>(layer, describe(layer));
  }

  std::unique_ptr<rh::Quantizer> create_encoded(const rh_layer& layer) const override {
    if (layer.target == RH_TARGET_WEIGHT) return std::make_unique<rh::EncodedWeight<rh::ScaledFp8>>(layer);
    const auto made = rh::ScaledFp8::of(*layer.encoding);
    const rh_scheme scheme =
        input_scheme("fp8", 8, made.group_rows == 0 ? RH_GROUP_TENSOR : made.group_cols, layer.cols, made.dynamic);
    rh_layer input = layer;
    input.scheme = &scheme;
    ScaledDtype dtype = describe(made.element, made.unit_scale, scheme.dynamic != 0);
    dtype.layer.given = dtype.calibrated;
    check(input, dtype);
    return std::make_unique<ScaledQuantizer>(input, dtype);
  }

 private:
  static void check(const rh_layer& layer, const ScaledDtype& dtype) {
    const rh_scheme& scheme = *layer.scheme;
    require(scheme.bits == 8, "fp8 has 8 bits, not " + std::to_string(scheme.bits) + ": set bits to 8");
    check_scaled(layer, "fp8");
    require(scheme.rounding != RH_ROUNDING_SEARCH,
            "fp8 does not search for scales: set search to false for plain rounding, or tune (iters above 0)");
    require(scheme.group_cols >= RH_GROUP_ROW && scheme.group_rows >= 1,
            "group_size " + std::to_string(scheme.group_cols) +
                " is no group: set a number of columns, [rows, columns], -1 (a row) or 0 (the whole tensor)");
    require(layer.target == RH_TARGET_WEIGHT || !dtype.calibrated || scheme.group_cols == RH_GROUP_TENSOR,
            "fp8 calibrates one scale for the whole activation: set act_group_size to 0, or act_dynamic to true");
    make_scaled_layer(layer, dtype.layer);
  }
};

struct Fp8Plugin {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<Fp8Dtype>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(Fp8Plugin, "fp8", "Roundhouse", "0.1.0", "8-bit float weights and activations")

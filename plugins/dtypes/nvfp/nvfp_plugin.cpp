// SPDX-License-Identifier: Apache-2.0
// The data type "nv_fp": 4-bit floats in groups of 16 with 8-bit float scales, which one float32 scales again (NVFP4);
// or with unsigned e5m3 scales, which need no second scale.
#include <roundhouse/encoding/nvfp.hpp>
#include <roundhouse/plugin.hpp>
#include <string>

#include "plugins/dtypes/lib/options.h"
#include "plugins/dtypes/lib/scaled/scaled_quantizer.h"

using namespace roundhouse::kernels;

namespace {

using rh::require;

constexpr int kGroup = 16;

constexpr uint32_t kSupports = RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_ACTIVATIONS | RH_SUPPORTS_SEARCH |
                               RH_SUPPORTS_TUNING | RH_SUPPORTS_TUNED_SEARCH | RH_SUPPORTS_ENCODED
#if defined(ROUNDHOUSE_WITH_CUDA)
                               | RH_SUPPORTS_CUDA
#endif
    ;

ScaledDtype describe(bool two_level, bool fixed, bool calibrated) {
  ScaledDtype out{};
  out.layer.element = e2m1();
  out.layer.rule = two_level ? ScaleRule::kNvfp4 : ScaleRule::kUe5m3;
  out.layer.slope = ElementSlope::kNonzero;
  out.layer.signed_zero = true;
  out.max_scale = !fixed;
  out.calibrated = two_level && calibrated;
  return out;
}

ScaledDtype describe(const rh_layer& layer) {
  const Options options("nv_fp", layer.scheme->options_json,
                        {{"scale", {"e4m3", "ue5m3"}}, {"global_scale", {"dynamic", "static"}}});
  const bool two_level = options["scale"] == "e4m3", fixed = options["global_scale"] == "static";
  require(two_level || !fixed, "nv_fp: scale ue5m3 has no global scale: omit global_scale");
  return describe(two_level, fixed, fixed || layer.scheme->dynamic == 0);
}

class NvfpDtype : public rh::Dtype {
 public:
  NvfpDtype()
      : Dtype("nv_fp", "4-bit floats in groups of 16 with 8-bit float scales and a float32 scale of these (NVFP4)",
              RH_ENCODING_NVFP, kSupports,
              {{"nv_fp4", R"({"bits": 4})"},
               {"nvfp4", R"({"bits": 4})"},
               {"nv_fp4_rtn", R"({"bits": 4, "search": false})"},
               {"rtn_nv_fp", R"({"search": false})"},
               {"opt_rtn_nv_fp", R"({"search": true})"},
               {"nv_fp4_with_static_gs", R"({"bits": 4, "options": {"global_scale": "static"}})"},
               {"rtn_nv_fp4_with_static_gs", R"({"bits": 4, "search": false, "options": {"global_scale": "static"}})"},
               {"nvfp4_v2", R"({"bits": 4, "options": {"scale": "ue5m3"}})"}},
              R"({"type": "object", "properties": {
                "scale": {"enum": ["e4m3", "ue5m3"],
                          "description": "type of the groups' scales; ue5m3 has no global scale"},
                "global_scale": {"enum": ["dynamic", "static"],
                                 "description": "of an activation: from each input (the default), or calibrated"}}})") {
  }

  void check(const rh_layer& layer) const override { check(layer, describe(layer)); }
  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<ScaledQuantizer>(layer, describe(layer));
  }

  std::unique_ptr<rh::Quantizer> create_encoded(const rh_layer& layer) const override {
    if (layer.target == RH_TARGET_WEIGHT) return std::make_unique<rh::EncodedWeight<rh::Nvfp>>(layer);
    const auto made = rh::Nvfp::of(*layer.encoding);
    rh_scheme scheme = input_scheme("nv_fp", 4, made.group_cols, layer.cols, made.dynamic);
    if (scheme.group_cols == RH_GROUP_ROW) scheme.group_cols = kGroup;  // a narrow layer's only group
    rh_layer input = layer;
    input.scheme = &scheme;
    const bool calibrated = made.dynamic == RH_INPUT_CALIBRATED;
    ScaledDtype dtype = describe(made.two_level(), calibrated, calibrated);
    dtype.layer.given = dtype.calibrated;
    check(input, dtype);
    return std::make_unique<ScaledQuantizer>(input, dtype);
  }

 private:
  static void check(const rh_layer& layer, const ScaledDtype& dtype) {
    const rh_scheme& scheme = *layer.scheme;
    require(scheme.bits == 4, "nv_fp has 4 bits, not " + std::to_string(scheme.bits));
    check_scaled(layer, "nv_fp");
    require(scheme.scale_dtype.bits == 0, "nv_fp has 8-bit float scales: omit scale_dtype");
    const bool two_level = dtype.layer.rule == ScaleRule::kNvfp4;
    require(scheme.group_rows == 1 && (scheme.group_cols == 16 || (scheme.group_cols == 32 && !two_level)),
            two_level ? "nv_fp has groups of 16 columns: set group_size to 16"
                      : "nv_fp with ue5m3 scales has groups of 16 or 32 columns: set group_size to one of them");
    require(layer.target == RH_TARGET_WEIGHT || scheme.dynamic != 0 || two_level,
            "nv_fp with ue5m3 scales has nothing to calibrate: set act_dynamic to true");
    make_scaled_layer(layer, dtype.layer);
  }
};

struct NvfpPlugin {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<NvfpDtype>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(NvfpPlugin, "nvfp", "Roundhouse", "0.1.0", "NVFP4 weights and activations")

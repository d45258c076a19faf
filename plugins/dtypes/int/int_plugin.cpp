// SPDX-License-Identifier: Apache-2.0
// The data type "int": integers of 2 to 8 bits with one scale (and, asymmetric, one zero point) for each group.
#include <roundhouse/plugin.hpp>

#include "int_activation.h"
#include "int_weight.h"
#include "plugins/dtypes/lib/affine/affine_check.h"

namespace {

constexpr uint32_t kSupports = kAffineDevices | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_ACTIVATIONS | RH_SUPPORTS_SEARCH |
                               RH_SUPPORTS_TUNING | RH_SUPPORTS_TUNED_SEARCH | RH_SUPPORTS_ENCODED;

class IntDtype : public rh::Dtype {
 public:
  IntDtype()
      : Dtype("int", "integers of 2 to 8 bits, symmetric or asymmetric, with a scale for each group",
              RH_ENCODING_AFFINE_INT, kSupports,
              {{"int_sym", R"({"sym": true})"},
               {"int_asym", R"({"sym": false})"},
               {"int_sym_gptq", R"({"sym": true, "options": {"mirrored": true}})"},
               {"rtn_int_sym", R"({"sym": true, "search": false})"},
               {"rtn_int_asym", R"({"sym": false, "search": false})"},
               {"opt_rtn_int_sym", R"({"sym": true, "search": true})"}},
              R"({"type": "object", "properties": {"mirrored": {"type": "boolean",
                "description": "equal ranges above and below zero, as GPTQ's"}}, "additionalProperties": false})") {}

  void check(const rh_layer& layer) const override {
    const rh_scheme& scheme = *layer.scheme;
    if (layer.target == RH_TARGET_ACTIVATION) {
      rh::require(scheme.dynamic, "int takes the range of activations from each input: set act_dynamic to true");
      rh::require(
          scheme.group_cols != RH_GROUP_TENSOR,
          "int groups activations within a token: set act_group_size to -1 (a token) or to a number of features");
    }
    int_layer(layer);
  }

  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    if (layer.target == RH_TARGET_ACTIVATION) return std::make_unique<IntActivation>(layer);
    return std::make_unique<IntWeight>(layer);
  }

  void check_encoded(const rh_layer& layer) const override {
    const auto encoding = rh::AffineInt::of(*layer.encoding);
    if (layer.target == RH_TARGET_ACTIVATION) with_scheme(layer, encoding, [&](const rh_layer& l) { check(l); });
  }
  std::unique_ptr<rh::Quantizer> create_encoded(const rh_layer& layer) const override {
    if (layer.target == RH_TARGET_WEIGHT) return std::make_unique<rh::EncodedWeight<rh::AffineInt>>(layer);
    std::unique_ptr<rh::Quantizer> made;
    with_scheme(layer, rh::AffineInt::of(*layer.encoding), [&](const rh_layer& l) { made = create(l); });
    return made;
  }

 private:
  // Calls body(layer) with the scheme of which an input's encoding was made.
  template <typename Body>
  static void with_scheme(rh_layer layer, const rh::AffineInt& encoding, Body&& body) {
    const rh_scheme scheme = input_scheme(encoding, "int", layer.cols);
    layer.scheme = &scheme;
    body(layer);
  }
};

struct IntPlugin {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<IntDtype>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(IntPlugin, "int", "Roundhouse", "0.1.0", "integer weights and activations")

// SPDX-License-Identifier: Apache-2.0
// The data types "mx_fp" and "mx_int": OCP Microscaling, groups of 32 elements that share a power of two.
#include <algorithm>
#include <iterator>
#include <roundhouse/encoding/mx.hpp>
#include <roundhouse/plugin.hpp>
#include <string>

#include "plugins/dtypes/lib/options.h"
#include "plugins/dtypes/lib/scaled/scaled_quantizer.h"

using namespace roundhouse::kernels;

namespace {

using rh::require;

constexpr int kGroup = 32;
constexpr float kSecondDivisor = 7.25f;  // arXiv 2607.24377, of fp4_e2m1

constexpr uint32_t kSupports = RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_ACTIVATIONS | RH_SUPPORTS_SEARCH |
                               RH_SUPPORTS_TUNING | RH_SUPPORTS_TUNED_SEARCH | RH_SUPPORTS_ENCODED
#if defined(ROUNDHOUSE_WITH_CUDA)
                               | RH_SUPPORTS_CUDA
#endif
    ;

SmallFloat element_of(int element) {
  constexpr SmallFloat all[RH_MX_ELEMENTS] = {e2m1(), e2m3(), e3m2(), e4m3(), e5m2(), int8(), int4(), int2()};
  return all[element];
}
template <size_t n>
int index_of(const char* const (&names)[n], const std::string& name) {
  return static_cast<int>(std::find(names, names + n, name) - names);
}
bool is_integer(int element) { return element >= RH_MX_INT8; }

ScaledDtype describe(int element, int exponent) {
  ScaledDtype out{};
  out.layer.element = element_of(element);
  out.layer.rule = exponent == RH_MX_FLOOR ? ScaleRule::kFloor : ScaleRule::kCeil;
  out.layer.divisor = exponent == RH_MX_RCEIL_V2 ? kSecondDivisor : out.layer.element.max;
  out.layer.slope = is_integer(element) ? ElementSlope::kNonzero : ElementSlope::kExponent;
  out.layer.signed_zero = true;
  out.element = element;
  out.exponent = exponent;
  out.max_scale = true;
  return out;
}

class MxDtype : public rh::Dtype {
 public:
  MxDtype(bool integer, const char* id, const char* summary, std::vector<rh::Alias> aliases)
      : Dtype(id, summary, RH_ENCODING_MX, kSupports, std::move(aliases),
              R"({"type": "object", "properties": {
                "element": {"enum": ["fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2",
                                     "int8", "int4", "int2"],
                            "description": "by default the first of so many bits"},
                "exponent": {"enum": ["floor", "rceil", "rceil_v2"],
                             "description": "how the shared exponent follows from the largest magnitude"}}})"),
        id_(id),
        integer_(integer) {}

  void check(const rh_layer& layer) const override { check(layer, describe(*layer.scheme)); }
  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<ScaledQuantizer>(layer, describe(*layer.scheme));
  }

  std::unique_ptr<rh::Quantizer> create_encoded(const rh_layer& layer) const override {
    const auto made = rh::Mx::of(*layer.encoding);
    require(is_integer(made.element) == integer_, id_ + " has no elements " + made.name());
    if (layer.target == RH_TARGET_WEIGHT) return std::make_unique<rh::EncodedWeight<rh::Mx>>(layer);
    require(made.dynamic == RH_INPUT_DYNAMIC, id_ + " takes the range of activations from each input");
    rh_scheme scheme = input_scheme(id_.c_str(), made.code_bits(), made.group_cols, layer.cols, made.dynamic);
    if (scheme.group_cols == RH_GROUP_ROW) scheme.group_cols = kGroup;  // a narrow layer's only group
    rh_layer input = layer;
    input.scheme = &scheme;
    const ScaledDtype dtype = ::describe(made.element, made.exponent);
    check(input, dtype);
    return std::make_unique<ScaledQuantizer>(input, dtype);
  }

 private:
  void check(const rh_layer& layer, const ScaledDtype& dtype) const {
    const rh_scheme& scheme = *layer.scheme;
    check_scaled(layer, id_);
    require(scheme.group_rows == 1 && scheme.group_cols == kGroup,
            id_ + " has groups of 32 columns: set group_size to 32");
    require(scheme.scale_dtype.bits == 0, id_ + " has 8-bit exponents as scales: omit scale_dtype");
    make_scaled_layer(layer, dtype.layer);
  }

  ScaledDtype describe(const rh_scheme& scheme) const {
    std::vector<std::string> names;
    std::string widths;
    for (int e = 0; e < RH_MX_ELEMENTS; ++e) {
      if (is_integer(e) != integer_) continue;
      if (element_of(e).bits == scheme.bits) names.push_back(rh_mx_names[e]);
      const std::string bits = std::to_string(element_of(e).bits);
      if (widths.find(bits) == std::string::npos) widths += (widths.empty() ? "" : ", ") + bits;
    }
    require(!names.empty(), id_ + " has elements of " + widths + " bits, not " + std::to_string(scheme.bits));
    const Options options(id_.c_str(), scheme.options_json,
                          {{"element", names}, {"exponent", {std::begin(rh_mx_exponents), std::end(rh_mx_exponents)}}});
    const int element = index_of(rh_mx_names, options["element"]);
    const int exponent = index_of(rh_mx_exponents, options["exponent"]);
    require(exponent != RH_MX_RCEIL_V2 || element == RH_MX_FP4_E2M1, id_ + ": exponent rceil_v2 is for fp4_e2m1");
    return ::describe(element, exponent);
  }

  std::string id_;
  bool integer_;
};

struct MxPlugin {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<MxDtype>(
        false, "mx_fp", "OCP Microscaling floats of 4, 6 or 8 bits; 32 share a power of two",
        std::vector<rh::Alias>{
            {"mx_fp4", R"({"bits": 4})"},
            {"mx_fp6", R"({"bits": 6})"},
            {"mx_fp8", R"({"bits": 8})"},
            {"mx_fp4e2m1", R"({"bits": 4})"},
            {"mx_fp6e2m3", R"({"bits": 6, "options": {"element": "fp6_e2m3"}})"},
            {"mx_fp6e3m2", R"({"bits": 6, "options": {"element": "fp6_e3m2"}})"},
            {"mx_fp8e4m3", R"({"bits": 8, "options": {"element": "fp8_e4m3"}})"},
            {"mx_fp8e5m2", R"({"bits": 8, "options": {"element": "fp8_e5m2"}})"},
            {"mx_fp_rceil", R"({"options": {"exponent": "rceil"}})"},
            {"mx_fp4_rceil", R"({"bits": 4, "options": {"exponent": "rceil"}})"},
            {"mx_fp6_rceil", R"({"bits": 6, "options": {"exponent": "rceil"}})"},
            {"mx_fp8_rceil", R"({"bits": 8, "options": {"exponent": "rceil"}})"},
            {"mx_fp4e2m1_rceil", R"({"bits": 4, "options": {"exponent": "rceil"}})"},
            {"mx_fp6e2m3_rceil", R"({"bits": 6, "options": {"element": "fp6_e2m3", "exponent": "rceil"}})"},
            {"mx_fp6e3m2_rceil", R"({"bits": 6, "options": {"element": "fp6_e3m2", "exponent": "rceil"}})"},
            {"mx_fp8e4m3_rceil", R"({"bits": 8, "options": {"element": "fp8_e4m3", "exponent": "rceil"}})"},
            {"mx_fp8e5m2_rceil", R"({"bits": 8, "options": {"element": "fp8_e5m2", "exponent": "rceil"}})"},
            {"mx_fp4_rceil_v2", R"({"bits": 4, "options": {"exponent": "rceil_v2"}})"},
            {"rtn_mx_fp", R"({"search": false})"},
            {"opt_rtn_mx_fp", R"({"search": true})"},
            {"opt_rtn_mx_fp4e2m1", R"({"bits": 4, "search": true})"},
            {"opt_rtn_mx_fp6e2m3", R"({"bits": 6, "search": true, "options": {"element": "fp6_e2m3"}})"},
            {"opt_rtn_mx_fp6e3m2", R"({"bits": 6, "search": true, "options": {"element": "fp6_e3m2"}})"},
            {"opt_rtn_mx_fp8e4m3", R"({"bits": 8, "search": true, "options": {"element": "fp8_e4m3"}})"},
            {"opt_rtn_mx_fp8e5m2", R"({"bits": 8, "search": true, "options": {"element": "fp8_e5m2"}})"}}));
    contents.dtypes.push_back(std::make_unique<MxDtype>(
        true, "mx_int", "OCP Microscaling integers of 8 bits, and so of 4 and 2; 32 share a power of two",
        std::vector<rh::Alias>{{"mx_int8", R"({"bits": 8})"},
                               {"mx_int4", R"({"bits": 4})"},
                               {"mx_int2", R"({"bits": 2})"},
                               {"mx_int_rceil", R"({"options": {"exponent": "rceil"}})"},
                               {"mx_int8_rceil", R"({"bits": 8, "options": {"exponent": "rceil"}})"},
                               {"mx_int4_rceil", R"({"bits": 4, "options": {"exponent": "rceil"}})"},
                               {"mx_int2_rceil", R"({"bits": 2, "options": {"exponent": "rceil"}})"},
                               {"rtn_mx_int", R"({"search": false})"},
                               {"opt_rtn_mx_int", R"({"search": true})"}}));
    return contents;
  }
};

}  // namespace

RH_PLUGIN(MxPlugin, "mxfp", "Roundhouse", "0.1.0", "OCP Microscaling weights and activations")

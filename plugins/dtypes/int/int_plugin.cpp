// The data type "int": integers of 2 to 8 bits with one scale (and, asymmetric, one zero point) for each group.
#include <roundhouse/plugin.hpp>
#include <string>

#include "int_quantizer.h"

namespace {

using rh::require;

constexpr uint32_t kSupports = RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_TUNING
#if defined(ROUNDHOUSE_WITH_CUDA)
                               | RH_SUPPORTS_CUDA
#endif
    ;

class IntDtype : public rh::Dtype {
 public:
  IntDtype()
      : Dtype("int", "integers of 2 to 8 bits, symmetric or asymmetric, with a scale for each group",
              RH_ENCODING_AFFINE_INT, kSupports,
              {{"int_sym", R"({"sym": true})"},
               {"int_asym", R"({"sym": false})"},
               {"rtn_int_sym", R"({"sym": true, "search": false})"},
               {"rtn_int_asym", R"({"sym": false, "search": false})"}}) {}

  void check(const rh_layer& layer) const override {
    const rh_scheme& scheme = *layer.scheme;
    require(layer.target == RH_TARGET_WEIGHT,
            "int quantizes weights only: leave act_bits at 16, or give the activation another data type");
    require(scheme.bits >= 2 && scheme.bits <= 8, "int has 2 to 8 bits, not " + std::to_string(scheme.bits));
    require(scheme.rounding == RH_ROUNDING_PLAIN || scheme.rounding == RH_ROUNDING_TUNED,
            "int does not search for scales: set search to false for plain rounding, or tune (iters above 0)");
    require(scheme.group_rows == 1,
            "int has groups of columns within a row: set group_size to one number (128), to -1 "
            "(a row) or to 0 (the whole tensor)");
    require(scheme.group_cols >= RH_GROUP_ROW, "group_size " + std::to_string(scheme.group_cols) +
                                                   " is no group: set a number of columns, -1 (a row) or 0 (the whole "
                                                   "tensor)");
    require(scheme.super_bits == 0 && scheme.super_group == 0,
            "int does not quantize its scales: leave super_bits and super_group_size away");
    require(std::string(scheme.options_json) == "{}", "int has no options of its own");
    require(layer.rows >= 1 && layer.cols >= 1, "a weight needs at least one row and one column");
    make_affine_layer(layer);
  }

  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<IntQuantizer>(layer);
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

RH_PLUGIN(IntPlugin, "int", "Roundhouse", "0.1.0", "integer weights")

// SPDX-License-Identifier: Apache-2.0
#include "int_weight.h"

#include "plugins/dtypes/lib/affine/affine_check.h"
#include "plugins/dtypes/lib/affine/affine_run.h"
#include "plugins/dtypes/lib/options.h"

using namespace roundhouse::kernels;

namespace {

// Mirrored ranges are rounded plainly, and not tuned from a search. The reference does not search 8 bits either; here
// that is as any other width.
bool searches(const rh_scheme& scheme, bool mirrored) {
  return (scheme.rounding == RH_ROUNDING_SEARCH || scheme.rounding == RH_ROUNDING_TUNED_SEARCH) && !mirrored;
}

}  // namespace

AffineLayer int_layer(const rh_layer& layer) {
  const rh_scheme& scheme = *layer.scheme;
  const bool mirrored = Options("int", scheme.options_json, {{"mirrored", {"false", "true"}}})["mirrored"] == "true";
  rh::require(!mirrored || scheme.symmetric, "mirrored ranges are symmetric: set sym to true, or omit mirrored");
  AffineLayer out = affine_layer(layer, "int", scale_type(scheme));
  out.mirrored = mirrored;
  const bool tuned = scheme.rounding == RH_ROUNDING_TUNED_SEARCH;
  rh::require(!tuned || searches(scheme, mirrored),
              "int does not search for mirrored ranges, so tuning cannot start from that: omit mirrored, or set "
              "tuning.algorithm to signround");
  if (!searches(scheme, mirrored)) return out;
  rh::require(!out.whole_tensor,
              "int does not search for the scale of a whole tensor: set group_size to a number of columns or to -1 (a "
              "row), or search to false (with tuning, tuning.algorithm to signround)");
  if (tuned) {
    out.range_limit = kSearchedRangeLimit;
    return out;
  }
  if (!out.symmetric) return out;
  // Found in the weight's arithmetic, and not rounded further.
  return affine_layer(layer, "int", out.weight);
}

IntWeight::IntWeight(const rh_layer& layer)
    : AffineQuantizer(layer, int_layer(layer), false), searches_(searches(*layer.scheme, layer_.mirrored)) {}

void IntWeight::prepare(const rh_exec& exec, const rh_prepare_args& args) {
  auto* low = rh::data<float>(*args.states[kLow]);
  auto* high = rh::data<float>(*args.states[kHigh]);
  find_range(exec, args.input->data, low, high);
  if (!searches_) return;
  if (args.importance)
    rh::require(rh::same_type(args.importance->dtype, rh::kF32) && rh::elements(*args.importance) == layer_.cols,
                name_ + ": the importance must be float32 [" + std::to_string(layer_.cols) +
                    "], one for each column; it has " + std::to_string(rh::elements(*args.importance)) + " elements");
  AffineLayer searched = layer_;
  searched.tuned = layer_.range_limit > 1;
  run_search(exec, searched, {args.input->data, rh::data_or_null<const float>(args.importance)}, low, high);
}

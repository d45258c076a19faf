// SPDX-License-Identifier: Apache-2.0
#include "fp8_to_int_sym_weight.h"

#include <cmath>

#include "plugins/dtypes/lib/affine/affine_check.h"
#include "plugins/dtypes/lib/affine/affine_run.h"
#include "plugins/dtypes/lib/options.h"

using namespace roundhouse::kernels;

namespace {

constexpr const char* kMaxScale = "weight_fp8_max_scale";

Options options(const rh_scheme& scheme) { return {"fp8_to_int_sym", scheme.options_json, {{kMaxScale, {}}}}; }

}  // namespace

AffineLayer fp8_to_int_layer(const rh_layer& layer) {
  const rh_scheme& scheme = *layer.scheme;
  rh::require(scheme.symmetric, "fp8_to_int_sym is symmetric: set sym to true");
  rh::require(scheme.scale_dtype.bits == 0 || scale_type(scheme) == Element::kBF16,
              "fp8_to_int_sym has bfloat16 scales: omit scale_dtype");
  options(scheme);  // checks them
  AffineLayer out = affine_layer(layer, "fp8_to_int_sym", Element::kBF16);
  out.plus_zero = true;
  return out;
}

Fp8ToIntWeight::Fp8ToIntWeight(const rh_layer& layer)
    : AffineQuantizer(layer, fp8_to_int_layer(layer), true),
      max_scale_(static_cast<float>(options(*layer.scheme).number(kMaxScale, 1.0))) {}

// In prepare: what the range of the whole weight needs, AffineSums [rows], and that range.
uint64_t Fp8ToIntWeight::workspace_size(int32_t operation, int32_t device_type, int64_t rows) const {
  if (operation != RH_OP_PREPARE) return AffineQuantizer::workspace_size(operation, device_type, rows);
  return static_cast<uint64_t>(rows) * sizeof(AffineSums) + 2 * sizeof(float);
}

void Fp8ToIntWeight::prepare(const rh_exec& exec, const rh_prepare_args& args) {
  AffineLayer whole = layer_;
  whole.whole_tensor = true;
  whole.span_cols = whole.cols;
  auto* range = reinterpret_cast<float*>(static_cast<AffineSums*>(exec.workspace) + layer_.rows);
  run_range(exec, whole, args.input->data, range, range + 1);
  // On CUDA, reading would mean waiting for the stream.
  rh::require(exec.device.type != RH_DEVICE_CPU || std::isfinite(range[0]),
              name_ + ": the weight holds NaN or infinity: the checkpoint is damaged");
  void* rounded = args.states[kRounded]->data;
  run_progressive(
      exec, whole,
      {args.input->data, range, range + 1, max_scale_, rounded, rh::data<float>(*args.states[kOuterScale])});
  find_range(exec, rounded, rh::data<float>(*args.states[kLow]), rh::data<float>(*args.states[kHigh]));
}

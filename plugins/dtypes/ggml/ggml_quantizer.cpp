// SPDX-License-Identifier: Apache-2.0
#include "ggml_quantizer.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <vector>

#include "block_layout.h"
#include "kernels/cpu/affine.h"
#include "kernels/cpu/ggml.h"
#include "kernels/cpu/reduce.h"
#include "kernels/ggml_math.h"
#include "plugins/dtypes/lib/element_types.h"
#include "plugins/dtypes/lib/options.h"
#include "plugins/dtypes/lib/run.h"
#include "search.h"
#if defined(ROUNDHOUSE_WITH_CUDA)
#include "encode_cuda.h"
#endif

namespace roundhouse::ggml {

using namespace kernels;

namespace {

// Order of the tunables, states and results.
enum { kV, kMinScale, kMaxScale };
enum { kLow, kHigh };
enum { kD, kDmin, kScaleCode, kMinimumCode };  // searched

// The defaults of auto-round's functions, which its own runs set to float32 and 1e-8.
constexpr Element kReferenceScale = Element::kF16;
constexpr float kReferenceThreshold = 1e-5f;
constexpr float kThreshold = 1e-8f;

#if defined(ROUNDHOUSE_WITH_CUDA)
using Cuda = GgmlCuda;
#else
struct Cuda;
#endif

// body(begin, end) for chunks of blocks.
template <typename Body>
void for_blocks(const GgmlLayer& layer, Body&& body) {
  for_span_chunks(ggml_blocks(layer), layer.block_cols, body);
}

// Hands out the results that forward() was asked for, in the order of their declaration.
class Results {
 public:
  explicit Results(rh_tensor* const* tensors) : tensors_(tensors) {}
  template <typename T = float>
  T* next(bool declared = true) {
    return declared ? rh::data_or_null<T>(rh::at(tensors_, next_++)) : nullptr;
  }

 private:
  rh_tensor* const* tensors_;
  size_t next_ = 0;
};

}  // namespace

bool has_reference(BlockType type) { return !facts(type).symmetric || facts(type).super_bits != 0; }

bool wants_reference(BlockType type, const rh_scheme& scheme) {
  const BlockFacts fact = facts(type);
  OptionChoices choices;
  if (has_reference(type)) choices.push_back({"arithmetic", {"block", "reference"}});
  if (fact.super_bits != 0) {
    choices.push_back({"super_bits", {std::to_string(fact.super_bits)}});
    choices.push_back({"super_group_size", {std::to_string(fact.groups())}});
  }
  const Options options(fact.name, scheme.options_json, choices);
  return has_reference(type) && options["arithmetic"] == "reference";
}

GgmlLayer make_ggml_layer(BlockType type, const rh_layer& layer) {
  const rh_scheme& scheme = *layer.scheme;
  GgmlLayer out = layer_of(type);
  out.rows = layer.rows;
  out.cols = layer.cols;
  out.searched = scheme.rounding == RH_ROUNDING_SEARCH || scheme.rounding == RH_ROUNDING_TUNED_SEARCH;
  out.reference = !out.searched && has_reference(type) && wants_reference(type, scheme);
  out.weight = element_of(layer.dtype, "the weight");
  out.scale = Element::kF32;
  out.scale_threshold = kThreshold;
  if (out.reference) {
    out.scale = scheme.scale_dtype.bits == 0 ? kReferenceScale : element_of(scheme.scale_dtype, "scale_dtype");
    const float by_default = out.scale == Element::kF32 ? kThreshold : kReferenceThreshold;
    out.scale_threshold = scheme.scale_threshold > 0 ? scheme.scale_threshold : by_default;
  }
  return out;
}

GgmlQuantizer::GgmlQuantizer(BlockType type, const rh_layer& layer)
    : type_(type),
      name_(layer.name),
      layer_(make_ggml_layer(type, layer)),
      matrix_rows_(layer.rows / std::max(1u, layer.matrices)) {
  info_.flags = RH_QUANTIZER_ROWS_INDEPENDENT | (layer_.searched ? RH_QUANTIZER_CPU_PREPARE : 0);
  const int64_t groups = ggml_groups(layer_), blocks = ggml_blocks(layer_);
  tunables_.add("v", rh::kF32, {groups, layer_.group_cols}).lr_group = RH_LR_ROUNDING;
  if (layer_.searched) {
    states_.add("d", rh::kF32, {blocks});
    states_.add("dmin", rh::kF32, {blocks});
    states_.add("scale_code", rh::kF32, {groups});
    states_.add("minimum_code", rh::kF32, {groups});
  } else {
    for (const char* name : {"min_scale", "max_scale"}) {
      rh_tensor_spec& spec = tunables_.add(name, rh::kF32, {groups});
      spec.lr_group = RH_LR_RANGE;
      spec.initial = 1;
      spec.clamp_min = 0;
      spec.clamp_max = 1;
    }
    states_.add("minimum", rh::kF32, {groups});
    states_.add("maximum", rh::kF32, {groups});
  }

  // auto-round's names; forward() fills them in this order.
  const bool super = layer_.super_bits != 0;
  results_.add(super ? "scale.scale" : "scale", super ? rh::kF32 : type_of(layer_.scale), {groups, 1});
  if (super) results_.add("scale.d_scale", rh::kF32, {blocks, 1});
  if (!layer_.symmetric && !fractional_codes(layer_)) results_.add("zp.wmin", rh::kF32, {groups, 1});
  if (!layer_.symmetric && super) results_.add("zp.d_wmin", rh::kF32, {blocks, 1});
  if (layer_.symmetric || fractional_codes(layer_)) results_.add("zp", rh::kF32, {groups, 1});

  if (layer_.reference) return;  // no block holds what this arithmetic gives
  encoding_ = rh::Encoding(rh::GgmlBlock(static_cast<int>(type)), layer_.rows, layer_.cols);
}

GgmlInput GgmlQuantizer::input_of(const rh_tensor* weight, const rh_tensor* const* tunables,
                                  const rh_tensor* const* states) const {
  const auto tunable = [&](size_t i) { return rh::data_or_null<const float>(rh::at(tunables, i)); };
  const auto state = [&](size_t i) { return rh::data<const float>(*states[i]); };
  GgmlInput input{};
  input.weight = weight->data;
  input.v = tunable(kV);
  if (layer_.searched) {
    input.d = state(kD);
    input.dmin = state(kDmin);
    input.scale_code = state(kScaleCode);
    input.minimum_code = state(kMinimumCode);
  } else {
    input.min_scale = tunable(kMinScale);
    input.max_scale = tunable(kMaxScale);
    input.low = state(kLow);
    input.high = state(kHigh);
  }
  return input;
}

void GgmlQuantizer::prepare(const rh_exec& exec, const rh_prepare_args& args) {
  if (ran_on<Cuda>(exec, [&](const auto& cuda) {
        const auto state = [&](size_t i) { return rh::data<float>(*args.states[i]); };
        const char* const failure = cuda.range(layer_, args.input->data, state(kLow), state(kHigh));
        return failure ? failure : cuda.check(layer_, input_of(args.input, nullptr, args.states), status_of(exec));
      }))
    return;
  std::vector<float> ranges(layer_.searched ? 2 * ggml_groups(layer_) : 0);
  float* low = layer_.searched ? ranges.data() : rh::data<float>(*args.states[kLow]);
  float* high = layer_.searched ? low + ggml_groups(layer_) : rh::data<float>(*args.states[kHigh]);
  for_blocks(layer_,
             [&](int64_t begin, int64_t end) { ggml_cpu().range(layer_, args.input->data, low, high, begin, end); });
  check_finite(low);
  if (layer_.searched) search(args);
  check_scales(low, high, input_of(args.input, nullptr, args.states));
}

void GgmlQuantizer::search(const rh_prepare_args& args) const {
  const int64_t cols = layer_.cols, blocks = cols / layer_.block_cols;
  const int per_block = ggml_block_groups(layer_);
  const auto* importance = rh::data_or_null<const float>(args.importance);
  const auto state = [&](size_t i) { return rh::data<float>(*args.states[i]); };
  // What a type does not have stays so.
  std::fill_n(state(kDmin), ggml_blocks(layer_), 0.0f);
  std::fill_n(state(kMinimumCode), ggml_groups(layer_), 1.0f);
  rh::parallel_for(layer_.rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> weight(cols);
    std::vector<GgmlBlock> found(blocks);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t i = 0; i < cols; ++i) weight[i] = load_element(layer_.weight, args.input->data, row * cols + i);
      search_row(type_, weight.data(), cols, importance ? importance + row / matrix_rows_ * cols : nullptr,
                 found.data());
      for (int64_t i = 0; i < blocks; ++i) {
        const int64_t block = row * blocks + i, group = block * per_block;
        state(kD)[block] = found[i].d;
        std::copy_n(found[i].scale_code, per_block, state(kScaleCode) + group);
        if (layer_.symmetric) continue;
        state(kDmin)[block] = found[i].dmin;
        std::copy_n(found[i].minimum_code, per_block, state(kMinimumCode) + group);
      }
    }
  });
}

std::string GgmlQuantizer::place(int64_t first, int64_t count) const {
  const int64_t row = first / layer_.cols, col = first % layer_.cols;
  std::ostringstream text;
  text << name_ << ": the weight in row " << row << ", columns " << col << " to " << col + count - 1 << ",";
  return text.str();
}

void GgmlQuantizer::check_finite(const float* low) const {
  const bool finite = std::isfinite(largest_at(ggml_groups(layer_), [&](int64_t i) { return -low[i]; }));
  for (int64_t i = 0; !finite && i < ggml_groups(layer_); ++i)
    if (std::isnan(low[i]))
      throw rh::Error(RH_INVALID_ARGUMENT, place(i * layer_.group_cols, layer_.group_cols) +
                                               " holds NaN or infinity: the checkpoint is damaged");
}

void GgmlQuantizer::check_scales(const float* low, const float* high, const GgmlInput& input) const {
  const int groups = ggml_block_groups(layer_);
  const auto fits = [&](const GgmlInput& from, int64_t i) {
    GgmlBlock block;
    ggml_block(layer_, from, i, block);
    return std::isfinite(block.d) && std::isfinite(block.dmin);
  };
  // Scales grow with the ranges: where those of a block of the widest fit, all do.
  GgmlInput widest = input;
  float lows[kMostGroups], highs[kMostGroups];
  range_of_ranges(ggml_groups(layer_), low, high, lows, highs);
  std::fill_n(lows, kMostGroups, lows[0]);
  std::fill_n(highs, kMostGroups, highs[0]);
  widest.low = lows;
  widest.high = highs;
  const bool all_fit = !layer_.searched && fits(widest, 0);
  for (int64_t i = 0; !all_fit && i < ggml_blocks(layer_); ++i) {
    if (fits(input, i)) continue;
    std::ostringstream message;
    message << place(i * layer_.block_cols, layer_.block_cols) << " ranges from "
            << *std::min_element(low + i * groups, low + (i + 1) * groups) << " to "
            << *std::max_element(high + i * groups, high + (i + 1) * groups)
            << ", which needs a scale beyond float16: give this layer another data type";
    throw rh::Error(RH_INVALID_ARGUMENT, message.str());
  }
}

void GgmlQuantizer::forward(const rh_exec& exec, const rh_forward_args& args) {
  const GgmlInput input = input_of(args.input, args.tunables, args.states);
  GgmlOutput output{};
  output.qdq = args.output->data;
  output.qdq_type = element_of(args.output->dtype, "the output");
  const bool super = layer_.super_bits != 0, fractional = fractional_codes(layer_);
  Results results(args.results);
  output.scale = results.next<void>();
  output.d = results.next(super);
  output.minimum = results.next(!layer_.symmetric && !fractional);
  output.dmin = results.next(!layer_.symmetric && super);
  output.zero_point = results.next(layer_.symmetric || fractional);
  if (ran_on<Cuda>(exec, [&](const auto& cuda) { return cuda.forward(layer_, input, output); })) return;
  for_blocks(layer_, [&](int64_t begin, int64_t end) { ggml_cpu().forward(layer_, input, output, begin, end); });
}

void GgmlQuantizer::backward(const rh_exec& exec, const rh_backward_args& args) {
  if (args.grad_input) throw rh::Error(RH_UNIMPLEMENTED, "ggml gives no gradient of the weight itself");
  const GgmlInput input = input_of(args.input, args.tunables, args.states);
  const OutputGradient gradient{args.grad_output->data, element_of(args.grad_output->dtype, "the gradient")};
  Results gradients(args.grad_tunables);
  TunableGradients output{gradients.next(), nullptr, nullptr};
  output.min_scale = gradients.next(!layer_.searched);
  output.max_scale = gradients.next(!layer_.searched);
  if (ran_on<Cuda>(exec, [&](const auto& cuda) { return cuda.backward(layer_, input, gradient, output); })) return;
  for_blocks(layer_,
             [&](int64_t begin, int64_t end) { ggml_cpu().backward(layer_, input, gradient, output, begin, end); });
}

void GgmlQuantizer::sign_step(const rh_exec& exec, const rh_sign_step_args& args) {
  const GgmlInput input = input_of(args.input, args.tunables, args.states);
  const OutputGradient gradient{args.grad_output->data, element_of(args.grad_output->dtype, "the gradient")};
  Results tunables(args.tunables);
  TunableStep step{tunables.next(), nullptr, nullptr, rh::data<float>(*args.learning_rates[RH_LR_ROUNDING]),
                   rh::data<float>(*args.learning_rates[RH_LR_RANGE])};
  step.min_scale = tunables.next(!layer_.searched);
  step.max_scale = tunables.next(!layer_.searched);
  if (ran_on<Cuda>(exec, [&](const auto& cuda) { return cuda.sign_step(layer_, input, gradient, step); })) return;
  for_blocks(layer_,
             [&](int64_t begin, int64_t end) { ggml_cpu().sign_step(layer_, input, gradient, step, begin, end); });
}

void GgmlQuantizer::encode(const rh_exec& exec, const rh_encode_args& args) {
  const GgmlInput input = input_of(args.input, args.tunables, args.states);
  auto* blocks = rh::data<uint8_t>(*args.tensors[0]);
  if (ran_on<Cuda>(exec, [&](const auto& cuda) { return encode_cuda(cuda, type_, layer_, input, blocks); })) return;
  rh::ggml::with_type(static_cast<int>(type_), [&](auto known) {
    constexpr auto type = static_cast<BlockType>(known());
    for_blocks(layer_, [&](int64_t begin, int64_t end) {
      GgmlBlock found[kLanes];
      uint8_t codes[kLanes * kMostBlockCols];
      for (int64_t first = begin; first < end; first += kLanes) {
        const int64_t last = std::min<int64_t>(first + kLanes, end);
        ggml_cpu().codes(layer_, input, codes, found, first, last);
        for (int64_t i = first; i < last; ++i)
          pack_block(type, found[i - first], codes + (i - first) * facts(type).block_cols,
                     blocks + i * facts(type).block_bytes);
      }
    });
  });
}

void GgmlQuantizer::decode(const rh_exec& exec, const rh_decode_args& args) {
  if (exec.device.type != RH_DEVICE_CPU) throw rh::Error(RH_UNIMPLEMENTED, "blocks of ggml are decoded on the CPU");
  rh::GgmlBlock(static_cast<int>(type_)).decode(*encoding_.get(), args.tensors, *args.output);
}

}  // namespace roundhouse::ggml

// SPDX-License-Identifier: Apache-2.0
// NF4: four bits whose values are the quantiles of a normal distribution, a float16 scale for each group of columns,
// tuned rounding. AutoRound has no such data type, and the host knows nothing of it or of its encoding.
//   scale = max |w|    x = w / scale    code = the value nearest to x + v * (width of x's cell)
#include <algorithm>
#include <cmath>
#include <roundhouse/plugin.hpp>

#include "nf4.h"

namespace {

int code_of(float x) {
  int code = 0;
  for (int i = 0; i < 15; ++i) code += x > (kNf4[i] + kNf4[i + 1]) / 2;
  return code;
}

// Between the middles on both sides of a value: v = 0.5 moves by half of it, as with integers.
float cell_width(int code) { return (kNf4[std::min(code + 1, 15)] - kNf4[std::max(code - 1, 0)]) / 2; }

class Nf4Quantizer : public rh::Quantizer {  // of one layer, [rows, cols]
 public:
  explicit Nf4Quantizer(const rh_layer& layer) : name_(layer.name), cols_(layer.cols), made_{group_cols(layer)} {
    encoding_ = rh::Encoding(made_, layer.rows, cols_);
    info_.flags = RH_QUANTIZER_ROWS_INDEPENDENT;
    rh_tensor_spec& v = tunables_.add("v", rh::kF32, {layer.rows, cols_});
    v.lr_group = RH_LR_ROUNDING;
    v.clamp_min = -0.5;
    v.clamp_max = 0.5;
    states_.add("scale", rh::kF32, {layer.rows, made_.groups(cols_)});
  }

  void prepare(const rh_exec&, const rh_prepare_args& args) override {
    float* const scale = rh::data<float>(*args.states[0]);
    std::fill_n(scale, rh::elements(*args.states[0]), 0.0f);
    each(*args.input, [&](int64_t i, int64_t g) {
      const float size = std::fabs(rh_load(args.input, i));
      if (!std::isfinite(size)) throw rh::Error(RH_INVALID_ARGUMENT, name_ + ": a weight is NaN or infinite");
      scale[g] = std::max(scale[g], size);
    });
    for (int64_t g = 0; g < rh::elements(*args.states[0]); ++g) {
      scale[g] = rh_rounded(rh::kF16, scale[g]);
      rh::require(std::isfinite(scale[g]), name_ + ": a scale is too large for float16");
      if (scale[g] == 0) scale[g] = 1;  // only zeros
    }
  }

  void forward(const rh_exec&, const rh_forward_args& args) override {
    each_code(*args.input, args.tunables, args.states, [&](int64_t i, int code, float scale, float, float) {
      rh_store(args.output, i, rh_rounded(args.input->dtype, kNf4[code] * scale));
    });
  }

  void backward(const rh_exec&, const rh_backward_args& args) override {
    rh::require(!args.grad_input, "there is no gradient of the weight itself");
    rh_tensor* const grad = rh::at(args.grad_tunables, 0);
    if (!grad) return;
    // Rounding passes the gradient on; beyond the ends nothing moves.
    each_code(*args.input, args.tunables, args.states, [&](int64_t i, int, float scale, float x, float width) {
      rh_store(grad, i, std::fabs(x) <= 1 ? rh_load(args.grad_output, i) * scale * width : 0);
    });
  }

  void encode(const rh_exec&, const rh_encode_args& args) override {
    each_code(*args.input, args.tunables, args.states, [&](int64_t i, int code, float, float, float) {
      rh::data<uint8_t>(*args.tensors[0])[i] = static_cast<uint8_t>(code);
    });
    for (int64_t g = 0; g < rh::elements(*args.states[0]); ++g)
      rh_store(args.tensors[1], g, rh::data<float>(*args.states[0])[g]);
  }

  void decode(const rh_exec&, const rh_decode_args& args) override {
    made_.decode(*encoding_.get(), args.tensors, *args.output);
  }

 private:
  // What was asked; from here on only what is made counts.
  static int64_t group_cols(const rh_layer& layer) {
    const int64_t wanted = layer.scheme->group_cols;
    return wanted == RH_GROUP_ROW ? layer.cols : std::min(wanted, layer.cols);
  }
  // body(element, its group) for every element of a [rows, cols] tensor, rows on the host's threads.
  template <typename Body>
  void each(const rh_tensor& tensor, Body&& body) const {
    rh::parallel_for(tensor.shape[0], 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < cols_; ++c) body(r * cols_ + c, r * made_.groups(cols_) + c / made_.group_cols);
    });
  }
  // body(element, its code, its scale, what was rounded, the cell's width).
  template <typename Body>
  void each_code(const rh_tensor& weight, const rh_tensor* const* tunables, const rh_tensor* const* states,
                 Body&& body) const {
    const float* const v = rh::data_or_null<float>(rh::at(tunables, 0));
    const float* const scale = rh::data<float>(*states[0]);
    each(weight, [&](int64_t i, int64_t g) {
      const float plain = rh_load(&weight, i) / scale[g], width = cell_width(code_of(plain));
      const float x = plain + (v ? std::clamp(v[i], -0.5f, 0.5f) * width : 0);
      body(i, code_of(x), scale[g], x, width);
    });
  }

  std::string name_;
  int64_t cols_;
  Nf4Encoding made_;
};

class Nf4 : public rh::Dtype {
 public:
  Nf4()
      : Dtype("nf4", "Four bits at the quantiles of a normal distribution, float16 scales.", Nf4Encoding::kId,
              RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_TUNING | RH_SUPPORTS_ENCODED,
              {{"nf4", R"({"bits": 4, "sym": true})"}}) {}

  void check(const rh_layer& layer) const override {
    const rh_scheme& scheme = *layer.scheme;
    rh::require(layer.target == RH_TARGET_WEIGHT, "nf4 quantizes weights, not activations");
    rh::require(rh_is_float(layer.dtype), "nf4 takes weights of float32, float16 or bfloat16");
    rh::require(scheme.bits == 4 && scheme.symmetric, "nf4 has 4 bits and no zero point: set bits: 4 and sym: true");
    rh::require(scheme.rounding == RH_ROUNDING_PLAIN || scheme.rounding == RH_ROUNDING_TUNED,
                "nf4 has no searched rounding");
    rh::require(scheme.group_rows == 1 && scheme.group_cols != RH_GROUP_TENSOR,
                "nf4 groups columns of a row: set group_size to a number of columns, or -1 for a row");
  }
  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<Nf4Quantizer>(layer);
  }
  std::unique_ptr<rh::Quantizer> create_encoded(const rh_layer& layer) const override {
    return std::make_unique<rh::EncodedWeight<Nf4Encoding>>(layer);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<Nf4>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(Definition, "nf4", "Example", "1.0.0", "The data type NF4.")

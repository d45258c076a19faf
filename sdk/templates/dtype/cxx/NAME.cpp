// SPDX-License-Identifier: Apache-2.0
// @NAME@: symmetric integers of 2 to 8 bits, a float16 scale for each group of columns, tuned rounding.
//   scale = max |w| / (2^(bits-1) - 1)    q = clamp(round(w / scale + v))    output = q * scale
// It emits affine-int/1, so every format that packs that can hold it. Change the arithmetic, keep the shape.
#include <algorithm>
#include <cmath>
#include <roundhouse/encoding/affine_int.hpp>
#include <roundhouse/plugin.hpp>

namespace {

class MyQuantizer : public rh::Quantizer {  // of one layer, [rows, cols]
 public:
  explicit MyQuantizer(const rh_layer& layer)
      : name_(layer.name),
        cols_(layer.cols),
        made_(layer.scheme->bits, true, 1, group_cols(layer)),
        largest_(float(made_.symmetric_zero_point() - 1)) {
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
      scale[g] = rh_rounded(rh::kF16, scale[g] / largest_);
      rh::require(std::isfinite(scale[g]), name_ + ": a scale is too large for float16");
      if (scale[g] == 0) scale[g] = 1;  // only zeros
    }
  }

  void forward(const rh_exec&, const rh_forward_args& args) override {
    const float* const scale = rh::data<float>(*args.states[0]);
    const float* const v = rh::data_or_null<float>(rh::at(args.tunables, 0));
    each(*args.input, [&](int64_t i, int64_t g) {
      rh_store(args.output, i, rh_rounded(args.input->dtype, quantized(*args.input, scale, v, i, g) * scale[g]));
    });
  }

  void backward(const rh_exec&, const rh_backward_args& args) override {
    rh::require(!args.grad_input, "there is no gradient of the weight itself");
    const float* const scale = rh::data<float>(*args.states[0]);
    const float* const v = rh::data_or_null<float>(rh::at(args.tunables, 0));
    rh_tensor* const grad = rh::at(args.grad_tunables, 0);
    if (!grad) return;
    each(*args.input, [&](int64_t i, int64_t g) {  // rounding passes the gradient on, clamping does not
      const float before = rh_load(args.input, i) / scale[g] + offset(v, i);
      const bool inside = before >= -largest_ - 1 && before <= largest_;
      rh_store(grad, i, inside ? rh_load(args.grad_output, i) * scale[g] : 0);
    });
  }

  void encode(const rh_exec&, const rh_encode_args& args) override {
    const float* const scale = rh::data<float>(*args.states[0]);
    const float* const v = rh::data_or_null<float>(rh::at(args.tunables, 0));
    each(*args.input, [&](int64_t i, int64_t g) {
      rh::data<uint8_t>(*args.tensors[0])[i] = uint8_t(quantized(*args.input, scale, v, i, g) + largest_ + 1);
    });
    for (int64_t g = 0; g < rh::elements(*args.states[0]); ++g) rh_store(args.tensors[1], g, scale[g]);
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
  // Within what v declares, whatever the host hands in.
  static float offset(const float* v, int64_t i) { return v ? std::clamp(v[i], -0.5f, 0.5f) : 0; }
  float quantized(const rh_tensor& weight, const float* scale, const float* v, int64_t i, int64_t g) const {
    return std::clamp(std::nearbyint(rh_load(&weight, i) / scale[g] + offset(v, i)), -largest_ - 1, largest_);
  }

  std::string name_;
  int64_t cols_;
  rh::AffineInt made_;
  float largest_;  // code, counted from the middle
};

class MyDtype : public rh::Dtype {
 public:
  MyDtype()
      : Dtype("@NAME@", "Symmetric integers with float16 scales.", RH_ENCODING_AFFINE_INT,
              RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_TUNING | RH_SUPPORTS_ENCODED,
              {{"@NAME@", R"({"sym": true})"}}) {}

  void check(const rh_layer& layer) const override {
    const rh_scheme& scheme = *layer.scheme;
    rh::require(layer.target == RH_TARGET_WEIGHT, "@NAME@ quantizes weights, not activations");
    rh::require(rh_is_float(layer.dtype), "@NAME@ takes weights of float32, float16 or bfloat16");
    rh::require(scheme.bits >= 2 && scheme.bits <= 8, "@NAME@ has 2 to 8 bits");
    rh::require(scheme.symmetric, "@NAME@ is symmetric: set sym: true");
    rh::require(scheme.rounding == RH_ROUNDING_PLAIN || scheme.rounding == RH_ROUNDING_TUNED,
                "@NAME@ has no searched rounding");
    rh::require(scheme.group_rows == 1 && scheme.group_cols != RH_GROUP_TENSOR,
                "@NAME@ groups columns of a row: set group_size to a number of columns, or -1 for a row");
  }
  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<MyQuantizer>(layer);
  }
  std::unique_ptr<rh::Quantizer> create_encoded(const rh_layer& layer) const override {
    return std::make_unique<rh::EncodedWeight<rh::AffineInt>>(layer);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<MyDtype>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(Definition, "@NAME@", "My company", "0.1.0", "Symmetric integers with float16 scales.")

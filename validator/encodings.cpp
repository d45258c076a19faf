// SPDX-License-Identifier: Apache-2.0
#include "validator/encodings.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <roundhouse/plugin.hpp>

#include "kernels/floats.h"

namespace roundhouse::validator {
namespace {

using nlohmann::json;

// ---- small floats ----

struct SmallFloat {
  const char* name;
  int exponent_bits, mantissa_bits, bias;
  int finite_codes;  // magnitudes 0 .. finite_codes - 1 are finite
};
constexpr SmallFloat kSmallFloats[] = {{"fp4_e2m1", 2, 1, 1, 8},    {"fp6_e2m3", 2, 3, 1, 32},
                                       {"fp6_e3m2", 3, 2, 3, 32},   {"fp8_e4m3", 4, 3, 7, 127},
                                       {"fp8_e5m2", 5, 2, 15, 124}, {"ue5m3", 5, 3, 15, 255}};

const SmallFloat& small_float(const std::string& name) {
  return *std::find_if(std::begin(kSmallFloats), std::end(kSmallFloats),
                       [&](const SmallFloat& f) { return name == f.name; });
}

float magnitude(const SmallFloat& f, int code) {
  const int exponent = code >> f.mantissa_bits, mantissa = code & ((1 << f.mantissa_bits) - 1);
  const int fraction = exponent == 0 ? mantissa : mantissa + (1 << f.mantissa_bits);
  return std::ldexp(static_cast<float>(fraction), std::max(exponent, 1) - f.bias - f.mantissa_bits);
}

float signed_value(const SmallFloat& f, int code) {
  const int sign = 1 << (f.exponent_bits + f.mantissa_bits);
  const float value = magnitude(f, code & (sign - 1));
  return code & sign ? -value : value;
}

int integer_bits(const std::string& element) { return element.rfind("int", 0) == 0 ? std::stoi(element.substr(3)) : 0; }

// ---- ggml's blocks ----

struct BlockType {
  const char* name;
  int cols, bytes, bits, group;
  bool symmetric;
  int super_bits, super_group;
  std::vector<int> halves;  // where its float16 are
};
const BlockType kBlocks[] = {
    {"q4_0", 32, 18, 4, 32, true, 0, 0, {0}},       {"q4_1", 32, 20, 4, 32, false, 0, 0, {0, 2}},
    {"q5_0", 32, 22, 5, 32, true, 0, 0, {0}},       {"q5_1", 32, 24, 5, 32, false, 0, 0, {0, 2}},
    {"q8_0", 32, 34, 8, 32, true, 0, 0, {0}},       {"q2_k", 256, 84, 2, 16, false, 4, 16, {80, 82}},
    {"q3_k", 256, 110, 3, 16, true, 6, 16, {108}},  {"q4_k", 256, 144, 4, 32, false, 6, 8, {0, 2}},
    {"q5_k", 256, 176, 5, 32, false, 6, 8, {0, 2}}, {"q6_k", 256, 210, 6, 16, true, 8, 16, {208}}};

const BlockType& block_type(const json& parameters) {
  const std::string name = parameters.at("type");
  return *std::find_if(std::begin(kBlocks), std::end(kBlocks), [&](const BlockType& b) { return name == b.name; });
}

// ---- kinds ----

LayerKind affine(int bits, int64_t group, bool symmetric, rh_data_type scale = rh::kF16) {
  return {RH_ENCODING_AFFINE_INT,
          {{"bits", bits}, {"group_rows", group == RH_GROUP_TENSOR ? 0 : 1}, {"symmetric", symmetric}},
          group,
          scale,
          false,
          std::nullopt};
}

LayerKind floats_of(const char* id, int64_t group_cols, json parameters, rh_data_type scale) {
  return {id, std::move(parameters), group_cols, scale, false, std::nullopt};
}

// The kind with an input that an engine quantizes as well.
LayerKind with_input(LayerKind kind, Encoded encoding) {
  kind.activation = std::move(encoding);
  return kind;
}

Value one_float(float x) { return to_value(rh::kF32, {1}, {x}); }

std::vector<LayerKind> make_layer_kinds() {
  std::vector<LayerKind> out;
  for (const int bits : {4, 8, 2, 3, 5, 6, 7})
    for (const bool symmetric : {true, false}) out.push_back(affine(bits, bits == 5 ? 64 : 32, symmetric));
  out.push_back(affine(4, 128, true));
  out.push_back(affine(4, RH_GROUP_ROW, true));
  out.push_back(affine(8, RH_GROUP_ROW, true, rh::kBF16));
  out.push_back(affine(8, RH_GROUP_TENSOR, true));
  out.push_back(affine(4, 32, false, rh::kF32));
  out.push_back(affine(4, 128, true));
  out.back().outer_scale = true;
  // What no recipe would say: groups that a data type has chosen by itself.
  out.push_back(affine(4, 48, true));
  out.push_back(affine(4, 96, false));
  out.push_back(affine(4, 64, true));
  out.back().mixed = true;
  for (const rh_data_type scale : {rh::kF16, rh::kF32}) {
    out.push_back(affine(4, 32, false, scale));
    out.back().group_index = true;
  }
  out.push_back(with_input(affine(8, RH_GROUP_ROW, true, rh::kBF16),
                           {RH_ENCODING_AFFINE_INT,
                            {{"bits", 8}, {"group_rows", 1}, {"group_cols", 0}, {"symmetric", true}, {"dynamic", true}},
                            {}}));

  for (const char* element : {"e4m3", "e5m2"}) {
    const json row{{"element", element}, {"group_rows", 1}}, tensor{{"element", element}, {"group_rows", 0}};
    const json input{{"element", element}, {"group_rows", 1}, {"group_cols", 0}, {"dynamic", true}};
    const auto by_row = floats_of(RH_ENCODING_SCALED_FP8, RH_GROUP_ROW, row, rh::kF32);
    const auto by_tensor = floats_of(RH_ENCODING_SCALED_FP8, RH_GROUP_TENSOR, tensor, rh::kF32);
    out.push_back(by_row);
    out.push_back(by_tensor);
    out.push_back(with_input(by_row, {RH_ENCODING_SCALED_FP8, input, {}}));
    json fixed = input;
    fixed["group_rows"] = 0;
    fixed["dynamic"] = false;
    out.push_back(with_input(by_tensor, {RH_ENCODING_SCALED_FP8, fixed, {{"scale", one_float(0.5f)}}}));
    json groups = input;
    groups["group_cols"] = 128;
    const auto blocks = floats_of(RH_ENCODING_SCALED_FP8, 128, {{"element", element}, {"group_rows", 128}}, rh::kF32);
    out.push_back(blocks);
    out.push_back(with_input(blocks, {RH_ENCODING_SCALED_FP8, groups, {}}));
  }

  for (const char* element : {"fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "int8", "int4", "int2"}) {
    const auto plain = floats_of(RH_ENCODING_MX, 32, {{"element", element}}, rh::kU8);
    out.push_back(plain);
    out.push_back(with_input(
        plain, {RH_ENCODING_MX, {{"element", element}, {"group_rows", 1}, {"group_cols", 32}, {"dynamic", true}}, {}}));
  }

  for (const char* scale : {"e4m3", "ue5m3"}) {
    const bool two_level = std::string(scale) == "e4m3";
    const auto plain = floats_of(RH_ENCODING_NVFP, 16, {{"scale", scale}}, rh::kU8);
    out.push_back(plain);
    Encoded input{
        RH_ENCODING_NVFP, {{"scale", scale}, {"group_rows", 1}, {"group_cols", 16}, {"dynamic", !two_level}}, {}};
    if (two_level) input.tensors.emplace_back("global_scale", one_float(448));
    out.push_back(with_input(plain, input));
  }

  for (const BlockType& block : kBlocks)
    out.push_back(floats_of(RH_ENCODING_GGML_BLOCK, block.group, {{"type", block.name}}, rh::kU8));
  return out;
}

// Groups that share a scale, as the tensors of affine-int and scaled-fp8 count them.
struct Grid {
  int64_t group_rows, group_cols, rows, cols;
};
Grid grid(const json& parameters, int64_t rows, int64_t cols) {
  Grid g{parameters.value("group_rows", int64_t{1}), parameters.at("group_cols"), 0, 0};
  g.rows = (rows + g.group_rows - 1) / g.group_rows;
  g.cols = (cols + g.group_cols - 1) / g.group_cols;
  return g;
}

const Value* find(const Encoded& layer, const char* name) {
  for (const auto& [key, value] : layer.tensors)
    if (key == name) return &value;
  return nullptr;
}

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  unsigned below(unsigned n) { return static_cast<unsigned>(engine_() >> 4) % n; }
  template <typename Make>
  Value bytes(std::vector<int64_t> shape, Make&& make) {
    Value out{rh::kU8, shape, std::vector<unsigned char>(static_cast<size_t>(count_elements(shape)))};
    for (unsigned char& byte : out.bytes) byte = static_cast<unsigned char>(make());
    return out;
  }
  // Exact in f16 and bf16.
  Value scales(rh_data_type type, std::vector<int64_t> shape) {
    std::vector<float> out(static_cast<size_t>(count_elements(shape)));
    for (float& x : out) x = static_cast<float>(64 + below(64)) / 8192.0f;
    return to_value(type, std::move(shape), out);
  }

 private:
  std::mt19937 engine_;
};

void add_affine(Encoded& out, const LayerKind& kind, const Grid& g, int64_t rows, int64_t cols, Random& random) {
  const auto codes = 1u << kind.parameters.at("bits").get<int>();
  out.tensors.emplace_back("codes", random.bytes({rows, cols}, [&] { return random.below(codes); }));
  out.tensors.emplace_back("scale", random.scales(kind.scale, {g.rows, g.cols}));
  if (!kind.parameters.at("symmetric"))
    out.tensors.emplace_back("zero_point", random.bytes({g.rows, g.cols}, [&] { return random.below(codes); }));
  if (kind.group_index) {
    Value index{rh::kI32, {cols}, std::vector<unsigned char>(static_cast<size_t>(cols) * sizeof(int32_t))};
    for (int64_t c = 0; c < cols; ++c) {
      const auto group = static_cast<int32_t>(c * 5 % g.cols);
      std::memcpy(&index.bytes[static_cast<size_t>(c) * sizeof group], &group, sizeof group);
    }
    out.tensors.emplace_back("group_index", std::move(index));
  }
  if (kind.outer_scale) out.tensors.emplace_back("outer_scale", one_float(0.25f));
}

unsigned random_code(const std::string& element, Random& random) {
  if (const int bits = integer_bits(element)) {
    const unsigned lowest = 1u << (bits - 1);  // has no opposite, and no data type emits it
    const unsigned code = random.below(1u << bits);
    return code == lowest ? 1 : code;
  }
  const SmallFloat& f = small_float(element);
  const unsigned sign = random.below(2) << (f.exponent_bits + f.mantissa_bits);
  const unsigned size = 1 + random.below(static_cast<unsigned>(f.finite_codes) - 1);  // no zero: it has two signs
  return sign | size;
}

Encoded random_blocks(const LayerKind& kind, int64_t rows, int64_t cols, Random& random) {
  const BlockType& type = block_type(kind.parameters);
  const int64_t bytes = cols / type.cols * type.bytes;
  Value blocks = random.bytes({rows, bytes}, [&] { return random.below(256); });
  for (size_t begin = 0; begin < blocks.bytes.size(); begin += static_cast<size_t>(type.bytes))
    for (const int place : type.halves) {
      const uint16_t half = kernels::half_from_float(static_cast<float>(1 + random.below(63)) / 1024.0f);
      std::memcpy(&blocks.bytes[begin + static_cast<size_t>(place)], &half, sizeof half);
    }
  return {kind.encoding, kind.parameters, {{"blocks", blocks}}};
}

// ---- the formulas ----

// One layer's tensors and parameters, looked up once.
class Formula {
 public:
  Formula(const Encoded& layer, int64_t rows, int64_t cols, rh_data_type output) : cols_(cols), output_(output) {
    if (layer.id == RH_ENCODING_GGML_BLOCK) {
      block_ = &block_type(layer.parameters);
      codes_ = &layer.tensors[0].second;
      return;
    }
    grid_ = grid(layer.parameters, rows, cols);
    codes_ = find(layer, "codes");
    scale_ = find(layer, "scale");
    zero_points_ = find(layer, "zero_point");
    outer_scale_ = find(layer, "outer_scale");
    if (const Value* index = find(layer, "group_index")) {
      group_index_.resize(static_cast<size_t>(cols));
      std::memcpy(group_index_.data(), index->bytes.data(), index->bytes.size());
    }
    affine_ = layer.id == RH_ENCODING_AFFINE_INT;
    std::string name = "fp4_e2m1";
    if (affine_) name = "int" + std::to_string(layer.parameters.at("bits").get<int>());
    if (layer.id == RH_ENCODING_MX) name = layer.parameters.at("element");
    if (layer.id == RH_ENCODING_SCALED_FP8) name = "fp8_" + layer.parameters.at("element").get<std::string>();
    bits_ = integer_bits(name);
    if (!bits_) element_ = &small_float(name);
    if (layer.id == RH_ENCODING_MX)
      scales_ = powers();
    else if (layer.id == RH_ENCODING_NVFP)
      scales_ = nvfp_scales(layer);
  }

  float weight(int64_t row, int64_t col) const {
    if (block_) return block_weight(row, col);
    const int64_t group = row / grid_.group_rows * grid_.cols +
                          (group_index_.empty() ? col / grid_.group_cols : group_index_[static_cast<size_t>(col)]);
    const int code = codes_->bytes[static_cast<size_t>(row * cols_ + col)];
    if (affine_) return affine_weight(code, group);
    const int integer = bits_ && (code & (1 << (bits_ - 1))) ? code - (1 << bits_) : code;
    const float value = bits_ ? std::ldexp(static_cast<float>(integer), 2 - bits_) : signed_value(*element_, code);
    return value * (scales_.empty() ? element(*scale_, group) : scales_[scale_->bytes[static_cast<size_t>(group)]]);
  }

 private:
  static std::vector<float> powers() {
    std::vector<float> out(256);
    for (int i = 0; i < 256; ++i) out[static_cast<size_t>(i)] = std::ldexp(1.0f, i - 127);
    return out;
  }

  // By the scale's code; each step rounded to float32, as encoding.h has it.
  static std::vector<float> nvfp_scales(const Encoded& layer) {
    const auto reciprocal = [](float x) { return x == 0 ? 0.0f : 1 / x; };
    const bool two_level = layer.parameters.at("scale") == "e4m3";
    const SmallFloat& type = small_float(two_level ? "fp8_e4m3" : "ue5m3");
    std::vector<float> out(256);
    for (int i = 0; i < type.finite_codes; ++i) {
      float& scale = out[static_cast<size_t>(i)];
      scale = magnitude(type, i);
      if (two_level) scale = reciprocal(reciprocal(scale * reciprocal(element(*find(layer, "global_scale"), 0))));
    }
    return out;
  }

  float affine_weight(int code, int64_t group) const {
    const int zero = zero_points_ ? zero_points_->bytes[static_cast<size_t>(group)] : 1 << (bits_ - 1);
    const float value = element(*scale_, group) * static_cast<float>(code - zero);
    if (!outer_scale_) return value;
    return element(*outer_scale_, 0) * element(to_value(output_, {1}, {value}), 0);
  }

  // q4_0 and q8_0; of the others some number.
  float block_weight(int64_t row, int64_t col) const {
    const int64_t block = row * (cols_ / block_->cols) + col / block_->cols;
    const unsigned char* bytes = &codes_->bytes[static_cast<size_t>(block * block_->bytes)];
    uint16_t half;
    std::memcpy(&half, bytes + block_->halves[0], sizeof half);
    const float d = kernels::float_from_half(half);
    const int64_t i = col % block_->cols;
    const unsigned char* codes = bytes + 2;
    if (block_->bits == 8) return d * static_cast<float>(static_cast<int8_t>(codes[i]));
    if (block_->bytes == 18) return d * static_cast<float>((i < 16 ? codes[i] & 15 : codes[i - 16] >> 4) - 8);
    return d * static_cast<float>(bytes[i % block_->bytes] & 15);
  }

  int64_t cols_;
  rh_data_type output_;
  const BlockType* block_ = nullptr;
  const SmallFloat* element_ = nullptr;
  const Value *codes_ = nullptr, *scale_ = nullptr, *zero_points_ = nullptr, *outer_scale_ = nullptr;
  std::vector<int32_t> group_index_;
  Grid grid_{};
  bool affine_ = false;
  int bits_ = 0;
  std::vector<float> scales_;  // by their codes
};

}  // namespace

std::string LayerKind::label() const {
  return text(encoding, " ", parameters.dump(), ", group ", group_cols, mixed ? " and twice that" : "",
              group_index ? ", group_index" : "", outer_scale ? ", outer scale" : "",
              activation ? ", with a quantized input" : "");
}

const std::vector<LayerKind>& layer_kinds() {
  static const std::vector<LayerKind> all = make_layer_kinds();
  return all;
}

bool has_formula(const Encoded& layer) {
  if (layer.id != RH_ENCODING_GGML_BLOCK) return true;
  return layer.parameters.at("type") == "q4_0" || layer.parameters.at("type") == "q8_0";
}

Encoded random_layer(const LayerKind& kind, int64_t rows, int64_t cols, unsigned seed) {
  Random random(seed);
  if (kind.encoding == RH_ENCODING_GGML_BLOCK) return random_blocks(kind, rows, cols, random);
  Encoded out{kind.encoding, kind.parameters, {}};
  out.parameters["group_cols"] = kind.group_cols > 0 ? kind.group_cols * (kind.mixed && rows == 128 ? 2 : 1) : cols;
  if (out.parameters.contains("group_rows") && out.parameters["group_rows"] == 0) out.parameters["group_rows"] = rows;
  const Grid g = grid(out.parameters, rows, cols);
  if (kind.encoding == RH_ENCODING_AFFINE_INT) {
    add_affine(out, kind, g, rows, cols, random);
    return out;
  }
  std::string element = "fp4_e2m1";
  if (kind.encoding == RH_ENCODING_MX) element = kind.parameters.at("element");
  if (kind.encoding == RH_ENCODING_SCALED_FP8) element = "fp8_" + kind.parameters.at("element").get<std::string>();
  out.tensors.emplace_back("codes", random.bytes({rows, cols}, [&] { return random_code(element, random); }));
  if (kind.encoding == RH_ENCODING_SCALED_FP8)
    out.tensors.emplace_back("scale", random.scales(kind.scale, {g.rows, g.cols}));
  else if (kind.encoding == RH_ENCODING_MX)
    out.tensors.emplace_back("scale", random.bytes({g.rows, g.cols}, [&] { return 118 + random.below(9); }));
  else
    out.tensors.emplace_back("scale", random.bytes({g.rows, g.cols}, [&] { return 56 + random.below(64); }));
  if (kind.encoding == RH_ENCODING_NVFP && kind.parameters.at("scale") == "e4m3")
    out.tensors.emplace_back("global_scale", one_float(512));
  return out;
}

std::vector<float> decoded(const Encoded& layer, int64_t rows, int64_t cols, rh_data_type output) {
  const Formula formula(layer, rows, cols, output);
  std::vector<float> out;
  out.reserve(static_cast<size_t>(rows * cols));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < cols; ++col) out.push_back(formula.weight(row, col));
  return out;
}

}  // namespace roundhouse::validator

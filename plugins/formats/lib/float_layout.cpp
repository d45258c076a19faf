#include "plugins/formats/lib/float_layout.h"

#include <algorithm>
#include <cstring>

#include "plugins/formats/lib/bit_stream.h"
#include "plugins/formats/lib/encoded_layer.h"
#include "plugins/formats/lib/float_codes.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

using Kind = FloatEncoding::Kind;

constexpr int64_t kRowsPerChunk = 16;

// int4 of mx/1: two's complement; stored: a sign and a magnitude.
uint8_t signed_magnitude(uint8_t code) { return code < 8 ? code : 8 | ((16 - code) & 7); }
uint8_t twos_complement(uint8_t stored) { return stored < 8 ? stored : (16 - (stored & 7)) & 15; }

float reciprocal(float x) { return x == 0 ? 0 : 1 / x; }

bool is_int4(const FloatEncoding& encoding) { return encoding.kind == Kind::kMx && encoding.element == "int4"; }

rh_data_type code_type(const FloatEncoding& encoding) {
  if (encoding.element == "fp8_e4m3") return kF8E4M3;
  if (encoding.element == "fp8_e5m2") return kF8E5M2;
  return encoding.bits() == 8 ? rh::kI8 : rh::kU8;
}

int64_t rows_of(const rh_tensor* codes) { return codes && codes->ndim == 2 ? codes->shape[0] : 0; }
int64_t cols_of(const rh_tensor* codes, int bits) { return codes && codes->ndim == 2 ? codes->shape[1] * 8 / bits : 0; }

FloatEncoding filled_in(FloatEncoding encoding, int64_t rows, int64_t cols) {
  if (encoding.group_rows == 0) encoding.group_rows = rows;
  if (encoding.group_cols == 0) encoding.group_cols = cols;
  return encoding;
}

}  // namespace

int FloatEncoding::bits() const { return code_bits(element); }

const char* FloatEncoding::id() const {
  return kind == Kind::kMx ? RH_ENCODING_MX : kind == Kind::kNvfp ? RH_ENCODING_NVFP : RH_ENCODING_SCALED_FP8;
}

Json FloatEncoding::parameters() const {
  if (kind == Kind::kMx) return {{"element", element}, {"group_cols", group_cols}};
  if (kind == Kind::kNvfp) return {{"scale", scale}, {"group_cols", group_cols}};
  return {{"element", element.substr(4)}, {"group_rows", group_rows}, {"group_cols", group_cols}};
}

std::optional<FloatEncoding> float_encoding(const rh_encoding& encoding) {
  const std::string_view id = encoding.id;
  try {
    const auto json = Json::parse(encoding.parameters_json);
    if (id == RH_ENCODING_MX) return FloatEncoding{Kind::kMx, json.at("element"), "", 1, json.at("group_cols")};
    if (id == RH_ENCODING_NVFP)
      return FloatEncoding{Kind::kNvfp, "fp4_e2m1", json.at("scale"), 1, json.at("group_cols")};
    if (id == RH_ENCODING_SCALED_FP8) {
      return FloatEncoding{Kind::kScaledFp8, "fp8_" + json.at("element").get<std::string>(), "", json.at("group_rows"),
                           json.at("group_cols")};
    }
  } catch (const Json::exception& e) {
    throw rh::Error(RH_INVALID_ARGUMENT, cat("parameters of ", id, ": ", e.what()));
  }
  return std::nullopt;
}

void add_codes(TensorWriter& file, const rh_encoded_layer& layer, const FloatEncoding& encoding) {
  const std::string name = layer.name;
  const auto* codes = rh::data<uint8_t>(require_tensor(layer, "codes", layer.rows * layer.cols));
  const int bits = encoding.bits();
  if (bits == 8) return file.add(name + ".weight", codes, code_type(encoding), {layer.rows, layer.cols});
  rh::require(layer.cols * bits % 32 == 0,
              cat(name, ": a row of ", layer.cols, " codes of ", bits, " bits is no whole number of 32-bit words"));
  const int64_t words = layer.cols * bits / 32;
  std::vector<uint32_t> packed(layer.rows * words);
  rh::parallel_for(layer.rows, kRowsPerChunk, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> row(layer.cols);
    for (int64_t r = begin; r < end; ++r) {
      std::copy_n(codes + r * layer.cols, layer.cols, row.begin());
      if (std::any_of(row.begin(), row.end(), [&](uint8_t code) { return code >> bits; })) {
        throw rh::Error(RH_INVALID_ARGUMENT, cat(name, ": a code does not fit into ", bits, " bits"));
      }
      if (is_int4(encoding) && std::count(row.begin(), row.end(), 8)) {
        throw rh::Error(RH_INVALID_ARGUMENT, name + ": -2 cannot be stored as a 4-bit sign and magnitude");
      }
      if (is_int4(encoding)) std::transform(row.begin(), row.end(), row.begin(), signed_magnitude);
      pack_stream(row.data(), layer.cols, bits, packed.data() + r * words);
    }
  });
  file.add(name + ".weight_packed", packed.data(), rh::kU8, {layer.rows, words * 4});
}

void add_scales(TensorWriter& file, const std::string& name, const rh_encoded_layer& layer,
                const FloatEncoding& encoding, std::vector<int64_t> shape) {
  const FloatEncoding groups = filled_in(encoding, layer.rows, layer.cols);
  const int64_t row_groups = (layer.rows + groups.group_rows - 1) / groups.group_rows;
  const int64_t col_groups = (layer.cols + groups.group_cols - 1) / groups.group_cols;
  if (encoding.kind == Kind::kScaledFp8 && !find_tensor(layer, "scale")) {
    const float one = 1.0f;
    return file.add(name, &one, rh::kF32, {1});
  }
  const rh_tensor& scale = require_tensor(layer, "scale", row_groups * col_groups);
  if (shape.empty()) shape = {row_groups, col_groups};
  const bool is_e4m3 = encoding.kind == Kind::kNvfp && encoding.scale == "e4m3";
  file.add(name, scale.data, is_e4m3 ? kF8E4M3 : scale.dtype, std::move(shape));
  if (is_e4m3) {
    const rh_tensor& global = require_tensor(layer, "global_scale", 1);
    file.add(std::string(layer.name) + ".weight_global_scale", global.data, rh::kF32, {1});
  }
}

FloatLayer::FloatLayer(const std::string& name, const FloatEncoding& encoding, const Tensors& tensors,
                       rh_data_type dtype)
    : StoredLayer(name, rows_of(tensors.codes), cols_of(tensors.codes, encoding.bits()), dtype),
      encoding_(filled_in(encoding, rows(), cols())),
      tensors_(tensors) {
  if (rows() == 0 || cols() == 0 || !rh::same_type(tensors.codes->dtype, code_type(encoding_))) {
    damaged(cat("its codes are missing, or no matrix of ", encoding_.element));
  }
  if (encoding_.bits() < 8 && cols() * encoding_.bits() % 32) damaged("a row is no whole number of 32-bit words");
  if (!tensors.scale) damaged("its scale is missing");
  const rh_tensor& scale = *tensors.scale;
  if (rh::elements(scale) != row_groups() * col_groups()) {
    damaged(cat("scale ", shape_text(scale), " should have ", row_groups() * col_groups(), " elements"));
  }
  const bool is_e4m3 = encoding_.kind == Kind::kNvfp && encoding_.scale == "e4m3";
  const bool is_float = scale.dtype.kind == RH_KIND_FLOAT || scale.dtype.kind == RH_KIND_BFLOAT;
  if (encoding_.kind == Kind::kScaledFp8 ? !is_float : !rh::same_type(scale.dtype, is_e4m3 ? kF8E4M3 : rh::kU8)) {
    damaged("its scale has another element type");
  }
  if (is_e4m3 && (!tensors.global_scale || rh::elements(*tensors.global_scale) != 1 ||
                  !rh::same_type(tensors.global_scale->dtype, rh::kF32))) {
    damaged("its global scale is not one float32");
  }
  if (!is_e4m3) tensors_.global_scale = nullptr;
  rh::Specs& specs = this->encoding().specs;
  specs.add("codes", rh::kU8, {rows(), cols()});
  specs.add("scale", encoding_.kind == Kind::kScaledFp8 ? scale.dtype : rh::kU8, {row_groups(), col_groups()});
  if (is_e4m3) specs.add("global_scale", rh::kF32, {1});
  this->encoding().set(encoding_.id(), encoding_.parameters());
  const bool whole_tensor = encoding.group_rows == 0 && encoding.group_cols == 0;
  set_scheme(encoding_.bits(), true, whole_tensor ? 1 : encoding_.group_rows,
             whole_tensor               ? RH_GROUP_TENSOR
             : encoding.group_cols == 0 ? RH_GROUP_ROW
                                        : encoding_.group_cols);
}

std::vector<uint8_t> FloatLayer::unpacked_codes() const {
  const int bits = encoding_.bits();
  const auto* stored = rh::data<const uint8_t>(*tensors_.codes);
  if (bits == 8) return {stored, stored + rows() * cols()};
  std::vector<uint8_t> codes(rows() * cols());
  const int64_t words = cols() * bits / 32;
  rh::parallel_for(rows(), kRowsPerChunk, [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> row(words);  // the file's bytes may lie at any address
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(row.data(), stored + r * words * 4, words * 4);
      unpack_stream(row.data(), cols(), bits, codes.data() + r * cols());
    }
  });
  if (is_int4(encoding_)) std::transform(codes.begin(), codes.end(), codes.begin(), twos_complement);
  return codes;
}

std::vector<float> FloatLayer::scales() const {
  const rh_tensor& scale = *tensors_.scale;
  std::vector<float> out(rh::elements(scale));
  if (encoding_.kind == Kind::kScaledFp8) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = element(scale, i);
    return out;
  }
  const auto values = code_values(encoding_.kind == Kind::kMx ? "e8m0"
                                  : encoding_.scale == "e4m3" ? "fp8_e4m3"
                                                              : "ue5m3");
  const auto* stored = rh::data<uint8_t>(scale);
  for (size_t i = 0; i < out.size(); ++i) out[i] = values[stored[i]];
  if (!tensors_.global_scale) return out;
  const float inverse = reciprocal(element(*tensors_.global_scale, 0));
  for (float& value : out) value = reciprocal(reciprocal(value * inverse));  // as the weight was quantized
  return out;
}

void FloatLayer::read(rh_tensor& output) const {
  const std::vector<uint8_t> codes = unpacked_codes();
  const std::vector<float> scale = scales();
  const std::vector<float> values = code_values(encoding_.element);
  write_groups(output, encoding_.group_rows, encoding_.group_cols, [&](int64_t group) {
    return [codes = codes.data(), values = values.data(), scale = scale[group]](int64_t i) {
      return values[codes[i]] * scale;
    };
  });
}

void FloatLayer::read_encoded(rh_tensor* const* tensors) const {
  const std::vector<uint8_t> codes = unpacked_codes();
  copy_bytes(codes.data(), codes.size(), *tensors[0], name());
  copy_bytes(tensors_.scale->data, rh::bytes(*tensors_.scale), *tensors[1], name());
  if (tensors_.global_scale) copy_bytes(tensors_.global_scale->data, sizeof(float), *tensors[2], name());
}

}  // namespace roundhouse::formats

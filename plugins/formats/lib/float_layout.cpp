// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/float_layout.h"

#include <algorithm>
#include <cstring>

#include "plugins/formats/lib/bit_stream.h"
#include "plugins/formats/lib/encoded_layer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

// int4 of mx/1: two's complement; stored: a sign and a magnitude.
uint8_t signed_magnitude(uint8_t code) { return code < 8 ? code : 8 | ((16 - code) & 7); }
uint8_t twos_complement(uint8_t stored) { return stored < 8 ? stored : (16 - (stored & 7)) & 15; }

bool is_int4(const FloatEncoding& encoding) {
  const auto* mx = std::get_if<rh::Mx>(&encoding);
  return mx && mx->element == RH_MX_INT4;
}

bool has_global_scale(const FloatEncoding& encoding) {
  const auto* nvfp = std::get_if<rh::Nvfp>(&encoding);
  return nvfp && nvfp->two_level();
}

rh_data_type code_type(const FloatEncoding& encoding) {
  const std::string_view element = element_name(encoding);
  if (element == "fp8_e4m3") return kF8E4M3;
  if (element == "fp8_e5m2") return kF8E5M2;
  return code_bits(encoding) == 8 ? rh::kI8 : rh::kU8;
}

int64_t rows_of(const rh_tensor* codes) { return codes && codes->ndim == 2 ? codes->shape[0] : 0; }
int64_t cols_of(const rh_tensor* codes, int bits) { return codes && codes->ndim == 2 ? codes->shape[1] * 8 / bits : 0; }

// Powers of two, E8M0, which some store as plain bytes.
bool is_exponent(const rh_tensor& scale) {
  return scale.dtype.kind == RH_KIND_FLOAT8_E8M0FNU || rh::same_type(scale.dtype, rh::kU8);
}

FloatEncoding filled_in(FloatEncoding encoding, int64_t rows, int64_t cols, const rh_tensor* scale) {
  auto* fp8 = std::get_if<rh::ScaledFp8>(&encoding);
  if (!fp8) return encoding;
  if (fp8->group_rows == 0) fp8->group_rows = rows;
  if (fp8->group_cols == 0) fp8->group_cols = cols;
  if (scale) fp8->scale = is_exponent(*scale) ? rh::kF32 : scale->dtype;
  return encoding;
}

rh::Encoding made(const FloatEncoding& encoding, int64_t rows, int64_t cols) {
  return std::visit([&](const auto& typed) { return rh::Encoding(typed, rows, cols); }, encoding);
}

// Elements of a tensor.
int64_t elements(const rh_tensor_spec& spec) {
  int64_t n = 1;
  for (int32_t i = 0; i < spec.ndim; ++i) n *= spec.shape[i];
  return n;
}

}  // namespace

int code_bits(const FloatEncoding& encoding) {
  return std::visit([](const auto& typed) { return typed.code_bits(); }, encoding);
}

const char* element_name(const FloatEncoding& encoding) {
  if (const auto* fp8 = std::get_if<rh::ScaledFp8>(&encoding))
    return fp8->element == RH_FP8_E4M3 ? "fp8_e4m3" : "fp8_e5m2";
  if (const auto* mx = std::get_if<rh::Mx>(&encoding)) return mx->name();
  return "fp4_e2m1";
}

std::optional<FloatEncoding> float_encoding(const rh_encoding& encoding) {
  if (rh::is(encoding, rh::ScaledFp8::kId)) return rh::ScaledFp8::of(encoding);
  if (rh::is(encoding, rh::Mx::kId)) return rh::Mx::of(encoding);
  if (rh::is(encoding, rh::Nvfp::kId)) return rh::Nvfp::of(encoding);
  return std::nullopt;
}

void add_codes(TensorWriter& out, const rh_encoded_layer& encoded) {
  const rh_format_layer& layer = *encoded.layer;
  const FloatEncoding encoding = *float_encoding(*layer.encoding);
  const std::string name = layer.name;
  const rh_tensor& tensor = require_tensor(encoded, "codes", layer.rows * layer.cols);
  const auto* codes = rh::data<uint8_t>(tensor);
  const int bits = code_bits(encoding);
  if (bits == 8)
    return out.add(name + ".weight", code_type(encoding), {layer.rows, layer.cols}, [&] { return tensor.data; });
  rh::require(layer.cols * bits % 32 == 0,
              cat(name, ": a row of ", layer.cols, " codes of ", bits, " bits is no whole number of 32-bit words"));
  const int64_t words = layer.cols * bits / 32;
  out.add(name + ".weight_packed", rh::kU8, {layer.rows, words * 4}, [&] {
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
    return packed;
  });
}

void add_scales(TensorWriter& out, const std::string& name, const rh_encoded_layer& encoded,
                std::vector<int64_t> shape) {
  const rh_format_layer& layer = *encoded.layer;
  const FloatEncoding encoding = *float_encoding(*layer.encoding);
  const int place = rh::tensor_index(*layer.encoding, "scale");
  if (place < 0) return out.add(name, rh::kF32, {1}, [] { return std::vector{1.0f}; });
  const rh_tensor_spec& spec = *layer.encoding->tensors[place];
  const rh_tensor& scale = require_tensor(encoded, "scale", elements(spec));
  if (shape.empty()) shape.assign(spec.shape, spec.shape + spec.ndim);
  const bool two_level = has_global_scale(encoding);
  out.add(name, two_level ? kF8E4M3 : scale.dtype, shape, [&] { return scale.data; });
  if (!two_level) return;
  const rh_tensor& global = require_tensor(encoded, "global_scale", 1);
  out.add(std::string(layer.name) + ".weight_global_scale", rh::kF32, {1}, [&] { return global.data; });
}

rh::ScaledFp8 stored_fp8(const std::string& name, const rh_tensor* weight, const rh_tensor* scale, int64_t block_rows,
                         int64_t block_cols) {
  if (!weight || weight->ndim != 2 || !is_fp8(weight->dtype) || !scale)
    throw rh::Error(RH_DATA_LOSS, name + ": it has a scale or a weight, but no matrix of 8-bit floats with its scale");
  const int64_t rows = weight->shape[0], cols = weight->shape[1], count = rh::elements(*scale);
  rh::ScaledFp8 out(rh::same_type(weight->dtype, kF8E4M3) ? RH_FP8_E4M3 : RH_FP8_E5M2, 0, 0);
  if (block_rows > 0 && count == rh::detail::groups_of(rows, block_rows) * rh::detail::groups_of(cols, block_cols)) {
    out.group_rows = block_rows;
    out.group_cols = block_cols;
  } else if (count == rows && count > 1) {
    out.group_rows = 1;
  } else if (count != 1) {
    throw rh::Error(
        RH_DATA_LOSS,
        cat(name, ": its scale ", shape_text(*scale), " is not one number, one for each of ", rows, " rows",
            block_rows > 0 ? cat(", or one for each block of ", block_rows, " x ", block_cols) : std::string()));
  }
  return out;
}

FloatLayer::FloatLayer(const std::string& name, FloatEncoding encoding, const Tensors& tensors, rh_data_type dtype)
    : StoredLayer(name, rows_of(tensors.codes), cols_of(tensors.codes, code_bits(encoding)), dtype),
      encoding_(filled_in(encoding, rows(), cols(), tensors.scale)),
      tensors_(tensors) {
  const int bits = code_bits(encoding_);
  if (rows() == 0 || cols() == 0 || !rh::same_type(tensors.codes->dtype, code_type(encoding_))) {
    damaged(cat("its codes are missing, or no matrix of ", element_name(encoding_)));
  }
  if (bits < 8 && cols() * bits % 32) damaged("a row is no whole number of 32-bit words");
  if (!tensors.scale) damaged("its scale is missing");
  const rh_tensor& scale = *tensors.scale;
  const bool is_scaled = std::holds_alternative<rh::ScaledFp8>(encoding_), two_level = has_global_scale(encoding_);
  const bool is_float = scale.dtype.kind == RH_KIND_FLOAT || scale.dtype.kind == RH_KIND_BFLOAT;
  const bool known = two_level ? rh::same_type(scale.dtype, kF8E4M3) : is_exponent(scale) || (is_scaled && is_float);
  if (!known) damaged("its scale has another element type");
  rh::Encoding declared = made(encoding_, rows(), cols());
  const int64_t count = elements(declared.specs()[1]);
  if (rh::elements(scale) != count) damaged(cat("scale ", shape_text(scale), " should have ", count, " elements"));
  if (two_level && (!tensors.global_scale || rh::elements(*tensors.global_scale) != 1 ||
                    !rh::same_type(tensors.global_scale->dtype, rh::kF32))) {
    damaged("its global scale is not one float32");
  }
  if (!two_level) tensors_.global_scale = nullptr;
  set_encoding(std::move(declared));
}

std::vector<uint8_t> FloatLayer::unpacked_codes() const {
  const int bits = code_bits(encoding_);
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

void FloatLayer::read_encoded(rh_tensor* const* tensors) const {
  const std::vector<uint8_t> codes = unpacked_codes();
  copy_bytes(codes.data(), codes.size(), *tensors[0], name());
  if (std::holds_alternative<rh::ScaledFp8>(encoding_) && is_exponent(*tensors_.scale)) {
    const std::vector<float> powers = rh::element_values(rh::kE8M0);
    std::vector<float> scales(rh::elements(*tensors_.scale));
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = powers[rh::data<const uint8_t>(*tensors_.scale)[i]];
    copy_bytes(scales.data(), scales.size() * sizeof(float), *tensors[1], name());
  } else {
    copy_bytes(tensors_.scale->data, rh::bytes(*tensors_.scale), *tensors[1], name());
  }
  if (!tensors_.global_scale) return;
  const float stored = rh::data<float>(*tensors_.global_scale)[0], global = tensors_.inverse ? 1 / stored : stored;
  copy_bytes(&global, sizeof global, *tensors[2], name());
}

void FloatLayer::read(rh_tensor& output) const {
  if (!tensors_.inverse) return StoredLayer::read(output);
  const std::vector<uint8_t> codes = unpacked_codes();
  const std::vector<float> values = rh::element_values(rh::kFp4E2M1);
  std::vector<float> steps = rh::element_values(rh::kFp8E4M3);
  for (float& step : steps) step *= rh::data<float>(*tensors_.global_scale)[0];
  const auto* scales = rh::data<const uint8_t>(*tensors_.scale);
  rh::detail::write_groups(output, 1, std::get<rh::Nvfp>(encoding_).group_cols, [&](int64_t group) {
    return [&, step = steps[scales[group]]](int64_t i) { return values[codes[i]] * step; };
  });
}

}  // namespace roundhouse::formats

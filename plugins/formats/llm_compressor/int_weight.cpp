// SPDX-License-Identifier: Apache-2.0
#include "int_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "plugins/formats/lib/affine_int.h"
#include "plugins/formats/lib/bit_stream.h"
#include "plugins/formats/lib/encoded_layer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

// 2^(bits-1) less, and back: the difference of two bytes, whatever their sign.
std::vector<uint8_t> shifted(const uint8_t* values, int64_t count, uint8_t difference) {
  std::vector<uint8_t> out(count);
  std::transform(values, values + count, out.begin(), [&](uint8_t value) { return value + difference; });
  return out;
}

// [rows, cols], each row a stream.
std::vector<uint32_t> packed_rows(const uint8_t* values, int64_t rows, int64_t cols, int bits) {
  const int64_t words = stream_words(cols, bits);
  std::vector<uint32_t> out(rows * words);
  rh::parallel_for(rows, kRowsPerChunk, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) pack_stream(values + r * cols, cols, bits, out.data() + r * words);
  });
  return out;
}

// [rows, groups], each column a stream.
std::vector<uint32_t> packed_columns(const uint8_t* values, int64_t rows, int64_t groups, int bits) {
  std::vector<uint32_t> out(stream_words(rows, bits) * groups);
  std::vector<uint8_t> column(rows);
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t r = 0; r < rows; ++r) column[r] = values[r * groups + g];
    pack_stream(column.data(), rows, bits, out.data() + g, groups);
  }
  return out;
}

std::vector<uint8_t> scales(const rh_encoded_layer& encoded, int64_t count, rh_data_type dtype) {
  const rh_tensor& scale = require_tensor(encoded, "scale", count);
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = rh_load(&scale, i);
    if (rh::same_type(dtype, rh::kF16) && !(std::abs(values[i]) < 65520.0f)) {  // rounds to infinity
      throw rh::Error(RH_INVALID_ARGUMENT,
                      cat(encoded.layer->name, ": scale ", values[i],
                          " does not fit into float16; set the format's option output_dtype to bfloat16"));
    }
  }
  return rounded(values, dtype);
}

bool is_matrix(const rh_tensor* tensor, rh_data_type dtype, int64_t rows, int64_t cols) {
  return tensor && rh::same_type(tensor->dtype, dtype) && tensor->ndim == 2 && tensor->shape[0] == rows &&
         tensor->shape[1] == cols;
}

// weight_shape, or the shape of unpacked codes; [0, 0] when neither is there.
std::pair<int64_t, int64_t> shape_of(const LayerReader::Tensors& tensors) {
  const rh_tensor* shape = find(tensors, "weight_shape");
  if (shape && rh::same_type(shape->dtype, rh::kI64) && rh::elements(*shape) == 2) {
    return {rh::data<int64_t>(*shape)[0], rh::data<int64_t>(*shape)[1]};
  }
  const rh_tensor* weight = find(tensors, "weight");
  return weight && weight->ndim == 2 ? std::pair{weight->shape[0], weight->shape[1]} : std::pair<int64_t, int64_t>{};
}

}  // namespace

void store_int_weight(TensorWriter& out, const rh_encoded_layer& encoded, bool packed, rh_data_type dtype) {
  const rh_format_layer& layer = *encoded.layer;
  const auto p = rh::AffineInt::of(*layer.encoding);
  const std::string name = layer.name;
  const int64_t rows = layer.rows, cols = layer.cols, weights = rows * cols, groups = p.groups(cols);
  const uint8_t offset = symmetric_zero_point(p.bits);
  const auto codes = [&] {
    const auto* all = rh::data<uint8_t>(require_tensor(encoded, "codes", weights));
    if (std::any_of(all, all + weights, [&](uint8_t code) { return code >> p.bits; }))
      throw rh::Error(RH_INVALID_ARGUMENT, cat(name, ": a code does not fit into ", p.bits, " bits"));
    return all;
  };
  const auto zero_points = [&] { return rh::data<uint8_t>(require_tensor(encoded, "zero_point", rows * groups)); };
  if (packed) {
    out.add(name + ".weight_packed", rh::kI32, {rows, stream_words(cols, p.bits)},
            [&] { return packed_rows(codes(), rows, cols, p.bits); });
    out.add(name + ".weight_shape", rh::kI64, {2}, [&] { return std::vector{rows, cols}; });
  } else {
    out.add(name + ".weight", rh::kI8, {rows, cols}, [&] { return shifted(codes(), weights, -offset); });
  }
  out.add(name + ".weight_scale", dtype, {rows, groups}, [&] { return scales(encoded, rows * groups, dtype); });
  if (p.symmetric) return;
  if (packed) {
    out.add(name + ".weight_zero_point", rh::kI32, {stream_words(rows, p.bits), groups},
            [&] { return packed_columns(zero_points(), rows, groups, p.bits); });
  } else {
    out.add(name + ".weight_zero_point", rh::kI8, {rows, groups},
            [&] { return shifted(zero_points(), rows * groups, -offset); });
  }
}

IntWeight::IntWeight(const std::string& name, const Json& arguments, const LayerReader::Tensors& tensors,
                     rh_data_type dtype)
    : StoredLayer(name, shape_of(tensors).first, shape_of(tensors).second, dtype),
      bits_(arguments.at("num_bits")),
      symmetric_(arguments.value("symmetric", true)),
      whole_tensor_(arguments.at("strategy") == "tensor"),
      group_cols_(arguments.at("strategy") == "group" ? arguments.at("group_size").get<int64_t>() : cols()),
      codes_(find(tensors, "weight_packed")),
      scale_(find(tensors, "weight_scale")),
      zero_point_(symmetric_ ? nullptr : find(tensors, "weight_zero_point")),
      group_index_(find(tensors, "weight_g_idx")) {
  const bool packed = codes_ != nullptr;
  if (!packed) codes_ = find(tensors, "weight");
  const std::string strategy = arguments.at("strategy");
  if (strategy != "tensor" && strategy != "channel" && strategy != "group") {
    damaged("integer weights with the strategy " + strategy + " cannot be read; tensor, channel and group can");
  }
  if (bits_ < 2 || bits_ > 8 || rows() <= 0 || cols() <= 0 || group_cols_ <= 0) {
    damaged(cat(bits_, " bits, ", rows(), " rows, ", cols(), " columns in groups of ", group_cols_,
                " are no weight; weight_shape may be missing"));
  }
  straddling_ = !packed || codes_->ndim != 2 || codes_->shape[1] == stream_words(cols(), bits_);
  if (!(packed ? is_matrix(codes_, rh::kI32, rows(), words(cols())) : is_matrix(codes_, rh::kI8, rows(), cols()))) {
    damaged(cat("its codes are not ", rows(), " rows of ", cols(), " codes of ", bits_, " bits"));
  }
  if (!scale_ || rh::elements(*scale_) != scale_rows() * groups()) {
    damaged(cat("weight_scale is not [", scale_rows(), ", ", groups(), "]"));
  }
  const bool unpacked_zeros = zero_point_ && rh::same_type(zero_point_->dtype, rh::kI8);
  if (!symmetric_ && !(unpacked_zeros ? rh::elements(*zero_point_) == scale_rows() * groups()
                                      : packed && is_matrix(zero_point_, rh::kI32, words(scale_rows()), groups()))) {
    damaged(cat("weight_zero_point does not hold [", scale_rows(), ", ", groups(), "] numbers of ", bits_, " bits"));
  }
  if (group_index_) {
    if (!rh::same_type(group_index_->dtype, rh::kI32) || rh::elements(*group_index_) != cols())
      damaged(cat("weight_g_idx is not ", cols(), " numbers of type I32"));
    const auto* index = rh::data<int32_t>(*group_index_);
    if (std::find(index, index + cols(), -1) != index + cols()) group_index_ = nullptr;
  }
  rh::AffineInt made(bits_, symmetric_, whole_tensor_ ? rows() : 1, group_cols_);
  made.scale = scale_->dtype;
  made.group_index = group_index_ != nullptr;
  set_encoding({made, rows(), cols()});
}

int64_t IntWeight::words(int64_t count) const {
  const int64_t in_a_word = 32 / bits_;
  return straddling_ ? stream_words(count, bits_) : (count + in_a_word - 1) / in_a_word;
}

void IntWeight::unpack_numbers(const uint32_t* words, int64_t count, uint8_t* values, int64_t stride) const {
  if (straddling_) return unpack_stream(words, count, bits_, values, stride);
  const int64_t in_a_word = 32 / bits_;
  for (int64_t i = 0; i < count; ++i)
    values[i] = static_cast<uint8_t>(words[i / in_a_word * stride] >> (i % in_a_word * bits_) & ((1u << bits_) - 1));
}

std::vector<uint8_t> IntWeight::codes() const {
  if (rh::same_type(codes_->dtype, rh::kI8)) return shifted(rh::data<uint8_t>(*codes_), rows() * cols(), offset());
  std::vector<uint8_t> out(rows() * cols());
  rh::parallel_for(rows(), kRowsPerChunk, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      unpack_numbers(rh::data<uint32_t>(*codes_) + r * words(cols()), cols(), out.data() + r * cols());
  });
  return out;
}

std::vector<uint8_t> IntWeight::zero_points() const {
  const int64_t count = scale_rows();
  if (symmetric_) return std::vector<uint8_t>(count * groups(), offset());
  const auto* bytes = rh::data<uint8_t>(*zero_point_);
  if (rh::same_type(zero_point_->dtype, rh::kI8)) return shifted(bytes, count * groups(), offset());
  std::vector<uint8_t> out(count * groups()), column(count);
  for (int64_t g = 0; g < groups(); ++g) {
    unpack_numbers(rh::data<uint32_t>(*zero_point_) + g, count, column.data(), groups());
    for (int64_t r = 0; r < count; ++r) out[r * groups() + g] = column[r];
  }
  return out;
}

void IntWeight::read_encoded(rh_tensor* const* tensors) const {
  const std::vector<uint8_t> codes = this->codes();
  copy_bytes(codes.data(), codes.size(), *tensors[0], name());
  copy_bytes(scale_->data, rh::bytes(*scale_), *tensors[1], name());
  rh_tensor* const* next = tensors + 2;
  if (!symmetric_) {
    const std::vector<uint8_t> zero_points = this->zero_points();
    copy_bytes(zero_points.data(), zero_points.size(), **next++, name());
  }
  if (group_index_) copy_bytes(group_index_->data, rh::bytes(*group_index_), **next, name());
}

}  // namespace roundhouse::formats

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

constexpr int64_t kRowsPerChunk = 16;

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

void write_int_weight(TensorWriter& file, const rh_encoded_layer& encoded, bool packed, rh_data_type dtype) {
  const rh_format_layer& layer = *encoded.layer;
  const auto p = rh::AffineInt::of(*layer.encoding);
  const std::string name = layer.name;
  const int64_t rows = layer.rows, cols = layer.cols, weights = rows * cols;
  const int64_t group_cols = std::min(p.group_cols, cols), groups = (cols + group_cols - 1) / group_cols;
  const uint8_t offset = symmetric_zero_point(p.bits);
  const auto* codes = rh::data<uint8_t>(require_tensor(encoded, "codes", weights));
  if (std::any_of(codes, codes + weights, [&](uint8_t code) { return code >> p.bits; })) {
    throw rh::Error(RH_INVALID_ARGUMENT, cat(name, ": a code does not fit into ", p.bits, " bits"));
  }
  if (packed) {
    const int64_t shape[] = {rows, cols};
    file.add(name + ".weight_packed", packed_rows(codes, rows, cols, p.bits).data(), rh::kI32,
             {rows, stream_words(cols, p.bits)});
    file.add(name + ".weight_shape", shape, rh::kI64, {2});
  } else {
    file.add(name + ".weight", shifted(codes, weights, -offset).data(), rh::kI8, {rows, cols});
  }
  file.add(name + ".weight_scale", scales(encoded, rows * groups, dtype).data(), dtype, {rows, groups});
  if (p.symmetric) return;
  const auto* zero_points = rh::data<uint8_t>(require_tensor(encoded, "zero_point", rows * groups));
  if (packed) {
    file.add(name + ".weight_zero_point", packed_columns(zero_points, rows, groups, p.bits).data(), rh::kI32,
             {stream_words(rows, p.bits), groups});
  } else {
    file.add(name + ".weight_zero_point", shifted(zero_points, rows * groups, -offset).data(), rh::kI8, {rows, groups});
  }
}

IntWeight::IntWeight(const std::string& name, const Json& arguments, const LayerReader::Tensors& tensors,
                     rh_data_type dtype)
    : StoredLayer(name, shape_of(tensors).first, shape_of(tensors).second, dtype),
      bits_(arguments.at("num_bits")),
      symmetric_(arguments.at("symmetric")),
      group_cols_(arguments.at("strategy") == "group" ? arguments.at("group_size").get<int64_t>() : cols()),
      codes_(find(tensors, "weight_packed")),
      scale_(find(tensors, "weight_scale")),
      zero_point_(symmetric_ ? nullptr : find(tensors, "weight_zero_point")) {
  const bool packed = codes_ != nullptr;
  if (!packed) codes_ = find(tensors, "weight");
  const std::string strategy = arguments.at("strategy");
  if (strategy != "channel" && strategy != "group") {
    damaged("integer weights with the strategy " + strategy + " cannot be read; channel and group can");
  }
  if (bits_ < 1 || bits_ > 8 || rows() <= 0 || cols() <= 0 || group_cols_ <= 0) {
    damaged(cat(bits_, " bits, ", rows(), " rows, ", cols(), " columns in groups of ", group_cols_,
                " are no weight; weight_shape may be missing"));
  }
  if (!(packed ? is_matrix(codes_, rh::kI32, rows(), stream_words(cols(), bits_))
               : is_matrix(codes_, rh::kI8, rows(), cols()))) {
    damaged(cat("its codes are not ", rows(), " rows of ", cols(), " codes of ", bits_, " bits"));
  }
  if (!scale_ || !is_matrix(scale_, scale_->dtype, rows(), groups())) {
    damaged(cat("weight_scale is not [", rows(), ", ", groups(), "]"));
  }
  if (!symmetric_ && !(packed ? is_matrix(zero_point_, rh::kI32, stream_words(rows(), bits_), groups())
                              : is_matrix(zero_point_, rh::kI8, rows(), groups()))) {
    damaged(cat("weight_zero_point does not hold [", rows(), ", ", groups(), "] numbers of ", bits_, " bits"));
  }
  rh::AffineInt made(bits_, symmetric_, 1, group_cols_);
  made.scale = scale_->dtype;
  set_encoding({made, rows(), cols()});
}

std::vector<uint8_t> IntWeight::codes() const {
  if (rh::same_type(codes_->dtype, rh::kI8)) return shifted(rh::data<uint8_t>(*codes_), rows() * cols(), offset());
  std::vector<uint8_t> out(rows() * cols());
  const int64_t words = stream_words(cols(), bits_);
  rh::parallel_for(rows(), kRowsPerChunk, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      unpack_stream(rh::data<uint32_t>(*codes_) + r * words, cols(), bits_, out.data() + r * cols());
    }
  });
  return out;
}

std::vector<uint8_t> IntWeight::zero_points() const {
  if (symmetric_) return std::vector<uint8_t>(rows() * groups(), offset());
  const auto* bytes = rh::data<uint8_t>(*zero_point_);
  if (rh::same_type(zero_point_->dtype, rh::kI8)) return shifted(bytes, rows() * groups(), offset());
  std::vector<uint8_t> out(rows() * groups()), column(rows());
  for (int64_t g = 0; g < groups(); ++g) {
    unpack_stream(rh::data<uint32_t>(*zero_point_) + g, rows(), bits_, column.data(), groups());
    for (int64_t r = 0; r < rows(); ++r) out[r * groups() + g] = column[r];
  }
  return out;
}

void IntWeight::read_encoded(rh_tensor* const* tensors) const {
  const std::vector<uint8_t> codes = this->codes();
  copy_bytes(codes.data(), codes.size(), *tensors[0], name());
  copy_bytes(scale_->data, rh::bytes(*scale_), *tensors[1], name());
  if (symmetric_) return;
  const std::vector<uint8_t> zero_points = this->zero_points();
  copy_bytes(zero_points.data(), zero_points.size(), *tensors[2], name());
}

}  // namespace roundhouse::formats

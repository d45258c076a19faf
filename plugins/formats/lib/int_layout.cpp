// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/int_layout.h"

#include <algorithm>
#include <cassert>

#include "plugins/formats/lib/bit_stream.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

// AWQ's stream holds logical value kAwqOrder[i] of each 8 at position i.
constexpr int kAwqOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
int64_t awq_row(int64_t position) { return position / 8 * 8 + kAwqOrder[position % 8]; }

// Input columns that a thread takes together: their codes of one row are neighbours.
constexpr int64_t kAwqColumnsPerChunk = 64;

// qweight: [cols, rows * bits / 32]
void pack_awq_codes(const AffineLayer& layer, uint32_t* qweight) {
  const int64_t words = stream_words(layer.rows, layer.bits);
  rh::parallel_for(layer.cols, kAwqColumnsPerChunk, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> streams((end - begin) * layer.rows);
    for (int64_t position = 0; position < layer.rows; ++position) {
      const uint8_t* row = layer.codes.data() + awq_row(position) * layer.cols;
      for (int64_t c = begin; c < end; ++c) streams[(c - begin) * layer.rows + position] = row[c];
    }
    for (int64_t c = begin; c < end; ++c) {
      pack_stream(streams.data() + (c - begin) * layer.rows, layer.rows, layer.bits, qweight + c * words);
    }
  });
}

void unpack_awq_codes(const StoredInt& layer, uint8_t* codes) {
  const int64_t words = stream_words(layer.rows, layer.bits);
  const auto* qweight = rh::data<const uint32_t>(*layer.qweight);
  rh::parallel_for(layer.cols, kAwqColumnsPerChunk, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> streams((end - begin) * layer.rows);
    for (int64_t c = begin; c < end; ++c) {
      unpack_stream(qweight + c * words, layer.rows, layer.bits, streams.data() + (c - begin) * layer.rows);
    }
    for (int64_t position = 0; position < layer.rows; ++position) {
      uint8_t* row = codes + awq_row(position) * layer.cols;
      for (int64_t c = begin; c < end; ++c) row[c] = streams[(c - begin) * layer.rows + position];
    }
  });
}

[[noreturn]] void fail(const StoredInt& layer, const char* tensor, const std::string& what) {
  throw rh::Error(RH_DATA_LOSS, layer.name + "." + tensor + " " + what);
}

void check_tensor(const StoredInt& layer, const char* name, const rh_tensor* tensor, rh_data_type dtype, int32_t ndim) {
  if (!tensor) fail(layer, name, "is missing");
  if (!rh::same_type(tensor->dtype, dtype)) {
    fail(layer, name, dtype.kind == RH_KIND_INT ? "is not of type I32" : "is not of type F16");
  }
  if (tensor->ndim != ndim) fail(layer, name, cat("has the shape ", shape_text(*tensor)));
}

// The width of a group when g_idx says column / width, else 0: the columns are in an order of their own.
int64_t group_width(const StoredInt& layer) {
  const int64_t cols = layer.g_idx->shape[0];
  const auto* group = rh::data<const int32_t>(*layer.g_idx);
  const int64_t width = std::find_if(group, group + cols, [](int32_t g) { return g != 0; }) - group;
  for (int64_t c = 0; c < cols; ++c)
    if (width == 0 || group[c] != c / width) return 0;
  return width;
}

}  // namespace

std::vector<int64_t> qweight_shape(int64_t rows, int64_t cols, int bits, IntLayout layout) {
  if (layout == IntLayout::kAwq) return {cols, stream_words(rows, bits)};
  return {stream_words(cols, bits), rows};
}

PackedInt pack(const AffineLayer& layer, IntLayout layout) {
  assert(layer.rows % 32 == 0 && layer.cols % 32 == 0);
  const int64_t groups = layer.groups();
  const int64_t zero_words = stream_words(layer.rows, layer.bits);
  const bool awq = layout == IntLayout::kAwq;
  PackedInt out;
  const std::vector<int64_t> shape = qweight_shape(layer.rows, layer.cols, layer.bits, layout);
  out.qweight.resize(shape[0] * shape[1]);
  if (awq) {
    pack_awq_codes(layer, out.qweight.data());
  } else {
    pack_rows_down(layer.codes.data(), layer.rows, layer.cols, layer.bits, out.qweight.data());
  }
  out.qzeros.resize(groups * zero_words);
  out.scales.resize(groups * layer.rows);
  const uint8_t offset = layout == IntLayout::kMinusOne ? 1 : 0;
  std::vector<uint8_t> zero_points(layer.rows);
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t r = 0; r < layer.rows; ++r) {
      out.scales[g * layer.rows + r] = layer.scale[r * groups + g];
      assert(layer.zero_point[r * groups + g] >= offset);
      zero_points[r] = layer.zero_point[(awq ? awq_row(r) : r) * groups + g] - offset;
    }
    pack_stream(zero_points.data(), layer.rows, layer.bits, out.qzeros.data() + g * zero_words);
  }
  return out;
}

void StoredInt::resolve(IntLayout layout, int64_t group_size) {
  check_tensor(*this, "qweight", qweight, rh::kI32, 2);
  check_tensor(*this, "qzeros", qzeros, rh::kI32, 2);
  check_tensor(*this, "scales", scales, scales && rh::same_type(scales->dtype, rh::kBF16) ? rh::kBF16 : rh::kF16, 2);
  const int64_t group_count = scales->shape[0];
  rows = scales->shape[1];
  const int64_t zero_bits = qzeros->shape[1] * 32;
  if (group_count == 0 || rows == 0 || qzeros->shape[0] != group_count || zero_bits % rows != 0 ||
      zero_bits / rows < 2 || zero_bits / rows > 8) {
    fail(*this, "qzeros",
         cat("of ", shape_text(*qzeros), " does not hold zero points of 2 to 8 bits for scales of ",
             shape_text(*scales)));
  }
  bits = static_cast<int>(zero_bits / rows);
  const bool awq = layout == IntLayout::kAwq;
  cols = awq ? qweight->shape[0] : qweight->shape[0] * 32 / bits;
  if (qweight->shape[1] != (awq ? qzeros->shape[1] : rows) || cols == 0 || cols % 32 != 0 || (awq && rows % 8 != 0)) {
    fail(*this, "qweight",
         cat("of ", shape_text(*qweight), " does not hold ", bits, "-bit codes for scales of ", shape_text(*scales)));
  }
  bool told = false;  // by g_idx, how wide groups are
  if (g_idx) {
    check_tensor(*this, "g_idx", g_idx, rh::kI32, 1);
    if (g_idx->shape[0] != cols) fail(*this, "g_idx", cat("has the shape ", shape_text(*g_idx)));
    const int64_t width = group_width(*this);
    if (width > 0) {
      told = true;
      group_size = width;
      g_idx = nullptr;
    }
  }
  if (g_idx) {
    const auto* group = rh::data<const int32_t>(*g_idx);
    const auto wrong = std::find_if(group, group + cols, [&](int32_t g) { return g < 0 || g >= group_count; });
    if (wrong != group + cols)
      fail(*this, "g_idx",
           cat("names the group ", *wrong, ", and scales of ", shape_text(*scales), " have ", group_count));
  }
  group_cols = group_size <= 0 ? cols : std::min(group_size, cols);
  // A layer with a group size of its own, which config.json may hide behind a regular expression.
  if (!told && groups() != group_count && cols % group_count == 0) group_cols = cols / group_count;
  if (groups() != group_count) {
    fail(*this, "scales",
         cat("of ", shape_text(*scales), " does not fit ", cols, " columns in groups of ", group_size));
  }
  std::vector<uint8_t> zero_points(rows * group_count);
  unpack_zero_points(*this, layout, zero_points.data());
  symmetric = std::all_of(zero_points.begin(), zero_points.end(),
                          [&](uint8_t zero_point) { return zero_point == symmetric_zero_point(bits); });
}

void unpack_zero_points(const StoredInt& layer, IntLayout layout, uint8_t* zero_point) {
  const int64_t groups = layer.groups();
  const int64_t words = layer.qzeros->shape[1];
  // Older exporters let zero point 0 wrap around to the largest stored value; the mask undoes that.
  const int offset = layout == IntLayout::kMinusOne ? 1 : 0;
  const int mask = (1 << layer.bits) - 1;
  std::vector<uint8_t> stream(layer.rows);
  for (int64_t g = 0; g < groups; ++g) {
    unpack_stream(rh::data<const uint32_t>(*layer.qzeros) + g * words, layer.rows, layer.bits, stream.data());
    for (int64_t i = 0; i < layer.rows; ++i) {
      const int64_t row = layout == IntLayout::kAwq ? awq_row(i) : i;
      zero_point[row * groups + g] = static_cast<uint8_t>((stream[i] + offset) & mask);
    }
  }
}

AffineLayer unpack(const StoredInt& layer, IntLayout layout) {
  const int64_t groups = layer.groups();
  AffineLayer out{layer.bits, layer.symmetric, layer.rows, layer.cols, layer.group_cols, {}, {}, {}};
  out.codes.resize(layer.rows * layer.cols);
  if (layout == IntLayout::kAwq) {
    unpack_awq_codes(layer, out.codes.data());
  } else {
    unpack_rows_down(rh::data<const uint32_t>(*layer.qweight), layer.rows, layer.cols, layer.bits, out.codes.data());
  }
  out.zero_point.resize(layer.rows * groups);
  unpack_zero_points(layer, layout, out.zero_point.data());
  out.scale.resize(layer.rows * groups);
  const auto* scales = rh::data<const uint16_t>(*layer.scales);
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t r = 0; r < layer.rows; ++r) out.scale[r * groups + g] = scales[g * layer.rows + r];
  }
  return out;
}

}  // namespace roundhouse::formats

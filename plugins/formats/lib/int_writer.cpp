// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/int_writer.h"

#include <algorithm>
#include <optional>

#include "plugins/formats/lib/bit_stream.h"

namespace roundhouse::formats {

void store_int_layer(TensorWriter& out, const rh_encoded_layer& encoded, IntLayout layout, bool group_index) {
  const rh_format_layer& layer = *encoded.layer;
  const auto made = rh::AffineInt::of(*layer.encoding);
  const std::string name = layer.name;
  const int64_t group_cols = std::min(made.group_cols, layer.cols), groups = made.groups(layer.cols);
  const int64_t row_words = stream_words(layer.rows, made.bits);
  std::optional<PackedInt> once;
  const auto packed = [&]() -> const PackedInt& {
    if (!once) {
      AffineLayer affine = affine_layer(encoded);
      if (layout == IntLayout::kMinusOne) mirror_zero_points(affine);
      once = pack(affine, layout);
    }
    return *once;
  };
  if (encoded.bias) out.add(name + ".bias", *encoded.bias);
  if (group_index) {
    out.add(name + ".g_idx", rh::kI32, {layer.cols}, [&] {
      std::vector<int32_t> group(layer.cols);
      for (int64_t c = 0; c < layer.cols; ++c) group[c] = static_cast<int32_t>(c / group_cols);
      return group;
    });
  }
  out.add(
      name + ".qweight", rh::kI32,
      qweight_shape(layer.rows, layer.cols, made.bits, layout), [&]() -> const auto& { return packed().qweight; });
  out.add(
      name + ".qzeros", rh::kI32, {groups, row_words}, [&]() -> const auto& { return packed().qzeros; });
  out.add(
      name + ".scales", rh::kF16, {groups, layer.rows}, [&]() -> const auto& { return packed().scales; });
}

IntWriter::IntWriter(const rh_export& target, IntLayout layout, bool group_index)
    : CheckpointWriter(target, rh::Experts::kApart), plan_(*target.plan), layout_(layout), group_index_(group_index) {}

void IntWriter::store_layer(const rh_encoded_layer& layer, TensorWriter& out) {
  store_int_layer(out, layer, layout_, group_index_);
}

}  // namespace roundhouse::formats

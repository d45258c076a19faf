#include "plugins/formats/lib/int_writer.h"

#include "plugins/formats/lib/bit_stream.h"

namespace roundhouse::formats {

void write_int_layer(TensorWriter& tensors, const rh_encoded_layer& encoded, IntLayout layout, bool group_index) {
  AffineLayer layer = affine_layer(encoded);
  if (layout == IntLayout::kMinusOne) mirror_zero_points(layer);
  const PackedInt packed = pack(layer, layout);
  const std::string name = encoded.layer->name;
  const int64_t groups = layer.groups();
  if (encoded.bias) tensors.add(name + ".bias", *encoded.bias);
  if (group_index) {
    std::vector<int32_t> group(layer.cols);
    for (int64_t c = 0; c < layer.cols; ++c) group[c] = static_cast<int32_t>(c / layer.group_cols);
    tensors.add(name + ".g_idx", group.data(), rh::kI32, {layer.cols});
  }
  tensors.add(name + ".qweight", packed.qweight.data(), rh::kI32, packed.qweight_shape);
  tensors.add(name + ".qzeros", packed.qzeros.data(), rh::kI32, {groups, stream_words(layer.rows, layer.bits)});
  tensors.add(name + ".scales", packed.scales.data(), rh::kF16, {groups, layer.rows});
}

IntWriter::IntWriter(const rh_export& target, IntLayout layout, bool group_index)
    : CheckpointWriter(target), plan_(*target.plan), layout_(layout), group_index_(group_index) {}

void IntWriter::add_layer(const rh_encoded_layer& encoded) {
  const rh_format_layer& layer = *encoded.layer;
  write_int_layer(tensors(), encoded, layout_, group_index_);
  layers_.push_back({layer.name, plan_.of(layer), in_block(layer.name)});
}

}  // namespace roundhouse::formats

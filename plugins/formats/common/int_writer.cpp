#include "plugins/formats/common/int_writer.h"

#include "plugins/formats/common/bit_stream.h"

namespace roundhouse::formats {

IntWriter::IntWriter(const rh_export& target, IntPlan plan, IntLayout layout, bool group_index)
    : target_(target), plan_(std::move(plan)), layout_(layout), group_index_(group_index), tensors_(target) {}

void IntWriter::add_layer(const rh_encoded_layer& encoded) {
  AffineLayer layer = affine_layer(encoded);
  if (layout_ == IntLayout::kMinusOne) mirror_zero_points(layer);
  const PackedInt packed = pack(layer, layout_);
  const std::string name = encoded.name;
  const int64_t groups = layer.groups();
  if (encoded.bias) tensors_.add(name + ".bias", *encoded.bias);
  if (group_index_) {
    std::vector<int32_t> group(layer.cols);
    for (int64_t c = 0; c < layer.cols; ++c) group[c] = static_cast<int32_t>(c / layer.group_cols);
    tensors_.add(name + ".g_idx", group.data(), rh::kI32, {layer.cols});
  }
  tensors_.add(name + ".qweight", packed.qweight.data(), rh::kI32, {stream_words(layer.cols, layer.bits), layer.rows});
  tensors_.add(name + ".qzeros", packed.qzeros.data(), rh::kI32, {groups, stream_words(layer.rows, layer.bits)});
  tensors_.add(name + ".scales", packed.scales.data(), rh::kF16, {groups, layer.rows});
  layers_.push_back({name, int_scheme(encoded), name.starts_with(plan_.block_prefix + ".")});
}

void IntWriter::add_tensor(const std::string& name, const rh_tensor& tensor) { tensors_.add(name, tensor); }

void IntWriter::finish() {
  tensors_.finish();
  write_config(target_, quantization_config());
}

}  // namespace roundhouse::formats

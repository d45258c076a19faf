#include "plugins/formats/lib/int_reader.h"

#include <unordered_map>

namespace roundhouse::formats {
namespace {

struct Part {
  const char* suffix;
  const rh_tensor* StoredInt::*member;
};
constexpr Part kParts[] = {{".qweight", &StoredInt::qweight},
                           {".qzeros", &StoredInt::qzeros},
                           {".scales", &StoredInt::scales},
                           {".g_idx", &StoredInt::g_idx}};

const Part* part_of_layer(const std::string& tensor) {
  for (const Part& part : kParts) {
    if (tensor.ends_with(part.suffix)) return &part;
  }
  return nullptr;
}

int64_t group_size_at(const Json& scheme, int64_t otherwise) {
  const auto found = scheme.find("group_size");
  return found != scheme.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

// The group size that config.json gives a layer by its exact name, or all layers.
int64_t group_size(const Json& quantization, const std::string& layer) {
  const int64_t common = group_size_at(quantization, -1);
  const auto extra = quantization.find("extra_config");
  return extra != quantization.end() && extra->contains(layer) ? group_size_at(extra->at(layer), common) : common;
}

void copy(const void* from, size_t size, const rh_tensor& to, const std::string& name) {
  rh::require(rh::bytes(to) == size, name + ": the output has another shape");
  std::memcpy(to.data, from, size);
}

}  // namespace

IntReader::IntReader(const std::string& folder, const Json& config, IntLayout layout)
    : tensors_(folder), layout_(layout), dtype_(config_dtype(config)) {
  const Json quantization = quantization_of(config);
  std::unordered_map<std::string, Layer*> layers;
  for (const auto& entry : tensors_.entries()) {
    const Part* part = part_of_layer(entry.name);
    if (!part) {
      items_.push_back({&entry, nullptr});
      continue;
    }
    const std::string name = entry.name.substr(0, entry.name.size() - std::strlen(part->suffix));
    Layer*& layer = layers[name];
    if (!layer) {
      items_.push_back({nullptr, std::make_unique<Layer>()});
      layer = items_.back().layer.get();
      layer->weight_name = name + ".weight";
      layer->stored.name = folder + ": " + name;
    }
    layer->stored.*part->member = entry.view;
  }
  for (auto& [name, layer] : layers) {
    const int64_t configured = group_size(quantization, name);
    layer->stored.resolve(layout, configured);
    describe(*layer, configured);
  }
}

void IntReader::describe(Layer& layer, int64_t configured) {
  const StoredInt& stored = layer.stored;
  layer.shape[0] = stored.rows;
  layer.shape[1] = stored.cols;
  layer.specs.add("codes", rh::kU8, {stored.rows, stored.cols});
  layer.specs.add("scale", rh::kF16, {stored.rows, stored.groups()});
  if (!stored.symmetric) layer.specs.add("zero_point", rh::kU8, {stored.rows, stored.groups()});
  layer.parameters =
      Json{{"bits", stored.bits}, {"group_cols", stored.group_cols}, {"group_rows", 1}, {"symmetric", stored.symmetric}}
          .dump();
  layer.encoding = {sizeof layer.encoding, layer.specs.count(), RH_ENCODING_AFFINE_INT, layer.parameters.c_str(),
                    layer.specs.data()};
  // A group as wide as the layer is a row, unless other layers have groups of that width too.
  const bool whole_row = stored.groups() == 1 && stored.cols != configured;
  layer.scheme = stored_scheme(stored.bits, stored.symmetric, 1, whole_row ? RH_GROUP_ROW : stored.group_cols);
}

const IntReader::Item& IntReader::at(uint64_t index) const {
  if (index >= items_.size()) throw rh::Error(RH_OUT_OF_RANGE, "no such tensor");
  return items_[index];
}

const IntReader::Layer& IntReader::layer_at(uint64_t index) const {
  const Item& item = at(index);
  if (!item.layer) throw rh::Error(RH_INVALID_ARGUMENT, item.tensor->name + " is not quantized");
  return *item.layer;
}

void IntReader::item(uint64_t index, rh_item& out) {
  const Item& item = at(index);
  if (item.tensor) return describe_tensor(*item.tensor, out);
  out.kind = RH_ITEM_LAYER;
  out.name = item.layer->weight_name.c_str();
  out.dtype = dtype_;
  out.ndim = 2;
  out.shape = item.layer->shape;
  out.encoding = &item.layer->encoding;
  out.scheme = &item.layer->scheme;
}

void IntReader::read(uint64_t index, rh_tensor& output) {
  const Item& item = at(index);
  if (item.tensor) return copy_tensor(*item.tensor, output);
  const Layer& layer = *item.layer;
  rh::require(output.ndim == 2 && output.shape[0] == layer.shape[0] && output.shape[1] == layer.shape[1],
              layer.weight_name + ": the output has another shape");
  dequantize(unpack(layer.stored, layout_), output);
}

void IntReader::read_encoded(uint64_t index, rh_tensor* const* tensors) {
  const Layer& layer = layer_at(index);
  const AffineLayer unpacked = unpack(layer.stored, layout_);
  copy(unpacked.codes.data(), unpacked.codes.size(), *tensors[0], layer.weight_name);
  copy(unpacked.scale.data(), unpacked.scale.size() * sizeof(uint16_t), *tensors[1], layer.weight_name);
  if (!layer.stored.symmetric) {
    copy(unpacked.zero_point.data(), unpacked.zero_point.size(), *tensors[2], layer.weight_name);
  }
}

}  // namespace roundhouse::formats

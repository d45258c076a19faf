// SPDX-License-Identifier: Apache-2.0
// @NAME@: a checkpoint with integer codes and their scales, in safetensors.
//   LAYER.codes, LAYER.scale, ...  the tensors of affine-int/1, under their names
//   LAYER.layout                   i64 [6]: bits, symmetric, rows and columns of a group; kind and bits of the weight's
//                                  element type
// It packs affine-int/1 of any data type. Change the packing, keep the shape.
#include <fstream>
#include <roundhouse/encoding/decode.hpp>
#include <roundhouse/files.hpp>

namespace {

constexpr const char* kMarker = "@NAME@.json";  // by which probe() knows the folder

class MyWriter : public rh::SafetensorsWriter {
 public:
  explicit MyWriter(const rh_export& target) : SafetensorsWriter(target) {}

 private:
  // Runs for every layer before the first one comes, without data: what needs the data goes into a function, as below.
  void store_layer(const rh_encoded_layer& encoded, rh::TensorWriter& out) override {
    const rh_format_layer& layer = *encoded.layer;
    const std::string name = layer.name;
    const auto made = rh::AffineInt::of(*layer.encoding);
    for (uint32_t i = 0; i < layer.encoding->tensor_count; ++i)
      out.add(name + "." + layer.encoding->tensors[i]->name, *encoded.tensors[i]);
    out.add(name + ".layout", rh::kI64, {6}, [&] {
      return std::vector<int64_t>{made.bits,       made.symmetric,   made.group_rows,
                                  made.group_cols, layer.dtype.kind, layer.dtype.bits};
    });
    if (encoded.bias) out.add(name + ".bias", *encoded.bias);
  }
  void write_files() override {
    rh::write_text(target(), "config.json", rh::model_text(target(), "config"));
    rh::write_text(target(), kMarker, "{\"version\": 1}\n");
    rh::copy_side_files(target());
  }
};

class MyReader : public rh::Reader {
 public:
  explicit MyReader(const std::string& folder) : file_(folder) {
    for (const auto& entry : file_.entries()) {
      const size_t dot = entry.name.rfind('.');
      const std::string layer = entry.name.substr(0, dot);
      const std::string what = dot == std::string::npos ? "" : entry.name.substr(dot);
      if (what == ".layout")
        add_layer(layer, *entry.view);
      else if (what == ".bias" || !file_.find(layer + ".layout"))
        items_.push_back({&entry, {}, {}, {}, {}});
    }
  }
  uint64_t count() const override { return items_.size(); }
  void item(uint64_t index, rh_item& out) override {
    const Item& item = items_.at(index);
    if (item.tensor) return rh::describe_tensor(*item.tensor, out);
    out.kind = RH_ITEM_LAYER;
    out.name = item.name.c_str();
    out.dtype = item.dtype;
    out.ndim = 2;
    out.shape = item.encoding.specs()[0].shape;  // the codes'
    out.encoding = item.encoding.get();
  }
  void read(uint64_t index, rh_tensor& output) override {
    const Item& item = items_.at(index);
    if (item.tensor) return rh::copy_tensor(*item.tensor, output);
    rh::decode(*item.encoding.get(), item.tensors.data(), output);
  }
  void read_encoded(uint64_t index, rh_tensor* const* tensors) override {
    rh::copy_tensors(items_.at(index).tensors, tensors);
  }

 private:
  struct Item {
    const rh::TensorReader::Entry* tensor;  // stored as it is; nullptr: a layer
    std::string name;
    rh_data_type dtype;
    rh::Encoding encoding;
    std::vector<const rh_tensor*> tensors;
  };

  void add_layer(const std::string& layer, const rh_tensor& layout) {
    const int64_t* const n = rh::data<int64_t>(layout);
    const rh_tensor* const codes = file_.find(layer + ".codes");
    const rh_tensor* const scale = file_.find(layer + ".scale");
    if (!rh::same_type(layout.dtype, rh::kI64) || rh::elements(layout) != 6 || n[0] < 2 || n[0] > 8 || n[2] < 1 ||
        n[3] < 1 || !codes || codes->ndim != 2 || !scale || !rh_is_float(scale->dtype))
      throw rh::Error(RH_DATA_LOSS, layer + ": its layout, codes or scales are missing or damaged");
    rh::AffineInt made(static_cast<int>(n[0]), n[1] != 0, n[2], n[3]);
    made.scale = scale->dtype;
    made.outer_scale = file_.find(layer + ".outer_scale");
    made.group_index = file_.find(layer + ".group_index");
    rh::Encoding encoding(made, codes->shape[0], codes->shape[1]);
    auto tensors = rh::stored_tensors(file_, layer, *encoding.get());
    items_.push_back(
        {nullptr, layer + ".weight", {uint8_t(n[4]), uint8_t(n[5]), 1}, std::move(encoding), std::move(tensors)});
  }

  rh::TensorReader file_;
  std::vector<Item> items_;
};

class MyFormat : public rh::Format {
 public:
  MyFormat() : Format("@NAME@", "Integer codes and their scales in safetensors.", {RH_ENCODING_AFFINE_INT}) {}

  void check(const rh_format_layer& layer, const char*) const override {
    rh::AffineInt::of(*layer.encoding);  // throws for parameters that it does not know
    rh::require(!layer.activation_encoding, "@NAME@ does not say how activations are quantized");
  }
  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<MyWriter>(target);
  }
  bool resumes() const override { return true; }
  int32_t probe(const std::string& path) const override { return std::ifstream(path + "/" + kMarker) ? 10 : 0; }
  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    return std::make_unique<MyReader>(source.path);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<MyFormat>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(Definition, "@NAME@", "My company", "0.1.0", "Integer codes and their scales in safetensors.")

// SPDX-License-Identifier: Apache-2.0
// The format nf4: a safetensors checkpoint of the encoding that the data type nf4 emits, two codes a byte.
//   LAYER.nf4         u8 [rows, ceil(cols / 2)], the even column in the low bits
//   LAYER.nf4_scale   f16 [rows, groups]
//   LAYER.nf4_layout  i64 [4]: cols, columns of a group, kind and bits of the weight's element type
#include <fstream>
#include <roundhouse/files.hpp>

#include "nf4.h"

namespace {

constexpr const char* kMarker = "nf4.json";  // by which probe() knows the folder

class Nf4Writer : public rh::SafetensorsWriter {
 public:
  explicit Nf4Writer(const rh_export& target) : SafetensorsWriter(target) {}

 private:
  void store_layer(const rh_encoded_layer& encoded, rh::TensorWriter& out) override {
    const rh_format_layer& layer = *encoded.layer;
    const std::string name = layer.name;
    const auto made = Nf4Encoding::of(*layer.encoding);
    const int64_t packed_cols = (layer.cols + 1) / 2;
    out.add(name + ".nf4", rh::kU8, {layer.rows, packed_cols}, [&] {
      const uint8_t* const codes = rh::data<uint8_t>(rh::require_tensor(encoded, "codes", layer.rows * layer.cols));
      std::vector<uint8_t> packed(static_cast<size_t>(layer.rows * packed_cols));
      for (int64_t r = 0; r < layer.rows; ++r)
        for (int64_t c = 0; c < layer.cols; ++c)
          packed[r * packed_cols + c / 2] |= static_cast<uint8_t>(codes[r * layer.cols + c] << (c % 2 * 4));
      return packed;
    });
    out.add(name + ".nf4_scale", rh::require_tensor(encoded, "scale", layer.rows * made.groups(layer.cols)));
    out.add(name + ".nf4_layout", rh::kI64, {4}, [&] {
      return std::vector<int64_t>{layer.cols, made.group_cols, layer.dtype.kind, layer.dtype.bits};
    });
    if (encoded.bias) out.add(name + ".bias", *encoded.bias);
  }
  void write_files() override {
    rh::write_text(target(), "config.json", rh::model_text(target(), "config"));
    rh::write_text(target(), kMarker, "{\"version\": 1}\n");
    rh::copy_side_files(target());
  }
};

class Nf4Reader : public rh::Reader {
 public:
  explicit Nf4Reader(const std::string& folder) : file_(folder) {
    for (const auto& entry : file_.entries()) {
      const size_t dot = entry.name.rfind('.');
      const std::string layer = entry.name.substr(0, dot),
                        what = dot == std::string::npos ? "" : entry.name.substr(dot);
      if (what == ".nf4")
        add_layer(layer, *entry.view);
      else if (what != ".nf4_scale" && what != ".nf4_layout")
        items_.push_back({&entry, {}, {}, {}, nullptr, nullptr});
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
    std::vector<uint8_t> codes = unpacked(item);
    const rh::View view(codes.data(), rh::kU8, {output.shape[0], output.shape[1]});
    const rh_tensor* const tensors[] = {view.get(), item.scale};
    Nf4Encoding::of(*item.encoding.get()).decode(*item.encoding.get(), tensors, output);
  }
  void read_encoded(uint64_t index, rh_tensor* const* tensors) override {
    const Item& item = items_.at(index);
    const std::vector<uint8_t> codes = unpacked(item);
    std::memcpy(tensors[0]->data, codes.data(), codes.size());
    rh::copy_tensors({item.scale}, tensors + 1);
  }

 private:
  struct Item {
    const rh::TensorReader::Entry* tensor;  // stored as it is; nullptr: a layer
    std::string name;
    rh_data_type dtype;
    rh::Encoding encoding;
    const rh_tensor *packed, *scale;
  };

  void add_layer(const std::string& layer, const rh_tensor& packed) {
    const rh_tensor* const scale = file_.find(layer + ".nf4_scale");
    const rh_tensor* const layout = file_.find(layer + ".nf4_layout");
    const int64_t* const n = layout && rh::elements(*layout) == 4 ? rh::data<int64_t>(*layout) : nullptr;
    const int64_t rows = packed.ndim == 2 ? packed.shape[0] : 0;
    if (!n || n[0] < 1 || n[1] < 1 || rh::elements(packed) != rows * ((n[0] + 1) / 2) || !scale ||
        !rh::same_type(scale->dtype, rh::kF16) || rh::elements(*scale) != rows * Nf4Encoding{n[1]}.groups(n[0]))
      throw rh::Error(RH_DATA_LOSS, layer + ": its scales or its layout are missing or damaged");
    const rh_data_type dtype{static_cast<uint8_t>(n[2]), static_cast<uint8_t>(n[3]), 1};
    items_.push_back({nullptr, layer + ".weight", dtype, {Nf4Encoding{n[1]}, rows, n[0]}, &packed, scale});
  }
  static std::vector<uint8_t> unpacked(const Item& item) {
    const int64_t rows = item.packed->shape[0], packed_cols = item.packed->shape[1];
    const int64_t cols = item.encoding.specs()[0].shape[1];
    const uint8_t* const packed = rh::data<uint8_t>(*item.packed);
    std::vector<uint8_t> codes(static_cast<size_t>(rows * cols));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        codes[r * cols + c] = static_cast<uint8_t>(packed[r * packed_cols + c / 2] >> (c % 2 * 4) & 15);
    return codes;
  }

  rh::TensorReader file_;
  std::vector<Item> items_;
};

class Nf4Format : public rh::Format {
 public:
  Nf4Format() : Format("nf4", "NF4 codes, two a byte, in safetensors.", {Nf4Encoding::kId}) {}

  void check(const rh_format_layer& layer, const char*) const override {
    Nf4Encoding::of(*layer.encoding);  // throws for parameters that it does not know
    rh::require(!layer.activation_encoding, "the format nf4 does not say how activations are quantized");
  }
  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<Nf4Writer>(target);
  }
  bool resumes() const override { return true; }
  int32_t probe(const std::string& path) const override { return std::ifstream(path + "/" + kMarker) ? 10 : 0; }
  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    return std::make_unique<Nf4Reader>(source.path);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<Nf4Format>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(Definition, "nf4_format", "Example", "1.0.0", "Checkpoints of NF4 weights.")

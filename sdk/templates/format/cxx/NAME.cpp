// @NAME@: a checkpoint with integer codes and their scales, in safetensors.
//   LAYER.codes       u8 [rows, cols]
//   LAYER.scale       as the data type sent it
//   LAYER.zero_point  u8, shape of scale; absent when symmetric
//   LAYER.layout      i64 [4]: columns of a group, the code that means 0 when symmetric, the weight's element type
// It packs affine-int/1 of any data type, one group a row or more. Change the packing, keep the shape.
#include <fstream>
#include <roundhouse/files.hpp>
#include <roundhouse/helper/floats.h>

namespace {

constexpr const char* kMarker = "@NAME@.json";  // by which probe() knows the folder

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

class @CLASS@Writer : public rh::Writer {
 public:
  explicit @CLASS@Writer(const rh_export& target) : target_(target), file_(target) {}

  void add_layer(const rh_encoded_layer& layer) override {
    const std::string name = layer.name;
    const int64_t wanted = layer.scheme->group_cols;
    const int64_t layout[4] = {wanted > 0 ? wanted : layer.cols, 1 << (layer.scheme->bits - 1), layer.dtype.kind,
                               layer.dtype.bits};
    file_.add(name + ".codes", rh::require_tensor(layer, "codes", layer.rows * layer.cols));
    file_.add(name + ".scale", *rh::find_tensor(layer, "scale"));
    if (const rh_tensor* zero_point = rh::find_tensor(layer, "zero_point")) file_.add(name + ".zero_point", *zero_point);
    file_.add(name + ".layout", layout, rh::kI64, {4});
    if (layer.bias) file_.add(name + ".bias", *layer.bias);
  }
  void add_tensor(const std::string& name, const rh_tensor& tensor) override { file_.add(name, tensor); }
  void finish() override {
    file_.finish();
    rh::write_text(target_, "config.json", rh::model_text(target_, "config"));
    rh::write_text(target_, kMarker, "{\"version\": 1}\n");
    rh::copy_side_files(target_);
  }

 private:
  const rh_export& target_;
  rh::TensorWriter file_;
};

class @CLASS@Reader : public rh::Reader {
 public:
  explicit @CLASS@Reader(const std::string& folder) : file_(folder) {
    for (const auto& entry : file_.entries()) {
      const size_t dot = entry.name.rfind('.');
      const std::string layer = entry.name.substr(0, dot);
      if (dot == std::string::npos || !file_.find(layer + ".layout")) {
        items_.push_back({&entry, layer, entry.name, nullptr});
      } else if (ends_with(entry.name, ".codes")) {
        items_.push_back({nullptr, layer, layer + ".weight", &entry});
      } else if (ends_with(entry.name, ".bias")) {
        items_.push_back({&entry, layer, entry.name, nullptr});
      }
    }
  }
  uint64_t count() const override { return items_.size(); }
  void item(uint64_t index, rh_item& out) override {
    const Item& item = items_.at(index);
    if (item.tensor) return rh::describe_tensor(*item.tensor, out);
    const int64_t* const layout = rh::data<int64_t>(stored(item, "layout"));
    out.kind = RH_ITEM_LAYER;
    out.name = item.name.c_str();
    out.dtype = {uint8_t(layout[2]), uint8_t(layout[3]), 1};
    out.ndim = 2;
    out.shape = item.codes->view->shape;
  }
  void read(uint64_t index, rh_tensor& output) override {
    const Item& item = items_.at(index);
    if (item.tensor) return rh::copy_tensor(*item.tensor, output);
    const int64_t* const layout = rh::data<int64_t>(stored(item, "layout"));
    const rh_tensor& scale = stored(item, "scale");
    const rh_tensor* const zero_point = file_.find(item.layer + ".zero_point");
    const uint8_t* const codes = rh::data<uint8_t>(*item.codes->view);
    const int64_t rows = output.shape[0], cols = output.shape[1];
    const int64_t groups = layout[0] > 0 ? (cols + layout[0] - 1) / layout[0] : 0;
    rh::require(groups > 0 && rh_is_float(output.dtype) && rh_is_float(scale.dtype) &&
                    rh::elements(scale) == rows * groups &&
                    (!zero_point || rh::elements(*zero_point) == rows * groups),
                item.name + " is damaged");
    for (int64_t i = 0; i < rows * cols; ++i) {
      const int64_t g = i / cols * groups + i % cols / layout[0];
      const int64_t zero = zero_point ? rh::data<uint8_t>(*zero_point)[g] : layout[1];
      rh_store(&output, i, float(codes[i] - zero) * rh_load(&scale, g));
    }
  }

 private:
  struct Item {
    const rh::TensorReader::Entry* tensor;  // stored as it is; nullptr: a layer
    std::string layer, name;
    const rh::TensorReader::Entry* codes;
  };
  const rh_tensor& stored(const Item& item, const char* what) const {
    const rh_tensor* tensor = file_.find(item.layer + "." + what);
    rh::require(tensor && (std::strcmp(what, "layout") != 0 || rh::elements(*tensor) == 4),
                item.layer + "." + what + " is missing or damaged");
    return *tensor;
  }

  rh::TensorReader file_;
  std::vector<Item> items_;
};

class @CLASS@Format : public rh::Format {
 public:
  @CLASS@Format() : Format("@NAME@", "Integer codes and their scales in safetensors.", {RH_ENCODING_AFFINE_INT}) {}

  void check(const rh_format_query& query) const override {
    rh::require(std::strcmp(query.encoding->id, RH_ENCODING_AFFINE_INT) == 0, "@NAME@ packs " RH_ENCODING_AFFINE_INT " only");
    rh::require(query.scheme->group_rows == 1 && query.scheme->group_cols != RH_GROUP_TENSOR,
                "@NAME@ holds groups of columns of a row: set group_size to a number of columns, or -1 for a row");
    rh::require(!query.activation, "@NAME@ does not say how activations are quantized");
    for (uint32_t i = 0; i < query.encoding->tensor_count; ++i)
      rh::require(std::strcmp(query.encoding->tensors[i]->name, "outer_scale") != 0, "@NAME@ holds no outer_scale");
  }
  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<@CLASS@Writer>(target);
  }
  int32_t probe(const std::string& folder) const override { return std::ifstream(folder + "/" + kMarker) ? 10 : 0; }
  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    return std::make_unique<@CLASS@Reader>(source.folder);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<@CLASS@Format>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(Definition, "@NAME@", "My company", "0.1.0", "Integer codes and their scales in safetensors.")

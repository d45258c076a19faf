// The format flat: the whole model in one binary file, model.flat, for a loader on a device without safetensors or
// JSON.
//
//   "flat/1\n\0", then for each tensor a Record, its name, and its bytes, little-endian:
//   a tensor: its elements; a layer: its codes, code i in the bits from i * code_bits on, its scales, its zero points.
// It packs affine-int/1 of any data type whose groups are columns of a row.
#include <roundhouse/helper/floats.h>

#include <fstream>
#include <roundhouse/files.hpp>

namespace {

constexpr const char* kFile = "model.flat";
constexpr char kMagic[8] = {'f', 'l', 'a', 't', '/', '1', '\n', 0};

struct Record {
  uint32_t name_bytes;
  uint8_t kind, bits;              // the tensor's element type; a layer's, to decode into
  uint8_t code_bits;               // 0: no layer
  uint8_t has_zero_point;          // else it is 2^(code_bits - 1)
  uint8_t scale_kind, scale_bits;  // element type of the scales
  uint8_t ndim;
  uint8_t reserved[5];
  int64_t group_cols;
  int64_t shape[RH_MAX_DIMS];

  rh_data_type type() const { return {kind, bits, 1}; }
  rh_data_type scale_type() const { return {scale_kind, scale_bits, 1}; }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= shape[i];
    return n;
  }
  int64_t groups() const { return shape[0] * ((shape[1] + group_cols - 1) / group_cols); }
  int64_t code_bytes() const { return (elements() * code_bits + 7) / 8; }
  int64_t bytes() const {
    if (!code_bits) return elements() * (bits / 8);
    return code_bytes() + groups() * (scale_bits / 8) + (has_zero_point ? groups() : 0);
  }
};
static_assert(sizeof(Record) == 88, "no padding");

std::vector<uint8_t> packed(const uint8_t* codes, const Record& record) {
  std::vector<uint8_t> out(static_cast<size_t>(record.code_bytes()) + 1);
  for (int64_t i = 0, bit = 0; i < record.elements(); ++i, bit += record.code_bits) {
    const unsigned two = codes[i] << (bit % 8);
    out[bit / 8] |= static_cast<uint8_t>(two);
    out[bit / 8 + 1] |= static_cast<uint8_t>(two >> 8);
  }
  out.pop_back();
  return out;
}

class FlatWriter : public rh::Writer {
 public:
  explicit FlatWriter(const rh_export& target) : target_(target), file_(target, kFile) {
    file_.write(kMagic, sizeof kMagic);
  }

  void add_layer(const rh_encoded_layer& layer) override {
    const int64_t wanted = layer.scheme->group_cols;
    const rh_tensor* const zero_point = rh::find_tensor(layer, "zero_point");
    Record record = record_of(layer.dtype, 2);
    record.shape[0] = layer.rows;
    record.shape[1] = layer.cols;
    record.code_bits = static_cast<uint8_t>(layer.scheme->bits);
    record.group_cols = wanted > 0 ? wanted : layer.cols;
    record.has_zero_point = zero_point != nullptr;
    const rh_tensor& scale = rh::require_tensor(layer, "scale", record.groups());
    record.scale_kind = scale.dtype.kind;
    record.scale_bits = scale.dtype.bits;
    const rh_tensor& codes = rh::require_tensor(layer, "codes", record.elements());
    const std::vector<uint8_t> bits = packed(rh::data<uint8_t>(codes), record);
    begin_record(std::string(layer.name) + ".weight", record);
    file_.write(bits.data(), bits.size());
    file_.write(scale.data, rh::bytes(scale));
    if (zero_point) file_.write(zero_point->data, rh::bytes(*zero_point));
    if (layer.bias) add_tensor(std::string(layer.name) + ".bias", *layer.bias);
  }
  void add_tensor(const std::string& name, const rh_tensor& tensor) override {
    Record record = record_of(tensor.dtype, tensor.ndim);
    for (int32_t i = 0; i < tensor.ndim; ++i) record.shape[i] = tensor.shape[i];
    begin_record(name, record);
    file_.write(tensor.data, rh::bytes(tensor));
  }
  void finish() override {
    file_.commit();
    rh::write_text(target_, "config.json", rh::model_text(target_, "config"));
    rh::copy_side_files(target_);
  }

 private:
  static Record record_of(rh_data_type type, int32_t ndim) {
    Record record{};
    record.kind = type.kind;
    record.bits = type.bits;
    record.ndim = static_cast<uint8_t>(ndim);
    return record;
  }
  void begin_record(const std::string& name, Record record) {
    record.name_bytes = static_cast<uint32_t>(name.size());
    file_.write(&record, sizeof record);
    file_.write(name.data(), name.size());
  }

  const rh_export& target_;
  rh::OutputFile file_;
};

class FlatReader : public rh::Reader {
 public:
  explicit FlatReader(const std::string& folder) : path_(folder + "/" + kFile), file_(path_, std::ios::binary) {
    file_.seekg(0, std::ios::end);
    const int64_t size = file_.tellg();
    for (int64_t at = sizeof kMagic; at != size;) {
      Item item{};
      read_at(at, &item.record, sizeof item.record);
      const Record& r = item.record;
      const bool plausible =
          r.ndim <= RH_MAX_DIMS && r.bits % 8 == 0 && r.name_bytes < 4096 &&
          (r.code_bits == 0 || (r.ndim == 2 && r.code_bits <= 8 && r.group_cols > 0 && rh_is_float(r.scale_type())));
      for (int i = 0; plausible && i < r.ndim; ++i)
        if (r.shape[i] < 0 || r.shape[i] > size * 8) damaged();
      if (!plausible) damaged();
      item.name.resize(r.name_bytes);
      read_at(at + static_cast<int64_t>(sizeof r), item.name.data(), r.name_bytes);
      item.begin = at + static_cast<int64_t>(sizeof r) + r.name_bytes;
      if (r.bytes() < 0 || r.bytes() > size - item.begin) damaged();
      at = item.begin + r.bytes();
      items_.push_back(std::move(item));
    }
  }
  uint64_t count() const override { return items_.size(); }
  void item(uint64_t index, rh_item& out) override {
    const Item& item = items_.at(index);
    out.kind = item.record.code_bits ? RH_ITEM_LAYER : RH_ITEM_TENSOR;
    out.name = item.name.c_str();
    out.dtype = item.record.type();
    out.ndim = item.record.ndim;
    out.shape = item.record.shape;
  }
  void read(uint64_t index, rh_tensor& output) override {
    const Item& item = items_.at(index);
    const Record& r = item.record;
    rh::require(rh::elements(output) == r.elements(), item.name + ": the output has another shape");
    if (!r.code_bits) {
      rh::require(rh::same_type(output.dtype, r.type()), item.name + ": the output has another element type");
      return read_at(item.begin, output.data, r.bytes());
    }
    rh::require(rh_is_float(output.dtype), item.name + " is read as float32, float16 or bfloat16");
    std::vector<uint8_t> bytes(static_cast<size_t>(r.bytes()) + 1);  // a code's two bytes may end behind the last one
    read_at(item.begin, bytes.data(), r.bytes());
    const int64_t cols = r.shape[1], groups = r.groups();
    const auto scales_begin = bytes.begin() + r.code_bytes(), scales_end = scales_begin + groups * (r.scale_bits / 8);
    std::vector<uint8_t> scales(scales_begin, scales_end);  // aligned
    const rh::View scale(scales.data(), r.scale_type(), {groups});
    const uint8_t* const zero_points = r.has_zero_point ? &*scales_end : nullptr;
    for (int64_t i = 0, bit = 0; i < r.elements(); ++i, bit += r.code_bits) {
      const unsigned two = bytes[bit / 8] | unsigned{bytes[bit / 8 + 1]} << 8;
      const int code = static_cast<int>(two >> (bit % 8) & ((1u << r.code_bits) - 1));
      const int64_t g = i / cols * (groups / r.shape[0]) + i % cols / r.group_cols;
      const int zero = zero_points ? zero_points[g] : 1 << (r.code_bits - 1);
      rh_store(&output, i, static_cast<float>(code - zero) * rh_load(scale.get(), g));
    }
  }

 private:
  struct Item {
    Record record;
    std::string name;
    int64_t begin;  // of its bytes, in the file
  };
  [[noreturn]] void damaged() const { throw rh::Error(RH_DATA_LOSS, path_ + " is damaged or cut off"); }
  void read_at(int64_t offset, void* bytes, int64_t size) {
    file_.clear();
    if (!file_.seekg(offset) || !file_.read(static_cast<char*>(bytes), size)) damaged();
  }

  std::string path_;
  std::ifstream file_;
  std::vector<Item> items_;
};

class Flat : public rh::Format {
 public:
  Flat() : Format("flat", "One binary file of packed integers.", {RH_ENCODING_AFFINE_INT}) {}

  void check(const rh_format_query& query) const override {
    rh::require(std::strcmp(query.encoding->id, RH_ENCODING_AFFINE_INT) == 0, "flat packs " RH_ENCODING_AFFINE_INT " only");
    rh::require(query.scheme->group_rows == 1 && query.scheme->group_cols != RH_GROUP_TENSOR,
                "flat holds groups of columns of a row: set group_size to a number of columns, or -1 for a row");
    rh::require(!query.activation, "flat does not say how activations are quantized");
    for (uint32_t i = 0; i < query.encoding->tensor_count; ++i)
      rh::require(std::strcmp(query.encoding->tensors[i]->name, "outer_scale") != 0, "flat holds no outer_scale");
  }
  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<FlatWriter>(target);
  }
  int32_t probe(const std::string& folder) const override {
    char magic[sizeof kMagic] = {};
    std::ifstream(folder + "/" + kFile, std::ios::binary).read(magic, sizeof magic);
    return std::memcmp(magic, kMagic, sizeof magic) == 0 ? 10 : 0;
  }
  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    return std::make_unique<FlatReader>(source.folder);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<Flat>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(Definition, "flat", "Example", "1.0.0", "The whole model in one binary file.")

// SPDX-License-Identifier: Apache-2.0
// The format flat: the whole model in one binary file, model.flat, for a loader on a device without safetensors or
// JSON.
//
//   "flat/1\n\0", then for each tensor a Record, its name, and its bytes, little-endian:
//   a tensor: its elements; a layer: its codes, code i in the bits from i * code_bits on, its scales, its zero points.
// It packs affine-int/1 of any data type, where groups are columns of a row.
#include <deque>
#include <fstream>
#include <roundhouse/encoding/affine_int.hpp>
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
  // What a layer is packed from.
  rh::AffineInt made() const {
    rh::AffineInt out(code_bits, !has_zero_point, 1, group_cols);
    out.scale = scale_type();
    return out;
  }
  int64_t groups() const { return shape[0] * made().groups(shape[1]); }
  int64_t code_bytes() const { return (elements() * code_bits + 7) / 8; }
  int64_t bytes() const {
    if (!code_bits) return elements() * (bits / 8);
    return code_bytes() + groups() * (scale_bits / 8) + (has_zero_point ? groups() : 0);
  }
};
static_assert(sizeof(Record) == 88, "no padding");

std::vector<uint8_t> unpacked(const uint8_t* bytes, const Record& record) {
  std::vector<uint8_t> codes(static_cast<size_t>(record.elements()));
  for (int64_t i = 0, bit = 0; i < record.elements(); ++i, bit += record.code_bits) {
    const unsigned two = bytes[bit / 8] | unsigned{bytes[bit / 8 + 1]} << 8;
    codes[i] = static_cast<uint8_t>(two >> (bit % 8) & ((1u << record.code_bits) - 1));
  }
  return codes;
}

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
  explicit FlatWriter(const rh_export& target) : target_(target) {}

  // A file that only grows is resumed at its length.
  void start(const std::string* saved) override {
    if (saved) return void(file_ = std::make_unique<rh::OutputFile>(target_, kFile, length_of(*saved)));
    file_ = std::make_unique<rh::OutputFile>(target_, kFile);
    file_->write(kMagic, sizeof kMagic);
  }
  std::string save() override { return std::to_string(file_->sync()); }

  void add_layer(const rh_encoded_layer& encoded) override {
    const rh_format_layer& layer = *encoded.layer;
    const auto made = rh::AffineInt::of(*layer.encoding);
    Record record = record_of(layer.dtype, 2);
    record.shape[0] = layer.rows;
    record.shape[1] = layer.cols;
    record.code_bits = static_cast<uint8_t>(made.bits);
    record.group_cols = made.group_cols;
    record.has_zero_point = !made.symmetric;
    record.scale_kind = made.scale.kind;
    record.scale_bits = made.scale.bits;
    const rh_tensor& codes = rh::require_tensor(encoded, "codes", record.elements());
    const rh_tensor& scale = rh::require_tensor(encoded, "scale", record.groups());
    const std::vector<uint8_t> bits = packed(rh::data<uint8_t>(codes), record);
    begin_record(std::string(layer.name) + ".weight", record);
    file_->write(bits.data(), bits.size());
    file_->write(scale.data, rh::bytes(scale));
    if (!made.symmetric) file_->write(rh::require_tensor(encoded, "zero_point", record.groups()).data, record.groups());
    if (encoded.bias) add_tensor(std::string(layer.name) + ".bias", *encoded.bias);
  }
  void add_tensor(const std::string& name, const rh_tensor& tensor) override {
    Record record = record_of(tensor.dtype, tensor.ndim);
    for (int32_t i = 0; i < tensor.ndim; ++i) record.shape[i] = tensor.shape[i];
    begin_record(name, record);
    file_->write(tensor.data, rh::bytes(tensor));
  }
  void finish() override {
    file_->commit();
    rh::write_text(target_, "config.json", rh::model_text(target_, "config"));
    rh::copy_side_files(target_);
  }

 private:
  static uint64_t length_of(const std::string& saved) {
    char* end = nullptr;
    const uint64_t length = std::strtoull(saved.c_str(), &end, 10);
    if (saved.empty() || *end) throw rh::Error(RH_DATA_LOSS, "what was saved is not the length of model.flat");
    return length;
  }
  static Record record_of(rh_data_type type, int32_t ndim) {
    Record record{};
    record.kind = type.kind;
    record.bits = type.bits;
    record.ndim = static_cast<uint8_t>(ndim);
    return record;
  }
  void begin_record(const std::string& name, Record record) {
    record.name_bytes = static_cast<uint32_t>(name.size());
    file_->write(&record, sizeof record);
    file_->write(name.data(), name.size());
  }

  const rh_export& target_;
  std::unique_ptr<rh::OutputFile> file_;
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
      const bool plausible = r.ndim <= RH_MAX_DIMS && r.bits % 8 == 0 && r.name_bytes < 4096 &&
                             (r.code_bits == 0 || (r.ndim == 2 && r.code_bits >= 2 && r.code_bits <= 8 &&
                                                   r.group_cols > 0 && rh_is_float(r.scale_type())));
      for (int i = 0; plausible && i < r.ndim; ++i)
        if (r.shape[i] < 0 || r.shape[i] > size * 8) damaged();
      if (!plausible) damaged();
      item.name.resize(r.name_bytes);
      read_at(at + static_cast<int64_t>(sizeof r), item.name.data(), r.name_bytes);
      item.begin = at + static_cast<int64_t>(sizeof r) + r.name_bytes;
      if (r.bytes() < 0 || r.bytes() > size - item.begin) damaged();
      at = item.begin + r.bytes();
      if (r.code_bits) item.encoding = rh::Encoding(r.made(), r.shape[0], r.shape[1]);
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
    out.encoding = item.encoding.get();
    out.file = path_.c_str();
    out.offset = static_cast<uint64_t>(item.begin);
    out.bytes = static_cast<uint64_t>(item.record.bytes());
  }
  void read(uint64_t index, rh_tensor& output) override {
    const Item& item = items_.at(index);
    const Record& r = item.record;
    rh::require(rh::elements(output) == r.elements(), item.name + ": the output has another shape");
    if (!r.code_bits) {
      rh::require(rh::same_type(output.dtype, r.type()), item.name + ": the output has another element type");
      return read_at(item.begin, output.data, r.bytes());
    }
    const Parts parts(*this, item);
    r.made().decode(*item.encoding.get(), parts.tensors, output);
  }
  void read_encoded(uint64_t index, rh_tensor* const* tensors) override {
    const Item& item = items_.at(index);
    const Parts parts(*this, item);
    rh::copy_tensors({parts.tensors, parts.tensors + item.encoding.specs().count()}, tensors);
  }

 private:
  struct Item {
    Record record;
    std::string name;
    int64_t begin;          // of its bytes, in the file
    rh::Encoding encoding;  // empty: no layer
  };
  // A layer's tensors, unpacked.
  struct Parts {
    Parts(FlatReader& reader, const Item& item) {
      const Record& r = item.record;
      bytes.resize(static_cast<size_t>(r.bytes()) + 1);  // a code's two bytes may end behind the last one
      reader.read_at(item.begin, bytes.data(), r.bytes());
      codes = unpacked(bytes.data(), r);
      const auto scales_begin = bytes.begin() + r.code_bytes(),
                 scales_end = scales_begin + r.groups() * (r.scale_bits / 8);
      scales.assign(scales_begin, scales_end);  // aligned
      views.emplace_back(codes.data(), rh::kU8, std::vector<int64_t>{r.elements()});
      views.emplace_back(scales.data(), r.scale_type(), std::vector<int64_t>{r.groups()});
      views.emplace_back(&*scales_end, rh::kU8, std::vector<int64_t>{r.has_zero_point ? r.groups() : 0});
      for (size_t i = 0; i < views.size(); ++i) tensors[i] = views[i].get();
    }
    std::vector<uint8_t> bytes, codes, scales;
    std::deque<rh::View> views;
    const rh_tensor* tensors[3];
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

  void check(const rh_format_layer& layer, const char*) const override {
    const auto made = rh::AffineInt::of(*layer.encoding);
    rh::require(made.group_rows == 1, "flat holds groups of columns of one row");
    rh::require(!made.outer_scale && !made.group_index, "flat holds neither outer_scale nor group_index");
    rh::require(!layer.activation_encoding, "flat does not say how activations are quantized");
  }
  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<FlatWriter>(target);
  }
  bool resumes() const override { return true; }
  int32_t probe(const std::string& path) const override {
    char magic[sizeof kMagic] = {};
    std::ifstream(path + "/" + kFile, std::ios::binary).read(magic, sizeof magic);
    return std::memcmp(magic, kMagic, sizeof magic) == 0 ? 10 : 0;
  }
  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    return std::make_unique<FlatReader>(source.path);
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

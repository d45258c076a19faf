// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/reader.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>
#include <utility>

#include "kernels/floats.h"
#include "plugins/formats/gguf/metadata.h"
#include "plugins/formats/gguf/model_config.h"
#include "plugins/formats/gguf/tokenizer_json.h"
#include "plugins/formats/gguf/writer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kReadAhead = 4096;
constexpr const char* kEmbedding = "token_embd.weight";

// A file's header, read from its beginning; nothing is taken that the file is too short for.
class Header {
 public:
  Header(std::ifstream& stream, uint64_t size, const std::string& path, uint64_t position = 0)
      : stream_(stream), size_(size), path_(path), position_(position) {
    stream_.clear();
    stream_.seekg(static_cast<std::streamoff>(position_));
  }

  template <typename T>
  T number() {
    T value;
    take(&value, sizeof value);
    return value;
  }
  std::string text() {
    const auto length = number<uint64_t>();
    if (length > size_ - position_) fail("it ends inside a text");
    std::string value(length, '\0');
    take(value.data(), length);
    return value;
  }
  // `count` things of at least `smallest` bytes each are to follow.
  void expect(uint64_t count, uint64_t smallest) const {
    if (count > (size_ - position_) / smallest) fail(cat("it is too short for ", count, " entries"));
  }
  void skip(uint64_t count, uint64_t bytes) {
    expect(count, bytes);
    position_ += count * bytes;
    // A seek drops what the stream has read ahead, which would be read again for each text of a vocabulary.
    if (count * bytes < kReadAhead)
      stream_.ignore(static_cast<std::streamsize>(count * bytes));
    else
      stream_.seekg(static_cast<std::streamoff>(position_));
  }
  void skip_value(GgufValue type);
  Json value(GgufValue type);
  uint64_t position() const { return position_; }
  [[noreturn]] void fail(const std::string& why) const { throw rh::Error(RH_DATA_LOSS, cat(path_, ": ", why)); }

 private:
  void take(void* to, uint64_t bytes) {
    if (bytes > size_ - position_ || !stream_.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes)))
      fail(stream_.bad() ? "it cannot be read" : "it ends inside the header");
    position_ += bytes;
  }

  std::ifstream& stream_;
  const uint64_t size_;
  const std::string& path_;
  uint64_t position_;
};

// The shortest decimal number that is this float: 1e-05, not 9.99999974737875e-06.
double written_number(float value) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  double number = value;
  std::from_chars(text, end, number);
  return number;
}

// 0: it has no fixed size.
uint64_t value_bytes(GgufValue type) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return static_cast<size_t>(type) < std::size(kBytes) ? kBytes[static_cast<size_t>(type)] : 0;
}

void Header::skip_value(GgufValue type) {
  if (value_bytes(type) > 0) return skip(1, value_bytes(type));
  if (type == GgufValue::kString) return skip(number<uint64_t>(), 1);
  if (type != GgufValue::kArray) fail(cat("a value has the unknown type ", static_cast<uint32_t>(type)));
  const auto element = number<GgufValue>();
  const auto count = number<uint64_t>();
  if (value_bytes(element) > 0) return skip(count, value_bytes(element));
  if (element != GgufValue::kString) fail(cat("a list has elements of type ", static_cast<uint32_t>(element)));
  expect(count, 8);
  for (uint64_t i = 0; i < count; ++i) skip(number<uint64_t>(), 1);
}

Json Header::value(GgufValue type) {
  switch (type) {
    case GgufValue::kU8:
      return number<uint8_t>();
    case GgufValue::kI8:
      return number<int8_t>();
    case GgufValue::kU16:
      return number<uint16_t>();
    case GgufValue::kI16:
      return number<int16_t>();
    case GgufValue::kU32:
      return number<uint32_t>();
    case GgufValue::kI32:
      return number<int32_t>();
    case GgufValue::kU64:
      return number<uint64_t>();
    case GgufValue::kI64:
      return number<int64_t>();
    case GgufValue::kF32:
      return written_number(number<float>());
    case GgufValue::kF64:
      return number<double>();
    case GgufValue::kBool:
      return number<uint8_t>() != 0;
    case GgufValue::kString:
      return text();
    case GgufValue::kArray:
      break;
    default:
      fail(cat("a value has the unknown type ", static_cast<uint32_t>(type)));
  }
  const auto element = number<GgufValue>();
  const auto count = number<uint64_t>();
  if (element == GgufValue::kArray) fail("a list holds lists");
  expect(count, std::max<uint64_t>(1, value_bytes(element)));
  Json list = Json::array();
  for (uint64_t i = 0; i < count; ++i) list.push_back(value(element));
  return list;
}

rh_data_type element_type(const GgmlType& type) {
  if (type.quantized() || type.bytes == 4) return rh::kF32;  // the source's type is not told
  return type.id == 1 ? rh::kF16 : rh::kBF16;
}

bool is_gguf(const fs::path& file) {
  std::string suffix = file.extension();
  for (char& c : suffix) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return suffix == ".gguf";
}

}  // namespace

std::vector<std::string> gguf_files(const std::string& path) {
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored)) {
    if (!is_gguf(path)) return {};
    const size_t part = path.rfind("-00001-of-");
    if (part == std::string::npos) return {path};
    std::vector<std::string> parts;  // name-00001-of-00003.gguf and its kin
    for (const auto& entry : fs::directory_iterator(fs::path(path).parent_path(), ignored)) {
      const std::string name = entry.path().string();
      if (name.size() == path.size() && name.starts_with(path.substr(0, part + 1)) &&
          name.ends_with(path.substr(part + 6)))
        parts.push_back(name);
    }
    std::sort(parts.begin(), parts.end());
    return parts;
  }
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    if (entry.path().extension() == ".safetensors") return {};
    if (is_gguf(entry.path())) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

GgufReader::GgufReader(const std::string& folder, const Json& architecture) : names_(architecture) {
  const std::vector<std::string> paths = gguf_files(folder);
  if (paths.empty()) throw rh::Error(RH_NOT_FOUND, folder + " has no .gguf file");
  for (const std::string& path : paths) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw rh::Error(RH_NOT_FOUND, path + " cannot be read");
    files_.push_back({path, std::move(stream), fs::file_size(path)});
  }
  std::set<std::string> seen;
  for (size_t i = 0; i < files_.size(); ++i) read_header(i);
  add_values();
  const auto left = std::stable_partition(items_.begin(), items_.end(), [](const auto& item) {
    return item->name != kRotaryFactors && item->name != kShortFactors && item->name != kLongFactors;
  });
  left_out_.assign(std::make_move_iterator(left), std::make_move_iterator(items_.end()));
  items_.erase(left, items_.end());
  const auto fail = [&](const auto&... words) {
    throw rh::Error(RH_DATA_LOSS, cat(folder, ": the tensor ", words...));
  };
  std::map<std::string, std::unique_ptr<Item>> firsts;
  for (auto& item : items_)
    if (const auto second = names_.second_of(item->name); second && *second != item->stored) {
      if (firsts.count(item->name)) fail(item->stored, " is there twice");
      firsts[item->name] = std::move(item);
    }
  std::vector<std::unique_ptr<Item>> whole = std::exchange(items_, {});
  for (auto& item : whole) {
    if (!item) continue;
    if (const auto first = firsts.find(item->name); first != firsts.end()) {
      join(std::move(first->second), std::move(item));
      firsts.erase(first);
    } else {
      if (names_.second_of(item->name)) fail(item->stored, " is there twice, or without the one that it follows");
      items_.push_back(std::move(item));
    }
  }
  if (!firsts.empty())
    fail(firsts.begin()->second->stored, " is there without ", *names_.second_of(firsts.begin()->first));
  for (const auto& item : items_)
    if (!seen.insert(item->name).second) fail(item->name, " is there twice");
}

void GgufReader::read_header(size_t file) {
  File& f = files_[file];
  Header header(f.stream, f.size, f.path);
  for (const char c : kGgufMagic)
    if (header.number<char>() != c) header.fail("it is no GGUF file");
  const auto version = header.number<uint32_t>();
  if (version != 2 && version != kGgufVersion)
    header.fail(cat("it has GGUF's version ", version, "; 2 and 3 are read"));
  const auto tensors = header.number<uint64_t>(), values = header.number<uint64_t>();
  header.expect(tensors, 24);
  header.expect(values, 13);
  uint64_t alignment = kGgufAlignment, part = 0, parts = 1;
  for (uint64_t i = 0; i < values; ++i) {
    const std::string key = header.text();
    const auto type = header.number<GgufValue>();
    if (file == 0 && !values_.emplace(key, std::pair(type, header.position())).second)
      header.fail(cat("its metadata has ", key, " twice"));
    uint64_t* const number = key == "general.alignment" ? &alignment
                             : key == kSplitNumber      ? &part
                             : key == kSplitCount       ? &parts
                                                        : nullptr;
    if (!number) {
      header.skip_value(type);
      continue;
    }
    const Json value = header.value(type);
    if (!value.is_number_integer()) header.fail(cat(key, " is no whole number"));
    *number = value;
  }
  if (alignment == 0 || (alignment & (alignment - 1))) header.fail(cat("its alignment is ", alignment));
  // Parts of one model come in the order of their names, name-00001-of-00003.
  if (parts < 2 && files_.size() > 1)
    throw rh::Error(RH_INVALID_ARGUMENT,
                    cat(f.path,
                        ": it is a model of its own, but not the only one in the folder; put each into one of "
                        "its own"));
  if (parts > 1 && (parts != files_.size() || part != file))
    header.fail(cat("it is part ", part + 1, " of ", parts, ", but file ", file + 1, " of ", files_.size(),
                    " in the folder; put all parts there, and nothing else"));
  const size_t first = items_.size();
  for (uint64_t i = 0; i < tensors; ++i) {
    auto item = std::make_unique<Item>();
    const std::string name = header.text();
    const auto dims = header.number<uint32_t>();
    if (dims == 0 || dims > kMaxDims) header.fail(cat("the tensor ", name, " has ", dims, " dimensions"));
    int64_t elements = 1;
    for (uint32_t d = 0; d < dims; ++d) {
      const auto size = header.number<int64_t>();
      if (size <= 0 || size > std::numeric_limits<int64_t>::max() / 256 / elements)
        header.fail(cat("the tensor ", name, " has a dimension of ", size));
      elements *= size;
      item->shape.insert(item->shape.begin(), size);
    }
    const auto id = header.number<uint32_t>();
    item->type = ggml_type(id);
    if (!item->type)
      header.fail(cat("the tensor ", name, " has ggml's type ", ggml_type_text(id),
                      ", which is not read. Start from the model before it was quantized, or have "
                      "llama-quantize --allow-requantize make it Q8_0"));
    const int64_t cols = item->shape.back();
    if (cols % item->type->cols != 0)
      header.fail(cat("the tensor ", name, ": ", cols, " columns are no whole blocks of ", item->type->name));
    item->bytes = static_cast<uint64_t>(elements / cols * item->type->row_bytes(cols));
    item->offset = header.number<uint64_t>();
    if (item->offset % alignment != 0) header.fail(cat("the tensor ", name, " is not aligned"));
    if (name == kRotaryFactors) {
      // It follows from the configuration, which facts_json() gives.
      if (item->type->bytes != 4 || item->type->quantized())
        header.fail(cat("the tensor ", name, " is not of float32"));
      rotary_factors_ = item.get();
    }
    stored_[name] = item.get();
    item->name = names_.from_gguf(name);
    item->stored = name;
    if ((names_.plus_one(name) || names_.minus_exp(name)) && (item->type->bytes != 4 || item->type->quantized()))
      header.fail(cat("the tensor ", name, " is not of float32"));
    if (item->bytes > f.size) header.fail(cat("it ends inside the tensor ", name));
    if (const Layout* const layout = names_.layout(name, item->shape[0]); layout && layout->first == 0) try {
        layout->places(item->shape[0]);
      } catch (const rh::Error& e) {
        header.fail(cat("the tensor ", name, ": ", e.what()));
      }
    if (const Layout* const layout = names_.column_layout(name)) {
      const int64_t head = layout->parts[0];
      if (item->shape.size() != 2 || cols != layout->groups * layout->sum(layout->parts.size()))
        header.fail(cat("the tensor ", name, " is no matrix of ", layout->groups, " groups of columns"));
      if (head % item->type->cols != 0)
        header.fail(cat("the tensor ", name, ": heads of ", head, " columns are no whole blocks of ", item->type->name,
                        ", so that they cannot be put back into the model's order"));
    }
    item->shape = names_.source_shape(name, std::move(item->shape));
    if (is_transposed(*item) && item->shape.size() == 2) std::swap(item->shape[0], item->shape[1]);
    item->file = file;
    add(std::move(item));
  }
  const uint64_t data = (header.position() + alignment - 1) / alignment * alignment;
  for (size_t i = first; i < items_.size(); ++i) {
    Item& item = *items_[i];
    if (data > f.size || item.offset > f.size - data || item.bytes > f.size - data - item.offset)
      header.fail(cat("it ends inside the tensor ", item.name));
    item.offset += data;
    if (!item.type->quantized()) continue;
    const int64_t cols = item.shape.back();
    const int64_t rows = static_cast<int64_t>(item.bytes) / item.type->row_bytes(cols);
    item.encoding = {rh::GgmlBlock(item.type->block), rows, cols};
  }
}

// Numbers of the metadata that are tensors of the source.
void GgufReader::add_values() {
  for (const Names::Value& value : names_.values()) {
    const auto found = values_.find(value.key);
    if (found == values_.end()) continue;  // verify tells what is missing
    File& file = files_[0];
    Header header(file.stream, file.size, file.path, found->second.second);
    if (found->second.first != GgufValue::kArray || header.number<GgufValue>() != GgufValue::kF32)
      header.fail(cat(value.key, " is no array of float32"));
    const auto count = header.number<uint64_t>();
    header.expect(count, sizeof(float));
    for (uint64_t i = 0; i < count; ++i) {
      auto item = std::make_unique<Item>();
      item->stored = value.key;
      const size_t hole = value.tensor.find("{}");
      item->name = cat(value.tensor.substr(0, hole), i, value.tensor.substr(hole + 2));
      item->type = ggml_type("f32");
      if (!value.scalar) item->shape = {1};
      item->file = 0;
      item->offset = header.position() + i * sizeof(float);
      item->bytes = sizeof(float);
      items_.push_back(std::move(item));
    }
  }
}

// A stack of experts as its matrices, each a tensor of the source.
void GgufReader::add(std::unique_ptr<Item> item) {
  const size_t hole = item->name.find("{}");
  if (hole == std::string::npos || item->shape.size() < 2) {
    items_.push_back(std::move(item));
    return;
  }
  const int64_t count = item->shape[0];
  for (int64_t i = 0; i < count; ++i) {
    auto matrix = std::make_unique<Item>();
    matrix->stored = item->stored;
    matrix->name = item->name.substr(0, hole) + std::to_string(i) + item->name.substr(hole + 2);
    matrix->type = item->type;
    matrix->shape.assign(item->shape.begin() + 1, item->shape.end());
    matrix->file = item->file;
    matrix->bytes = item->bytes / static_cast<uint64_t>(count);
    matrix->offset = item->offset + static_cast<uint64_t>(i) * matrix->bytes;
    items_.push_back(std::move(matrix));
  }
  stacks_.push_back(std::move(item));
}

// Two tensors as the source's one. It is of float32 where finished blocks would be torn.
void GgufReader::join(std::unique_ptr<Item> first, std::unique_ptr<Item> second) {
  auto item = std::make_unique<Item>();
  item->name = first->name;
  item->stored = first->stored;
  item->file = first->file;
  const auto elements = [](const Item& part) {
    int64_t n = 1;
    for (const int64_t size : part.shape) n *= size;
    return n;
  };
  const int64_t cols = second->shape.back(), rows = (elements(*first) + elements(*second)) / cols;
  item->shape = {rows, cols};
  const Layout& layout = *names_.layout(item->stored, rows);
  if (layout.first_rows(rows) * cols != elements(*first) ||
      (layout.groups > 0 && layout.groups * layout.sum(layout.parts.size()) != rows))
    throw rh::Error(RH_DATA_LOSS, cat(files_[item->file].path, ": the tensors ", first->stored, " and ", second->stored,
                                      " are of other sizes than the model's configuration says"));
  const bool whole = first->type == second->type && !(layout.transposed && first->type->quantized());
  item->type = whole ? first->type : ggml_type("f32");
  item->bytes = static_cast<uint64_t>(rows * item->type->row_bytes(cols));
  if (item->type->quantized()) item->encoding = {rh::GgmlBlock(item->type->block), rows, cols};
  item->first = std::move(first);
  item->second = std::move(second);
  items_.push_back(std::move(item));
}

Json GgufReader::value(const std::string& key) {
  const auto found = values_.find(key);
  if (found == values_.end()) return nullptr;
  File& file = files_[0];
  return Header(file.stream, file.size, file.path, found->second.second).value(found->second.first);
}

std::map<std::string, const GgmlType*> GgufReader::stored_types() const {
  std::map<std::string, const GgmlType*> types;
  for (const auto& [name, item] : stored_) types[name] = item->type;
  return types;
}

std::vector<int64_t> GgufReader::stored_shape(const std::string& tensor) const {
  const auto found = stored_.find(tensor);
  return found == stored_.end() ? std::vector<int64_t>() : found->second->shape;
}

int64_t GgufReader::vocabulary() const {
  const auto embedding = stored_.find(kEmbedding);
  return embedding == stored_.end() ? 0 : embedding->second->shape[0];
}

const char* GgufReader::dtype_name() const {
  const auto embedding = stored_.find(kEmbedding);
  if (embedding == stored_.end() || embedding->second->type->quantized()) return "bfloat16";
  const GgmlType& type = *embedding->second->type;
  return type.bytes == 4 ? "float32" : rh::same_type(element_type(type), rh::kF16) ? "float16" : "bfloat16";
}

std::vector<float> GgufReader::rotary_factors() {
  std::vector<float> factors;
  if (!rotary_factors_) return factors;
  const std::vector<uint8_t> bytes = rows_of(*rotary_factors_);
  factors.resize(bytes.size() / sizeof(float));
  std::memcpy(factors.data(), bytes.data(), factors.size() * sizeof(float));
  return factors;
}

const char* GgufReader::facts_json() {
  if (!facts_.empty()) return facts_.c_str();
  facts_ = "{}";
  try {
    Json facts{{"config", model_config(*this)}};
    if (std::string problem = config_problem(*this, facts["config"]); !problem.empty())
      facts["config_problem"] = std::move(problem);
    facts_ = facts.dump();
  } catch (const std::exception& e) {  // the tensors can be read all the same
    rh::log(RH_LOG_WARNING, cat("gguf: no configuration can be had from the file: ", e.what()));
  }
  return facts_.c_str();
}

bool GgufReader::side_file(const std::string& name, std::string& contents) {
  if (name == "config.json") contents = model_config(*this).dump(2) + "\n";
  if (name == "tokenizer.json") contents = tokenizer_json(*this);
  if (name == "tokenizer_config.json") contents = tokenizer_config_json(*this);
  return !contents.empty();
}

const GgufReader::Item& GgufReader::at(uint64_t index) const {
  if (index >= items_.size()) throw rh::Error(RH_OUT_OF_RANGE, "no such tensor");
  return *items_[index];
}

void GgufReader::item(uint64_t index, rh_item& out) {
  const Item& item = at(index);
  out.kind = item.type->quantized() ? RH_ITEM_LAYER : RH_ITEM_TENSOR;
  out.name = item.name.c_str();
  out.dtype = element_type(*item.type);
  out.ndim = static_cast<int32_t>(item.shape.size());
  out.shape = item.shape.data();
  out.encoding = item.encoding.get();
  out.file = files_[item.file].path.c_str();
  if (item.first) return;  // in two places
  out.offset = item.offset;
  out.bytes = item.bytes;
}

// Stacks of matrices are rows below each other.
void GgufReader::decode(const Item& item, const std::vector<uint8_t>& bytes, void* output, rh_data_type type) {
  const int64_t cols = item.shape.back(), row_bytes = item.type->row_bytes(cols);
  const int64_t count = static_cast<int64_t>(item.bytes) / row_bytes;
  const rh::View blocks(const_cast<uint8_t*>(bytes.data()), rh::kU8, {count, row_bytes});
  const rh::View weights(output, type, {count, cols});
  const rh_tensor* tensors[] = {blocks.get()};
  rh_tensor matrix = *weights.get();
  rh::GgmlBlock(item.type->block).decode(*item.encoding.get(), tensors, matrix);
}

std::vector<uint8_t> GgufReader::floats_of(const Item& item) {
  const std::vector<uint8_t> bytes = bytes_of(item);
  int64_t elements = 1;
  for (const int64_t size : item.shape) elements *= size;
  std::vector<uint8_t> floats(static_cast<size_t>(elements) * sizeof(float));
  if (item.type->quantized()) {
    decode(item, bytes, floats.data(), rh::kF32);
    return floats;
  }
  const kernels::Element element = element_of(*item.type);
  for (int64_t i = 0; i < elements; ++i)
    kernels::store_element(kernels::Element::kF32, floats.data(), i, kernels::load_element(element, bytes.data(), i));
  return floats;
}

std::vector<uint8_t> GgufReader::bytes_of(const Item& item) {
  File& file = files_[item.file];
  std::vector<uint8_t> bytes(item.bytes);
  file.stream.clear();
  file.stream.seekg(static_cast<std::streamoff>(item.offset));
  if (!file.stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(item.bytes)))
    throw rh::Error(RH_DATA_LOSS, cat(file.path, ": the tensor ", item.name, " cannot be read"));
  return bytes;
}

// The tensor's bytes, rows and values as in the source.
std::vector<uint8_t> GgufReader::rows_of(const Item& item) {
  std::vector<uint8_t> bytes;
  if (!item.first) {
    bytes = bytes_of(item);
  } else {
    for (const Item* part : {item.first.get(), item.second.get()}) {
      const std::vector<uint8_t> more = part->type == item.type ? bytes_of(*part) : floats_of(*part);
      bytes.insert(bytes.end(), more.begin(), more.end());
    }
  }
  const bool plus_one = names_.plus_one(item.stored), minus_exp = names_.minus_exp(item.stored);
  if (plus_one || minus_exp)
    for (size_t i = 0; i < bytes.size(); i += sizeof(float)) {
      float value;
      std::memcpy(&value, bytes.data() + i, sizeof value);
      value = plus_one ? value - 1 : std::log(-value);
      std::memcpy(bytes.data() + i, &value, sizeof value);
    }
  if (item.shape.empty()) return bytes;
  if (is_transposed(item))
    return item.shape.size() == 2 ? transposed(item.shape[1], item.shape[0], item.type->bytes, std::move(bytes))
                                  : bytes;
  const Layout* const layout = names_.layout(item.stored, item.shape[0]);
  const Layout* const columns = names_.column_layout(item.stored);
  return layout || columns ? to_source(layout, columns, *item.type, item.shape, std::move(bytes)) : bytes;
}

void GgufReader::read(uint64_t index, rh_tensor& output) {
  const Item& item = at(index);
  rh::require(item.shape == std::vector<int64_t>(output.shape, output.shape + output.ndim),
              item.name + ": the output has another shape");
  const std::vector<uint8_t> rows = rows_of(item);
  if (!item.type->quantized()) {
    rh::require(rh::same_type(output.dtype, element_type(*item.type)),
                item.name + ": the output has another element type");
    std::memcpy(output.data, rows.data(), rows.size());
    return;
  }
  decode(item, rows, output.data, output.dtype);
}

void GgufReader::read_encoded(uint64_t index, rh_tensor* const* tensors) {
  const Item& item = at(index);
  rh::require(item.type->quantized(), item.name + " is not quantized");
  rh::require(rh::bytes(*tensors[0]) == item.bytes, item.name + ": the output has another shape");
  const std::vector<uint8_t> rows = rows_of(item);
  std::memcpy(tensors[0]->data, rows.data(), rows.size());
}

}  // namespace roundhouse::formats

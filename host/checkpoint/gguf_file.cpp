// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/gguf_file.h"

#include <algorithm>
#include <cstring>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/checkpoint/append_file.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kVersion = 3;
constexpr uint32_t kTypeF32 = 0;  // GGML_TYPE_F32
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kMaxDims = 4;  // GGML_MAX_DIMS
constexpr uint64_t kMaxElements = INT64_MAX / 8, kMaxAlignment = 1 << 20;
constexpr int kMaxArrayDepth = 4;  // of arrays in arrays

enum ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

uint64_t aligned(uint64_t offset, uint64_t alignment) { return (offset + alignment - 1) / alignment * alignment; }

// Reads a mapped file from its beginning to its end.
class Cursor {
 public:
  explicit Cursor(const MappedFile& file) : file_(file) {}

  uint64_t at() const { return at_; }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(cat(file_.path().string(), ": ", what, " at byte ", at_, "; the file is damaged"));
  }
  std::string_view bytes(uint64_t n) {
    if (n > file_.size() - at_) fail("it ends too early");
    at_ += n;
    return file_.text().substr(at_ - n, n);
  }
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, bytes(sizeof value).data(), sizeof value);
    return value;
  }
  std::string text() { return std::string(bytes(number<uint64_t>())); }

  json value(uint32_t type, int depth = 0) {
    switch (type) {
      case kU8:
        return number<uint8_t>();
      case kI8:
        return number<int8_t>();
      case kU16:
        return number<uint16_t>();
      case kI16:
        return number<int16_t>();
      case kU32:
        return number<uint32_t>();
      case kI32:
        return number<int32_t>();
      case kF32:
        return number<float>();
      case kBool:
        return number<uint8_t>() != 0;
      case kString:
        return text();
      case kU64:
        return number<uint64_t>();
      case kI64:
        return number<int64_t>();
      case kF64:
        return number<double>();
      case kArray: {
        if (depth == kMaxArrayDepth) fail("arrays are nested too deep");
        const auto element = number<uint32_t>();
        json list = json::array();
        for (auto n = number<uint64_t>(); n > 0; --n) list.push_back(value(element, depth + 1));
        return list;
      }
      default:
        fail(cat("a value has the unknown type ", type));
    }
  }

 private:
  const MappedFile& file_;
  uint64_t at_ = 0;
};

// A file's tables, before they are written.
class Bytes {
 public:
  template <typename T>
  void number(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view text) {
    number<uint64_t>(text.size());
    text_ += text;
  }
  void value(const ordered_json& value) {
    if (value.is_string()) {
      number<uint32_t>(kString);
      text(value.get<std::string>());
    } else if (value.is_array()) {
      number<uint32_t>(kArray);
      number<uint32_t>(kString);
      number<uint64_t>(value.size());
      for (const ordered_json& item : value) text(item.get<std::string>());
    } else {
      number<uint32_t>(kU32);
      number(value.get<uint32_t>());
    }
  }
  void pad(uint64_t alignment) { text_.resize(aligned(text_.size(), alignment), '\0'); }
  const std::string& str() const { return text_; }
  void raw(std::string_view text) { text_ += text; }

 private:
  std::string text_;
};

}  // namespace

bool GgufFile::is_gguf(const MappedFile& file) { return file.text().starts_with(kMagic); }

GgufFile::GgufFile(std::shared_ptr<const MappedFile> file) : file_(std::move(file)), metadata_(json::object()) {
  Cursor cursor(*file_);
  const std::string path = file_->path().string();
  if (cursor.bytes(kMagic.size()) != kMagic) throw Error(cat(path, " is not a GGUF file"));
  const auto version = cursor.number<uint32_t>();
  if (version != 2 && version != kVersion)
    throw Error(cat(path, ": GGUF version ", version, version > 0xffff ? " (big-endian)" : "",
                    " is not read here; versions 2 and 3 are"));
  const auto tensors = cursor.number<uint64_t>(), values = cursor.number<uint64_t>();
  for (uint64_t i = 0; i < values; ++i) {
    std::string key = cursor.text();
    const auto type = cursor.number<uint32_t>();
    metadata_[std::move(key)] = cursor.value(type);
  }
  for (uint64_t i = 0; i < tensors; ++i) {
    Entry entry;
    entry.name = cursor.text();
    const auto dims = cursor.number<uint32_t>();
    if (dims > kMaxDims) cursor.fail(cat("a tensor has ", dims, " dimensions"));
    uint64_t elements = 1;
    for (uint32_t d = 0; d < dims; ++d) {
      const auto size = cursor.number<uint64_t>();
      if (size > INT32_MAX || (size > 0 && elements > kMaxElements / size)) cursor.fail("a tensor is impossibly large");
      elements *= size;
      entry.shape.insert(entry.shape.begin(), static_cast<int64_t>(size));
    }
    entry.type = cursor.number<uint32_t>();
    entry.begin = cursor.number<uint64_t>();
    tensors_.push_back(std::move(entry));
  }
  const json said = metadata_.value("general.alignment", json(kDefaultAlignment));
  const uint64_t alignment = said.is_number_unsigned() ? said.get<uint64_t>() : 0;
  if (alignment == 0 || alignment % 8 != 0 || alignment > kMaxAlignment)
    cursor.fail("general.alignment is no multiple of 8");
  const uint64_t data = aligned(cursor.at(), alignment);
  for (Entry& entry : tensors_) {
    if (entry.begin > file_->size() || data > file_->size() || entry.begin % alignment != 0)
      cursor.fail(cat("the data of ", entry.name, " do not begin inside the file, or are not aligned"));
    entry.begin += data;
  }
}

Tensor GgufFile::load_f32(const Entry& entry) const {
  const std::string where = cat(file_->path().string(), ": ", entry.name);
  if (entry.type != kTypeF32) throw Error(cat(where, " has ggml's type ", entry.type, ", not float32"));
  const uint64_t bytes = static_cast<uint64_t>(count_elements(entry.shape)) * sizeof(float);
  if (entry.begin > file_->size() || bytes > file_->size() - entry.begin)
    throw Error(cat(where, " reaches beyond the end of the file, which is damaged"));
  auto* data = const_cast<std::byte*>(file_->data() + entry.begin);
  return Tensor(DType::kF32, entry.shape, data, file_);
}

void write_gguf_file(const std::filesystem::path& given, const ordered_json& metadata,
                     const std::vector<std::pair<std::string, Tensor>>& tensors) {
  const std::filesystem::path path = replaceable(given);
  Bytes head;
  head.raw(kMagic);
  head.number(kVersion);
  head.number<uint64_t>(tensors.size());
  head.number<uint64_t>(metadata.size());
  for (const auto& [key, value] : metadata.items()) {
    head.text(key);
    head.value(value);
  }
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.dtype() != DType::kF32) throw std::logic_error("write_gguf_file takes float32 only");
    head.text(name);
    head.number(static_cast<uint32_t>(tensor.shape().size()));
    for (auto size = tensor.shape().rbegin(); size != tensor.shape().rend(); ++size)
      head.number(static_cast<uint64_t>(*size));
    head.number(kTypeF32);
    head.number(offset);
    offset = aligned(offset + tensor.bytes(), kDefaultAlignment);
  }
  head.pad(kDefaultAlignment);

  std::filesystem::path partial = path;
  partial += ".partial";
  AppendFile file(partial);
  file.write(head.str().data(), head.str().size());
  const std::string padding(kDefaultAlignment, '\0');
  for (const auto& [name, tensor] : tensors) {
    file.write(tensor.data(), tensor.bytes());
    file.write(padding.data(), aligned(tensor.bytes(), kDefaultAlignment) - tensor.bytes());
  }
  file.sync_and_close();
  std::error_code code;
  std::filesystem::rename(partial, path, code);
  if (code) throw Error(cat("cannot write ", path.string(), ": ", code.message()));
}

}  // namespace roundhouse

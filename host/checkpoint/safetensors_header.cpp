// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <unordered_set>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/tensor.h"

namespace roundhouse {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;  // of the field before the header
constexpr const char* kGetAgain = " Download or copy it again.";

[[noreturn]] void refuse(const MappedFile& file, const std::string& what) {
  throw Error(cat(file.path().string(), ": ", what), Failure::kDataLoss);
}

// A pass over JSON before it is parsed: refuses damage, repeated keys and deep nesting. (nlohmann's parser callback
// could do this while parsing, but takes quadratic time for an object of many objects.)
class JsonCheck : public nlohmann::json_sax<Json> {
 public:
  JsonCheck(const MappedFile& file, size_t max_depth) : file_(file), max_depth_(max_depth) {}

  bool start_object(size_t) override { return open(); }
  bool start_array(size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (!keys_.back().insert(name).second) refuse(file_, cat("its JSON names ", Json(name).dump(), " twice"));
    return true;
  }
  bool parse_error(size_t, const std::string&, const Json::exception& e) override {
    refuse(file_, cat("its JSON is damaged: ", json_problem(e), ".", kGetAgain));
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(Json::number_integer_t) override { return true; }
  bool number_unsigned(Json::number_unsigned_t) override { return true; }
  bool number_float(Json::number_float_t, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(Json::binary_t&) override { return true; }

 private:
  bool open() {
    if (keys_.size() == max_depth_) refuse(file_, cat("its JSON is nested more than ", max_depth_, " deep"));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  const MappedFile& file_;
  size_t max_depth_;
  std::vector<std::unordered_set<std::string>> keys_;  // of each open object; arrays have none
};

Json parse_json(const MappedFile& file, std::string_view text, size_t max_depth) {
  JsonCheck check(file, max_depth);
  Json::sax_parse(text.begin(), text.end(), &check);
  return Json::parse(text.begin(), text.end());
}

const Json& member(const MappedFile& file, const std::string& name, const Json& object, const char* key) {
  if (!object.contains(key)) refuse(file, cat("tensor ", name, " has no ", key));  // nor has what is no object
  return object.at(key);
}

std::vector<int64_t> parse_shape(const MappedFile& file, const std::string& name, const Json& value) {
  std::vector<int64_t> shape;
  if (!value.is_array()) refuse(file, cat("tensor ", name, ": shape is not a list"));
  for (const Json& dim : value) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > INT64_MAX)
      refuse(file, cat("tensor ", name, ": ", dim.dump(), " in its shape is not a size"));
    shape.push_back(dim.get<int64_t>());
  }
  return shape;
}

// None when it does not fit. A size of 0 does not hide an overflow of the others, so that any order of multiplication
// is safe from here on.
std::optional<uint64_t> checked_bits(const std::vector<int64_t>& shape, size_t element_bits) {
  int64_t product = static_cast<int64_t>(element_bits);
  bool empty = false;
  for (const int64_t dim : shape) {
    empty |= dim == 0;
    if (dim != 0 && __builtin_mul_overflow(product, dim, &product)) return std::nullopt;
  }
  return empty ? 0 : static_cast<uint64_t>(product);
}

void check_bytes(const MappedFile& file, const SafetensorsHeader::Tensor& tensor) {
  size_t element_bits = 8;
  bool known = true;
  try {
    element_bits = bits_of(dtype_from_safetensors(tensor.dtype));
  } catch (const Error&) {
    known = false;  // refused when somebody loads it
  }
  const auto bits = checked_bits(tensor.shape, element_bits);
  if (!bits)
    refuse(file, cat("tensor ", tensor.name, ": the shape ", shape_text(tensor.shape), " is larger than any memory"));
  if (!known) return;
  if (*bits % 8 != 0)
    refuse(file, cat("tensor ", tensor.name, ": ", tensor.dtype, " ", shape_text(tensor.shape),
                     " does not fill whole bytes, as safetensors wants it"));
  if (*bits / 8 != tensor.end - tensor.begin)
    refuse(file, cat("tensor ", tensor.name, ": ", tensor.dtype, " ", shape_text(tensor.shape), " needs ", *bits / 8,
                     " bytes, but its data_offsets span ", tensor.end - tensor.begin));
}

SafetensorsHeader::Tensor parse_tensor(const MappedFile& file, const std::string& name, const Json& value,
                                       uint64_t data_start) {
  SafetensorsHeader::Tensor tensor;
  tensor.name = name;
  const Json& dtype = member(file, name, value, "dtype");
  if (!dtype.is_string()) refuse(file, cat("tensor ", name, ": dtype is not text"));
  tensor.dtype = dtype.get<std::string>();
  tensor.shape = parse_shape(file, name, member(file, name, value, "shape"));
  const Json& offsets = member(file, name, value, "data_offsets");
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    refuse(file, cat("tensor ", name, ": data_offsets is not [begin, end]"));
  const uint64_t begin = offsets[0], end = offsets[1];
  if (begin > end) refuse(file, cat("tensor ", name, ": its data_offsets [", begin, ", ", end, "] run backwards"));
  if (end > file.size() - data_start)
    refuse(file, cat("tensor ", name, " ends at byte ", end, " of the data, but the file holds only ",
                     file.size() - data_start, ": it is truncated.", kGetAgain));
  tensor.begin = data_start + begin;
  tensor.end = data_start + end;
  check_bytes(file, tensor);
  return tensor;
}

// Sorts the tensors by their data, which must fill the file from data_start on.
void check_layout(const MappedFile& file, SafetensorsHeader& header, uint64_t data_start) {
  auto key = [](const SafetensorsHeader::Tensor& t) { return std::tie(t.begin, t.end, t.name); };
  std::sort(header.tensors.begin(), header.tensors.end(),
            [&](const auto& a, const auto& b) { return key(a) < key(b); });
  uint64_t position = data_start;
  const std::string* previous = nullptr;
  for (const auto& tensor : header.tensors) {
    if (tensor.begin < position) refuse(file, cat("the data of tensors ", *previous, " and ", tensor.name, " overlap"));
    if (tensor.begin > position)
      refuse(file, cat("there is a hole of ", tensor.begin - position, " bytes before tensor ", tensor.name));
    position = tensor.end;
    previous = &tensor.name;
  }
  if (position != file.size()) refuse(file, cat(file.size() - position, " bytes follow the last tensor"));
}

}  // namespace

SafetensorsHeader parse_safetensors_header(const MappedFile& file) {
  static_assert(std::endian::native == std::endian::little, "the format is little-endian, and mapped as it is");
  if (file.text().starts_with("version https://git-lfs"))
    refuse(file, "this is a git-lfs pointer, not the weights. Run `git lfs pull` in its folder.");
  if (file.size() < kLengthBytes)
    refuse(file,
           cat("only ", file.size(), " bytes, less than a safetensors file's header: it is truncated.", kGetAgain));
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  if (length > kMaxSafetensorsHeader)
    refuse(file, cat("not a safetensors file: its first 8 bytes would mean a header of ", length, " bytes (at most ",
                     kMaxSafetensorsHeader, ")"));
  if (length > file.size() - kLengthBytes)
    refuse(file, cat("the header has ", length, " bytes, but only ", file.size() - kLengthBytes,
                     " follow: the file is truncated.", kGetAgain));
  const std::string_view text = file.text().substr(kLengthBytes, length);
  if (!text.starts_with('{')) refuse(file, "not a safetensors file: its header is no JSON object");

  // Depth: the object, a tensor's object, its shape.
  const Json json = parse_json(file, text, 3);
  const uint64_t data_start = kLengthBytes + length;
  SafetensorsHeader header;
  for (const auto& [name, value] : json.items()) {
    if (name != "__metadata__") {
      header.tensors.push_back(parse_tensor(file, name, value, data_start));
      continue;
    }
    if (!value.is_object()) refuse(file, "__metadata__ is not a JSON object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) refuse(file, cat("__metadata__: ", key, " is not text"));
      header.metadata[key] = text.get<std::string>();
    }
  }
  check_layout(file, header, data_start);
  return header;
}

std::map<std::string, std::string> parse_safetensors_index(const MappedFile& file) {
  if (file.text().starts_with("version https://git-lfs"))
    refuse(file, "this is a git-lfs pointer, not the index. Run `git lfs pull` in its folder.");
  const Json json = parse_json(file, file.text(), 16);
  const Json map = json.contains("weight_map") ? json.at("weight_map") : Json();
  if (!map.is_object()) refuse(file, "it has no \"weight_map\" from tensor names to file names");
  std::map<std::string, std::string> files;
  for (const auto& [name, value] : map.items()) {
    if (!value.is_string()) refuse(file, cat("the file of tensor ", name, " is not text"));
    const std::string shard = value.get<std::string>();
    if (shard.empty() || shard == "." || shard == ".." || shard.find('/') != std::string::npos ||
        shard.find('\0') != std::string::npos)
      refuse(file, cat("the file of tensor ", name, ", ", value.dump(), ", is not a plain file name"));
    files[name] = shard;
  }
  if (files.empty()) refuse(file, "its weight_map is empty");
  return files;
}

}  // namespace roundhouse

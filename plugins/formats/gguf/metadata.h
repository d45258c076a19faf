// SPDX-License-Identifier: Apache-2.0
// A GGUF file's key-value pairs: building them, and what they say of a model.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "plugins/formats/gguf/names.h"
#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

// enum gguf_type
enum class GgufValue : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

// Bytes of a file, little-endian.
class ByteWriter {
 public:
  template <typename T>
  void number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  // Length, then the bytes.
  void text(const std::string& value) {
    number<uint64_t>(value.size());
    bytes_ += value;
  }
  void append(const ByteWriter& other) { bytes_ += other.bytes_; }
  // Zeros up to a multiple of `alignment`.
  void pad(uint64_t alignment) { bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// Keys of a file that is one of several.
constexpr const char* kSplitNumber = "split.no";  // from 0
constexpr const char* kSplitCount = "split.count";

// The tensors of rotary_factors(): one of all texts, or those of short and of long ones.
constexpr const char *kRotaryFactors = "rope_freqs.weight", *kShortFactors = "rope_factors_short.weight",
                     *kLongFactors = "rope_factors_long.weight";

class Metadata {
 public:
  void text(const std::string& key, const std::string& value);
  void u16(const std::string& key, uint64_t value);
  void i32(const std::string& key, int64_t value);
  void u32(const std::string& key, uint64_t value);
  void f32(const std::string& key, double value);
  void flag(const std::string& key, bool value);
  void texts(const std::string& key, const std::vector<std::string>& values);
  void f32s(const std::string& key, const std::vector<float>& values);
  void i32s(const std::string& key, const std::vector<int32_t>& values);
  void flags(const std::string& key, const std::vector<bool>& values);

  // Where the values of this array begin in bytes().
  size_t values_at(const std::string& key) const { return arrays_.at(key); }
  uint64_t count() const { return count_; }
  const ByteWriter& bytes() const { return bytes_; }

 private:
  ByteWriter& begin(const std::string& key, GgufValue type);
  ByteWriter& begin_array(const std::string& key, GgufValue type, size_t size);

  ByteWriter bytes_;
  std::map<std::string, size_t> arrays_;
  uint64_t count_ = 0;
};

// "7B", "1.4M": as llama.cpp's converter rounds a number of parameters.
std::string size_label(uint64_t parameters);

// Throws rh::Error where llama.cpp's architecture computes otherwise than the model. `architecture`: rh_model's.
void check_hyperparameters(const Names& names, const Json& architecture);

// The hyperparameters that llama.cpp reads, under its architecture's id. `architecture`: rh_model's.
void add_hyperparameters(Metadata& metadata, const Names& names, const Json& architecture);

// What llama.cpp divides the rotary frequencies by, one for each pair of features, by the tensor's name; empty: it
// needs none.
using RotaryFactors = std::vector<std::pair<std::string, std::vector<float>>>;
RotaryFactors rotary_factors(const Json& architecture);

}  // namespace roundhouse::formats

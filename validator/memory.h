// SPDX-License-Identifier: Apache-2.0
// Memory that notices what a plugin does with it.
#pragma once

#include <roundhouse/tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace roundhouse::validator {

// Bytes between pattern bytes or, with `pages`, before a page that cannot be touched. Aligned to 256 bytes.
class Block {
 public:
  Block(size_t bytes, bool pages, unsigned char fill);
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block();

  unsigned char* data() const { return data_; }
  size_t size() const { return size_; }
  // "", or which byte around it was written.
  std::string damage() const;
  // REQUIRES: pages. Whoever touches it from now on crashes; the addresses are not used again.
  void seal();

 private:
  size_t size_, total_;
  bool pages_, sealed_ = false;
  unsigned char* base_;
  unsigned char* data_;
};

// A value that a call left.
struct Value {
  rh_data_type type;
  std::vector<int64_t> shape;
  std::vector<unsigned char> bytes;
};

// A tensor in a Block, with the view that plugins see.
class Tensor {
 public:
  Tensor(rh_data_type type, std::vector<int64_t> shape, bool pages, unsigned char fill);
  Tensor(const Value& value, bool pages);
  rh_tensor* view() { return reinterpret_cast<rh_tensor*>(header_.data()); }
  Block& block() { return block_; }
  int64_t elements() const;
  Value value() const;
  // REQUIRES: pages. Neither the view nor the memory can be touched from now on.
  void seal();

 private:
  rh_data_type type_;
  std::vector<int64_t> shape_;
  Block block_, header_;  // the elements; the view, with its shape behind it
};

int64_t count_elements(const std::vector<int64_t>& shape);
std::string type_name(rh_data_type type);
std::string shape_text(const std::vector<int64_t>& shape);
// f32, f16 and bf16, rounded to nearest even.
float element(const Value& value, int64_t i);
std::vector<float> floats(const Value& value);
Value to_value(rh_data_type type, std::vector<int64_t> shape, const std::vector<float>& from);
bool is_float(rh_data_type type);

// "" when both hold the same bits, else which element differs, and how.
std::string difference(const Value& expected, const Value& actual);

}  // namespace roundhouse::validator

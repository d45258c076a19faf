// SPDX-License-Identifier: Apache-2.0
#include "validator/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <roundhouse/plugin.hpp>
#include <utility>

#include "host/base/error.h"
#include "kernels/floats.h"

namespace roundhouse::validator {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kPattern = 256;  // bytes before and behind, in the heap
constexpr unsigned char kPatternByte = 0xa5;
constexpr unsigned char kSealedByte = 0xdb;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

kernels::Element kernel_element(rh_data_type type) {
  if (rh::same_type(type, rh::kF32)) return kernels::Element::kF32;
  return rh::same_type(type, rh::kF16) ? kernels::Element::kF16 : kernels::Element::kBF16;
}

}  // namespace

Block::Block(size_t bytes, bool pages, unsigned char fill) : size_(bytes), pages_(pages) {
  if (pages) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t inner = round_up(std::max<size_t>(1, bytes), page);
    total_ = inner + 2 * page;
    void* memory = ::mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw Error("out of memory");
    base_ = static_cast<unsigned char*>(memory);
    std::memset(base_, kPatternByte, total_);
    ::mprotect(base_, page, PROT_NONE);
    ::mprotect(base_ + page + inner, page, PROT_NONE);
    // As near to the guard page as 64-byte alignment lets it be.
    data_ = base_ + page + inner - round_up(std::max<size_t>(1, bytes), 64);
  } else {
    total_ = round_up(bytes, kAlignment) + 2 * kPattern;
    base_ = static_cast<unsigned char*>(std::aligned_alloc(kAlignment, total_));
    if (!base_) throw Error("out of memory");
    std::memset(base_, kPatternByte, total_);
    data_ = base_ + kPattern;
  }
  std::memset(data_, fill, size_);
}

Block::~Block() {
  if (sealed_) return;
  if (pages_)
    ::munmap(base_, total_);
  else
    std::free(base_);
}

std::string Block::damage() const {
  if (pages_ || sealed_) return "";
  const unsigned char* end = base_ + total_;
  const auto changed = [](unsigned char b) { return b != kPatternByte; };
  if (const auto* at = std::find_if(base_, data_, changed); at != data_)
    return cat("a write ", data_ - at, " bytes before its beginning");
  if (const auto* at = std::find_if(data_ + size_, const_cast<unsigned char*>(end), changed); at != end)
    return cat("a write ", at - (data_ + size_) + 1, " bytes behind its end");
  return "";
}

void Block::seal() {
  assert(pages_);
  std::memset(data_, kSealedByte, size_);
  ::mprotect(base_, total_, PROT_NONE);
  sealed_ = true;
}

int64_t count_elements(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

Tensor::Tensor(rh_data_type type, std::vector<int64_t> shape, bool pages, unsigned char fill)
    : type_(type),
      shape_(std::move(shape)),
      block_(static_cast<size_t>(count_elements(shape_)) * (type.bits / 8), pages, fill),
      header_(sizeof(rh_tensor) + shape_.size() * sizeof(int64_t), pages, 0) {
  auto* sizes = reinterpret_cast<int64_t*>(header_.data() + sizeof(rh_tensor));
  std::copy(shape_.begin(), shape_.end(), sizes);
  *view() = {elements() ? block_.data() : nullptr,
             {RH_DEVICE_CPU, 0},
             static_cast<int32_t>(shape_.size()),
             type_,
             sizes,
             nullptr,
             0};
}

Tensor::Tensor(const Value& value, bool pages) : Tensor(value.type, value.shape, pages, 0) {
  std::copy(value.bytes.begin(), value.bytes.end(), block_.data());
}

int64_t Tensor::elements() const { return count_elements(shape_); }

Value Tensor::value() const { return {type_, shape_, {block_.data(), block_.data() + block_.size()}}; }

void Tensor::seal() {
  block_.seal();
  header_.seal();
}

std::string type_name(rh_data_type type) {
  const char* kind = type.kind == RH_KIND_INT      ? "i"
                     : type.kind == RH_KIND_UINT   ? "u"
                     : type.kind == RH_KIND_FLOAT  ? "f"
                     : type.kind == RH_KIND_BFLOAT ? "bf"
                                                   : "kind";
  return cat(kind, static_cast<int>(type.bits));
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (const int64_t size : shape) out += cat(out.size() > 1 ? ", " : "", size);
  return out + "]";
}

bool is_float(rh_data_type type) {
  return rh::same_type(type, rh::kF32) || rh::same_type(type, rh::kF16) || rh::same_type(type, rh::kBF16);
}

float element(const Value& value, int64_t i) {
  return kernels::load_element(kernel_element(value.type), value.bytes.data(), i);
}

std::vector<float> floats(const Value& value) {
  std::vector<float> out(static_cast<size_t>(count_elements(value.shape)));
  for (size_t i = 0; i < out.size(); ++i) out[i] = element(value, static_cast<int64_t>(i));
  return out;
}

Value to_value(rh_data_type type, std::vector<int64_t> shape, const std::vector<float>& from) {
  Value out{type, std::move(shape), std::vector<unsigned char>(from.size() * (type.bits / 8))};
  for (size_t i = 0; i < from.size(); ++i)
    kernels::store_element(kernel_element(type), out.bytes.data(), static_cast<int64_t>(i), from[i]);
  return out;
}

std::string difference(const Value& expected, const Value& actual) {
  if (!rh::same_type(expected.type, actual.type) || expected.shape != actual.shape)
    return cat(type_name(expected.type), " ", shape_text(expected.shape), " against ", type_name(actual.type), " ",
               shape_text(actual.shape));
  const auto [a, b] = std::mismatch(expected.bytes.begin(), expected.bytes.end(), actual.bytes.begin());
  if (a == expected.bytes.end()) return "";
  const size_t width = std::max<size_t>(1, expected.type.bits / 8);
  const auto i = static_cast<int64_t>((a - expected.bytes.begin()) / width);
  std::string where = cat("element ", i, " of ", shape_text(expected.shape), ": ");
  if (is_float(expected.type)) return where + cat(element(expected, i), " against ", element(actual, i));
  return where + cat("byte ", static_cast<int>(*a), " against ", static_cast<int>(*b));
}

}  // namespace roundhouse::validator

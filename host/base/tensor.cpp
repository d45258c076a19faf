// SPDX-License-Identifier: Apache-2.0
#include "host/base/tensor.h"

#include <sys/mman.h>

#include <array>
#include <bit>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "host/base/error.h"
#include "kernels/floats.h"

namespace roundhouse {
namespace {

using kernels::bfloat_from_float;
using kernels::float_from_bfloat;
using kernels::float_from_half;
using kernels::half_from_float;

struct Row {
  DType dtype;
  const char* safetensors;
  const char* config;
  rh_data_type rh;
};

constexpr std::array<Row, 22> kRows{{
    {DType::kF64, "F64", "float64", {RH_KIND_FLOAT, 64, 1}},
    {DType::kF32, "F32", "float32", {RH_KIND_FLOAT, 32, 1}},
    {DType::kF16, "F16", "float16", {RH_KIND_FLOAT, 16, 1}},
    {DType::kBF16, "BF16", "bfloat16", {RH_KIND_BFLOAT, 16, 1}},
    {DType::kI64, "I64", "int64", {RH_KIND_INT, 64, 1}},
    {DType::kI32, "I32", "int32", {RH_KIND_INT, 32, 1}},
    {DType::kI16, "I16", "int16", {RH_KIND_INT, 16, 1}},
    {DType::kI8, "I8", "int8", {RH_KIND_INT, 8, 1}},
    {DType::kU64, "U64", "uint64", {RH_KIND_UINT, 64, 1}},
    {DType::kU32, "U32", "uint32", {RH_KIND_UINT, 32, 1}},
    {DType::kU16, "U16", "uint16", {RH_KIND_UINT, 16, 1}},
    {DType::kU8, "U8", "uint8", {RH_KIND_UINT, 8, 1}},
    {DType::kBool, "BOOL", "bool", {RH_KIND_BOOL, 8, 1}},
    {DType::kC64, "C64", "complex64", {RH_KIND_COMPLEX, 64, 1}},
    {DType::kF8E4M3, "F8_E4M3", "float8_e4m3fn", {RH_KIND_FLOAT8_E4M3FN, 8, 1}},
    {DType::kF8E5M2, "F8_E5M2", "float8_e5m2", {RH_KIND_FLOAT8_E5M2, 8, 1}},
    {DType::kF8E8M0, "F8_E8M0", "float8_e8m0fnu", {RH_KIND_FLOAT8_E8M0FNU, 8, 1}},
    {DType::kF8E4M3Fnuz, "F8_E4M3FNUZ", "float8_e4m3fnuz", {RH_KIND_FLOAT8_E4M3FNUZ, 8, 1}},
    {DType::kF8E5M2Fnuz, "F8_E5M2FNUZ", "float8_e5m2fnuz", {RH_KIND_FLOAT8_E5M2FNUZ, 8, 1}},
    {DType::kF6E2M3, "F6_E2M3", "float6_e2m3fn", {RH_KIND_FLOAT6_E2M3FN, 6, 1}},
    {DType::kF6E3M2, "F6_E3M2", "float6_e3m2fn", {RH_KIND_FLOAT6_E3M2FN, 6, 1}},
    {DType::kF4E2M1, "F4", "float4_e2m1fn", {RH_KIND_FLOAT4_E2M1FN, 4, 1}},
}};

const Row& row(DType dtype) {
  for (const auto& r : kRows)
    if (r.dtype == dtype) return r;
  std::abort();
}

constexpr size_t kHugePage = size_t{2} << 20;

// Pages that the kernel fills with zeros when they are first touched, by whichever thread does so.
void* map_zeros(size_t size) {
  void* const data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, size, MADV_HUGEPAGE);
  return data;
}

}  // namespace

size_t bits_of(DType dtype) { return row(dtype).rh.bits; }
size_t size_of(DType dtype) {
  assert(bits_of(dtype) % 8 == 0);
  return bits_of(dtype) / 8;
}
size_t bytes_of(DType dtype, const std::vector<int64_t>& shape) {
  return (static_cast<size_t>(count_elements(shape)) * bits_of(dtype) + 7) / 8;
}
std::string_view safetensors_name(DType dtype) { return row(dtype).safetensors; }
std::string_view config_name(DType dtype) { return row(dtype).config; }
rh_data_type to_rh(DType dtype) { return row(dtype).rh; }

DType dtype_from_safetensors(std::string_view name) {
  for (const auto& r : kRows)
    if (name == r.safetensors) return r.dtype;
  throw Error(cat("the element type ", name, " is not one that Roundhouse reads"));
}

DType dtype_from_config_name(std::string_view name) {
  for (const auto& r : kRows)
    if (name == r.config) return r.dtype;
  throw Error(cat("the element type ", name, " is unknown"));
}

DType from_rh(rh_data_type dtype) {
  for (const auto& r : kRows)
    if (dtype.kind == r.rh.kind && dtype.bits == r.rh.bits && dtype.lanes == 1) return r.dtype;
  throw Error(cat("a plugin named the element type (kind ", int{dtype.kind}, ", ", int{dtype.bits}, " bits, ",
                  int{dtype.lanes}, " lanes), which this host does not know"));
}

bool is_floating(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

int64_t count_elements(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

Tensor::Tensor(DType dtype, std::vector<int64_t> shape) : dtype_(dtype), shape_(std::move(shape)) {
  const size_t size = bytes();
  if (size == 0) return;
  data_ = size < kHugePage ? std::aligned_alloc(64, (size + 63) / 64 * 64) : map_zeros(size);
  if (!data_)
    throw Error(cat("out of memory: a tensor of ", shape_text(shape_), " needs ", size, " bytes"), Failure::kExhausted);
  if (size < kHugePage) std::memset(data_, 0, size);
  storage_ = std::shared_ptr<const void>(data_, [size](const void* p) {
    void* const data = const_cast<void*>(p);
    size < kHugePage ? std::free(data) : static_cast<void>(munmap(data, size));
  });
}

Tensor::Tensor(DType dtype, std::vector<int64_t> shape, void* data, std::shared_ptr<const void> keep_alive)
    : dtype_(dtype), shape_(std::move(shape)), data_(data), storage_(std::move(keep_alive)) {}

rh_tensor Tensor::view() const {
  rh_tensor view{};
  view.data = data_;
  view.device = {RH_DEVICE_CPU, 0};
  view.ndim = static_cast<int32_t>(shape_.size());
  view.dtype = to_rh(dtype_);
  view.shape = const_cast<int64_t*>(shape_.data());
  return view;
}

Tensor Tensor::to(DType target) const {
  if (target == dtype_) {
    Tensor copy(dtype_, shape_);
    if (bytes()) std::memcpy(copy.data(), data_, bytes());
    return copy;
  }
  Tensor out(target, shape_);
  const int64_t n = elements();
  const auto refuse = [&] { throw Error(cat("cannot convert ", config_name(dtype_), " to ", config_name(target))); };
  const auto convert = [&](const auto* from, auto load) {
    const auto store = [&](auto* to, auto rounded) {
      for (int64_t i = 0; i < n; ++i) to[i] = rounded(load(from[i]));
    };
    switch (target) {
      case DType::kF64:
        return store(out.as<double>(), [](float x) { return x; });
      case DType::kF32:
        return store(out.as<float>(), [](float x) { return x; });
      case DType::kF16:
        return store(out.as<uint16_t>(), [](float x) { return half_from_float(x); });
      case DType::kBF16:
        return store(out.as<uint16_t>(), [](float x) { return bfloat_from_float(x); });
      default:
        refuse();
    }
  };
  switch (dtype_) {
    case DType::kF64:
      convert(as<double>(), [](double x) { return static_cast<float>(x); });
      break;
    case DType::kF32:
      convert(as<float>(), [](float x) { return x; });
      break;
    case DType::kF16:
      convert(as<uint16_t>(), [](uint16_t x) { return float_from_half(x); });
      break;
    case DType::kBF16:
      convert(as<uint16_t>(), [](uint16_t x) { return float_from_bfloat(x); });
      break;
    default:
      refuse();
  }
  return out;
}

Tensor Tensor::matrix(int64_t index) const {
  const size_t size = bytes() / static_cast<size_t>(dim(0));
  return Tensor(dtype_, {dim(1), dim(2)}, as<char>() + static_cast<size_t>(index) * size, storage_);
}

Tensor TensorSource::load_matrix(const std::string& name, int64_t index) { return load(name).matrix(index); }

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Tensors of the host outside libtorch: element types, an owning or borrowing tensor, and views for plugins.
#pragma once

#include <roundhouse/tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace roundhouse {

// All that safetensors has.
enum class DType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kC64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kF6E2M3,
  kF6E3M2,
  kF4E2M1,
};

size_t bits_of(DType dtype);
// Bytes of one element. REQUIRES: it has whole bytes.
size_t size_of(DType dtype);
// Bytes of a tensor; elements below a byte are packed without gaps.
size_t bytes_of(DType dtype, const std::vector<int64_t>& shape);
// The name that safetensors uses (F32, BF16, ...).
std::string_view safetensors_name(DType dtype);
// Throws Error for a name that this host does not read.
DType dtype_from_safetensors(std::string_view name);
// The name that recipes and config.json use (float32, bfloat16, ...).
std::string_view config_name(DType dtype);
DType dtype_from_config_name(std::string_view name);
rh_data_type to_rh(DType dtype);
DType from_rh(rh_data_type dtype);
bool is_floating(DType dtype);

int64_t count_elements(const std::vector<int64_t>& shape);
std::string shape_text(const std::vector<int64_t>& shape);  // "[4096, 1024]"

// A contiguous, row-major tensor in host memory. Copies share the storage. The storage may be a mapped file;
// then it is read-only and `keep_alive` holds the mapping.
class Tensor {
 public:
  Tensor() = default;
  // Allocates zeroed, 64-byte aligned memory.
  Tensor(DType dtype, std::vector<int64_t> shape);
  // Borrows `data`, which lives as long as `keep_alive`.
  Tensor(DType dtype, std::vector<int64_t> shape, void* data, std::shared_ptr<const void> keep_alive);

  DType dtype() const { return dtype_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t dim(size_t i) const { return shape_.at(i); }
  int64_t elements() const { return count_elements(shape_); }
  size_t bytes() const { return bytes_of(dtype_, shape_); }
  bool defined() const { return data_ != nullptr || elements() == 0; }
  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  const std::shared_ptr<const void>& storage() const { return storage_; }

  // A view for plugins; it borrows this object's shape, so this object must outlive it and stay where it is.
  rh_tensor view() const;
  // The matrix `index` of three dimensions; shares the storage.
  Tensor matrix(int64_t index) const;
  // A copy converted to another floating type, rounded to nearest even.
  Tensor to(DType dtype) const;

 private:
  DType dtype_ = DType::kF32;
  std::vector<int64_t> shape_{0};
  void* data_ = nullptr;
  std::shared_ptr<const void> storage_;
};

// What is known of a tensor without reading it.
struct TensorInfo {
  DType dtype;
  std::vector<int64_t> shape;
  std::string file;  // path of what stores it, for messages
};

// Where named tensors come from: a checkpoint folder, or an exported one read back by its format plugin.
// Implementations may be called from one thread at a time.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual std::vector<std::string> names() const = 0;
  virtual bool contains(const std::string& name) const = 0;
  // Throws Error when missing or damaged. The result may borrow a mapped file.
  virtual Tensor load(const std::string& name) = 0;
  // The matrix `index` of a tensor of three dimensions.
  virtual Tensor load_matrix(const std::string& name, int64_t index);
  // What load() would return.
  virtual TensorInfo info(const std::string& name) {
    const Tensor tensor = load(name);
    return {tensor.dtype(), tensor.shape(), location()};
  }
  // Lets pages of mapped files leave this process's resident memory; they come back when they are touched.
  virtual void release_pages() const {}
  // The folder, for messages.
  virtual std::string location() const = 0;
  // Whether load() throws Error for this tensor when it holds NaN or infinity, so that nobody else need look.
  virtual bool checks_finite(const std::string& /*name*/) const { return false; }
};

}  // namespace roundhouse

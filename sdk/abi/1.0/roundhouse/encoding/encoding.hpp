// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: what the typed encodings beside this header share.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "../encoding.h"
#include "../error.hpp"
#include "../helper/floats.h"
#include "../host.hpp"
#include "../tensor.hpp"
#include "parameters.h"

namespace rh {

// An rh_encoding with all that it points to.
class Encoding {
 public:
  Encoding() = default;
  Encoding(std::string id, std::string parameters_json, Specs tensors)
      : id_(std::move(id)), parameters_(std::move(parameters_json)), specs_(std::move(tensors)) {}
  // From typed parameters: AffineInt, ScaledFp8, ... For a weight [rows, cols]; for an input rows and cols do not
  // matter.
  template <typename Typed>
  Encoding(const Typed& encoding, int64_t rows, int64_t cols)
      : Encoding(Typed::kId, encoding.json(), encoding.specs(rows, cols)) {}

  explicit operator bool() const { return !id_.empty(); }
  const std::string& id() const { return id_; }
  const std::string& parameters_json() const { return parameters_; }
  const Specs& specs() const { return specs_; }
  // nullptr for an empty one. Valid until this object is changed, moved or destroyed.
  const rh_encoding* get() const {
    if (id_.empty()) return nullptr;
    table_ = {sizeof table_, specs_.count(), id_.c_str(), parameters_.c_str(), specs_.data()};
    return &table_;
  }

 private:
  std::string id_, parameters_ = "{}";
  Specs specs_;
  mutable rh_encoding table_{};
};

inline bool is(const rh_encoding& encoding, const char* id) { return std::strcmp(encoding.id, id) == 0; }

// The place of the encoding's tensor `name`, or -1.
inline int tensor_index(const rh_encoding& encoding, const char* name) {
  for (uint32_t i = 0; i < encoding.tensor_count; ++i)
    if (std::strcmp(encoding.tensors[i]->name, name) == 0) return static_cast<int>(i);
  return -1;
}

[[noreturn]] inline void bad_parameters(const rh_encoding& encoding) {
  throw Error(RH_INVALID_ARGUMENT, std::string(encoding.id) + " has no such parameters: " + encoding.parameters_json);
}
inline void require_id(const rh_encoding& encoding, const char* id) {
  if (!is(encoding, id)) throw Error(RH_INVALID_ARGUMENT, std::string("expected ") + id + ", not " + encoding.id);
}

namespace detail {

// print(text, size) as the functions of parameters.h.
template <typename Print>
std::string printed(Print&& print) {
  char text[RH_PARAMETERS_SIZE];
  print(text, sizeof text);
  return text;
}

// The tensors of an encoding, as its decode() looks them up by name.
class Tensors {
 public:
  Tensors(const rh_encoding& encoding, const rh_tensor* const* tensors) : encoding_(encoding), tensors_(tensors) {}
  const rh_tensor* find(const char* name) const {
    const int i = tensor_index(encoding_, name);
    return i < 0 ? nullptr : tensors_[i];
  }
  // Throws Error when it is missing or has another number of elements.
  const rh_tensor& get(const char* name, int64_t count) const {
    const rh_tensor* tensor = find(name);
    require(tensor, std::string(encoding_.id) + " lacks the tensor " + name);
    require(elements(*tensor) == count, std::string(name) + " has " + std::to_string(elements(*tensor)) +
                                            " elements, not " + std::to_string(count));
    return *tensor;
  }

 private:
  const rh_encoding& encoding_;
  const rh_tensor* const* tensors_;
};

// Calls body(T* output, convert), where convert turns a float into an element of `output` (f32, f16 or bf16).
template <typename Body>
void write_weights(rh_tensor& output, Body&& body) {
  if (same_type(output.dtype, kF32)) {
    body(data<float>(output), [](float x) { return x; });
  } else if (same_type(output.dtype, kF16)) {
    body(data<uint16_t>(output), [](float x) { return rh_half_from_float(x); });
  } else if (same_type(output.dtype, kBF16)) {
    body(data<uint16_t>(output), [](float x) { return rh_bfloat_from_float(x); });
  } else {
    throw Error(RH_INVALID_ARGUMENT, "a layer is read as f32, f16 or bf16");
  }
}

// Writes weight_of(group)(i) for every element i of `output`, [rows, cols] of f32, f16 or bf16, on the host's threads.
// Its group is one of group_rows x group_cols weights, counted along the rows; the last ones may be smaller.
template <typename WeightOf>
void write_groups(rh_tensor& output, int64_t group_rows, int64_t group_cols, WeightOf&& weight_of) {
  const int64_t rows = output.shape[0], cols = output.shape[1];
  const int64_t groups = (cols + group_cols - 1) / group_cols;
  write_weights(output, [&](auto* weights, auto convert) {
    parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t g = 0; g < groups; ++g) {
          const auto weight = weight_of(r / group_rows * groups + g);
          const int64_t last = r * cols + std::min(cols, (g + 1) * group_cols);
          for (int64_t i = r * cols + g * group_cols; i < last; ++i) weights[i] = convert(weight(i));
        }
      }
    });
  });
}

inline void require_shape(const rh_tensor& output, int64_t rows, int64_t cols) {
  require(output.ndim == 2 && output.shape[0] == rows && output.shape[1] == cols, "the output has another shape");
}

inline int64_t groups_of(int64_t n, int64_t group) { return (n + group - 1) / group; }

inline float reciprocal(float x) { return x == 0 ? 0 : 1 / x; }

}  // namespace detail
}  // namespace rh

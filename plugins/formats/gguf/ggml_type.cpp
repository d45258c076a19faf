// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/ggml_type.h"

#include <vector>

namespace roundhouse::formats {
namespace {

const std::vector<GgmlType>& types() {
  static const std::vector<GgmlType> all = [] {
    std::vector<GgmlType> out{{"f32", 0, 1, 4, -1}, {"f16", 1, 1, 2, -1}, {"bf16", 30, 1, 2, -1}};
    for (int block = 0; block < RH_GGML_TYPES; ++block) {
      const rh::GgmlType type = rh::ggml_type(block);
      out.push_back({type.name, static_cast<uint32_t>(type.ggml_id), type.block_cols, type.block_bytes, block});
    }
    return out;
  }();
  return all;
}

}  // namespace

const GgmlType* ggml_type(uint32_t id) {
  for (const GgmlType& type : types())
    if (type.id == id) return &type;
  return nullptr;
}

const GgmlType* ggml_type(std::string_view name) {
  for (const GgmlType& type : types())
    if (type.name == name) return &type;
  return nullptr;
}

kernels::Element element_of(const GgmlType& type) {
  return type.bytes == 4 ? kernels::Element::kF32 : type.id == 1 ? kernels::Element::kF16 : kernels::Element::kBF16;
}

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/ggml_type.h"

#include <map>
#include <vector>

#include "plugins/formats/lib/text.h"

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

std::string ggml_type_text(uint32_t id) {
  static const std::map<uint32_t, const char*> unread{
      {9, "q8_1"},   {15, "q8_k"},  {16, "iq2_xxs"}, {17, "iq2_xs"}, {18, "iq3_xxs"}, {19, "iq1_s"}, {20, "iq4_nl"},
      {21, "iq3_s"}, {22, "iq2_s"}, {23, "iq4_xs"},  {24, "i8"},     {25, "i16"},     {26, "i32"},   {27, "i64"},
      {28, "f64"},   {29, "iq1_m"}, {34, "tq1_0"},   {35, "tq2_0"},  {39, "mxfp4"},   {40, "nvfp4"}, {41, "q1_0"}};
  const GgmlType* type = ggml_type(id);
  const auto found = unread.find(id);
  return cat(type ? type->name : found != unread.end() ? found->second : "an unknown one", " (", id, ")");
}

kernels::Element element_of(const GgmlType& type) {
  return type.bytes == 4 ? kernels::Element::kF32 : type.id == 1 ? kernels::Element::kF16 : kernels::Element::kBF16;
}

}  // namespace roundhouse::formats

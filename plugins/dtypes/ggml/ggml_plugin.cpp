// SPDX-License-Identifier: Apache-2.0
// The data types "q4_0" ... "q6_k": weights as the blocks that ggml's engines compute with.
#include <roundhouse/plugin.hpp>
#include <string>

#include "ggml_quantizer.h"

namespace roundhouse::ggml {
namespace {

using rh::require;

constexpr uint32_t kSupports = RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_SEARCH | RH_SUPPORTS_TUNING |
                               RH_SUPPORTS_TUNED_SEARCH | RH_SUPPORTS_ENCODED | RH_SUPPORTS_BATCHES
#if defined(ROUNDHOUSE_WITH_CUDA)
                               | RH_SUPPORTS_CUDA
#endif
    ;

// What wants_reference() reads.
const char* options_schema(BlockType type) {
  static const std::string kArithmetic =
      R"("arithmetic": {"enum": ["block", "reference"], "default": "block", "description": "block: what the finished )"
      R"(block holds. reference: auto-round's own numbers, whose scales no block holds; for comparison, not for export"})";
  static std::string schemas[kBlockTypes];
  const BlockFacts fact = facts(type);
  std::string properties = has_reference(type) ? kArithmetic : "";
  if (fact.super_bits != 0)
    properties +=
        R"(, "super_bits": {"const": )" + std::to_string(fact.super_bits) +
        R"(, "description": "bits of the quantized scales; the type fixes them"}, "super_group_size": {"const": )" +
        std::to_string(fact.groups()) +
        R"(, "description": "groups whose scales are quantized together; the type fixes them"})";
  std::string& schema = schemas[static_cast<int>(type)];
  schema = R"({"type": "object", "additionalProperties": false, "properties": {)" + properties + "}}";
  return schema.c_str();
}

// auto-round's names give auto-round's numbers when they are tuned; its searched names ("rtn_", "opt_rtn_") mean the
// types themselves, whose search finds no larger error.
#define REFERENCE R"(, "options": {"arithmetic": "reference"}})"
#define SEARCHED R"(, "search": true})"
#define Q4_0 R"({"bits": 4, "group_size": 32, "sym": true)"
#define Q4_1 R"({"bits": 4, "group_size": 32, "sym": false)"
#define Q5_0 R"({"bits": 5, "group_size": 32, "sym": true)"
#define Q5_1 R"({"bits": 5, "group_size": 32, "sym": false)"
#define Q8_0 R"({"bits": 8, "group_size": 32, "sym": true)"
#define Q2_K R"({"bits": 2, "group_size": 16, "sym": false)"
#define Q3_K R"({"bits": 3, "group_size": 16, "sym": true)"
#define Q4_K R"({"bits": 4, "group_size": 32, "sym": false)"
#define Q5_K R"({"bits": 5, "group_size": 32, "sym": false)"
#define Q6_K R"({"bits": 6, "group_size": 16, "sym": true)"

// The id's own fields come first.
std::vector<rh::Alias> aliases(BlockType type) {
  switch (type) {
    case BlockType::kQ4_0:
      return {{"q4_0", Q4_0 "}"}};
    case BlockType::kQ4_1:
      return {
          {"q4_1", Q4_1 "}"}, {"int_asym_float_zp4", Q4_1 REFERENCE}, {"opt_rtn_int_asym_float_zp4", Q4_1 SEARCHED}};
    case BlockType::kQ5_0:
      return {{"q5_0", Q5_0 "}"}};
    case BlockType::kQ5_1:
      return {
          {"q5_1", Q5_1 "}"}, {"int_asym_float_zp5", Q5_1 REFERENCE}, {"opt_rtn_int_asym_float_zp5", Q5_1 SEARCHED}};
    case BlockType::kQ8_0:
      return {{"q8_0", Q8_0 "}"}};
    case BlockType::kQ2_K:
      return {{"q2_k", Q2_K "}"}, {"int_asym_dq2", Q2_K REFERENCE}, {"rtn_int_asym_dq2", Q2_K SEARCHED}};
    case BlockType::kQ3_K:
      return {{"q3_k", Q3_K "}"}, {"int_sym_dq3", Q3_K REFERENCE}, {"rtn_int_sym_dq3", Q3_K SEARCHED}};
    case BlockType::kQ4_K:
      return {{"q4_k", Q4_K "}"}, {"int_asym_dq4", Q4_K REFERENCE}, {"rtn_int_asym_dq4", Q4_K SEARCHED}};
    case BlockType::kQ5_K:
      return {{"q5_k", Q5_K "}"}, {"int_asym_dq5", Q5_K REFERENCE}, {"rtn_int_asym_dq5", Q5_K SEARCHED}};
    case BlockType::kQ6_K:
      return {{"q6_k", Q6_K "}"}, {"int_sym_dq6", Q6_K REFERENCE}, {"rtn_int_sym_dq6", Q6_K SEARCHED}};
  }
  return {};
}

const char* summary(BlockType type) {
  static constexpr const char* kSummaries[kBlockTypes] = {
      "ggml blocks of 32 weights in 4 bits with a scale",
      "ggml blocks of 32 weights in 4 bits with a scale and a minimum",
      "ggml blocks of 32 weights in 5 bits with a scale",
      "ggml blocks of 32 weights in 5 bits with a scale and a minimum",
      "ggml blocks of 32 weights in 8 bits with a scale",
      "ggml super-blocks of 16 groups of 16 weights in 2 bits, with 4-bit scales and minima",
      "ggml super-blocks of 16 groups of 16 weights in 3 bits, with 6-bit scales",
      "ggml super-blocks of 8 groups of 32 weights in 4 bits, with 6-bit scales and minima",
      "ggml super-blocks of 8 groups of 32 weights in 5 bits, with 6-bit scales and minima",
      "ggml super-blocks of 16 groups of 16 weights in 6 bits, with 8-bit scales"};
  return kSummaries[static_cast<int>(type)];
}

// The types with blocks of 32 that take about as many bits as a K type, the better one first.
const char* with_short_blocks(BlockType type) {
  switch (type) {
    case BlockType::kQ2_K:
    case BlockType::kQ3_K:
    case BlockType::kQ4_K:
      return "q5_0 or q4_0";
    default:
      return "q8_0 or q5_1";
  }
}

class GgmlDtype : public rh::Dtype {
 public:
  explicit GgmlDtype(BlockType type)
      : Dtype(facts(type).name, summary(type), RH_ENCODING_GGML_BLOCK, kSupports, aliases(type), options_schema(type)),
        type_(type) {}

  void check(const rh_layer& layer) const override {
    const rh_scheme& scheme = *layer.scheme;
    const BlockFacts fact = facts(type_);
    const std::string id = fact.name;
    require(layer.target == RH_TARGET_WEIGHT,
            id + " quantizes weights only: leave act_bits at 16, or give the activation another data type");
    const bool symmetric = scheme.symmetric != 0;
    require(scheme.bits == fact.bits && scheme.group_rows == 1 && scheme.group_cols == fact.group_cols &&
                symmetric == fact.symmetric,
            id + " is " + shape(fact.bits, fact.group_cols, fact.symmetric) + ", not " +
                shape(scheme.bits, scheme.group_cols, symmetric) + ": omit these fields, the data type fixes them");
    check_options(scheme);
    require(layer.rows >= 1 && layer.cols >= 1, "a weight needs at least one row and one column");
    if (layer.cols % fact.block_cols != 0) {
      const bool short_blocks = fact.super_bits != 0 && layer.cols % facts(BlockType::kQ4_0).block_cols == 0;
      throw rh::Error(
          RH_INVALID_ARGUMENT,
          std::string(layer.name) + ": " + id + " needs rows of a multiple of " + std::to_string(fact.block_cols) +
              " columns, this has " + std::to_string(layer.cols) + ": " +
              (short_blocks ? "use " + std::string(with_short_blocks(type_)) : "leave this layer at 16 bits"));
    }
    make_ggml_layer(type_, layer);
  }

  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<GgmlQuantizer>(type_, layer);
  }
  std::unique_ptr<rh::Quantizer> create_encoded(const rh_layer& layer) const override {
    require(layer.target == RH_TARGET_WEIGHT && rh::GgmlBlock::of(*layer.encoding).type == static_cast<int>(type_),
            std::string(facts(type_).name) + " takes weights in blocks of its own type only");
    require(layer.cols % facts(type_).block_cols == 0, "a row is no whole number of blocks");
    return std::make_unique<rh::EncodedWeight<rh::GgmlBlock>>(layer);
  }

 private:
  static std::string shape(int bits, int64_t group, bool symmetric) {
    return std::to_string(bits) + " bits in groups of " + std::to_string(group) +
           (symmetric ? ", symmetric" : ", asymmetric");
  }

  void check_options(const rh_scheme& scheme) const {
    const bool reference = wants_reference(type_, scheme);
    require(reference || (scheme.scale_dtype.bits == 0 && scheme.scale_threshold == 0),
            std::string("the scales of ") + facts(type_).name +
                " are what its blocks hold: omit scale_dtype and q_scale_thresh");
  }

  BlockType type_;
};

struct GgmlPlugin {
  static rh::Contents make() {
    rh::Contents contents;
    for (int i = 0; i < kBlockTypes; ++i)
      contents.dtypes.push_back(std::make_unique<GgmlDtype>(static_cast<BlockType>(i)));
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::ggml

RH_PLUGIN(roundhouse::ggml::GgmlPlugin, "ggml", "Roundhouse", "0.1.0", "weights as blocks of ggml")

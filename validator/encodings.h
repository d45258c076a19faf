// SPDX-License-Identifier: Apache-2.0
// Made-up layers in the encodings of encoding.h, and the weights that those mean.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "validator/cases.h"
#include "validator/memory.h"

namespace roundhouse::validator {

struct Encoded {
  std::string id;
  nlohmann::json parameters;
  std::vector<std::pair<std::string, Value>> tensors;
};

// How all layers of a model are quantized.
struct LayerKind {
  std::string encoding;
  nlohmann::json parameters;  // without what depends on a layer's shape
  int64_t group_cols;         // or RH_GROUP_ROW, RH_GROUP_TENSOR
  rh_data_type scale{};
  bool outer_scale = false;
  std::optional<Encoded> activation;  // "group_cols": 0 stands for the layer's columns

  bool mixed = false;        // layers of 128 rows have groups twice as wide
  bool group_index = false;  // of affine-int: columns have groups in an order of their own

  std::string label() const;
};

// Of every encoding, several.
const std::vector<LayerKind>& layer_kinds();

// Random codes and scales.
Encoded random_layer(const LayerKind& kind, int64_t rows, int64_t cols, unsigned seed);
// By the normative formulas; without them (most blocks of ggml) some numbers that follow from the bytes.
std::vector<float> decoded(const Encoded& layer, int64_t rows, int64_t cols, rh_data_type output);
bool has_formula(const Encoded& layer);

}  // namespace roundhouse::validator

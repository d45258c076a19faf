// Made-up layers in the encodings of encodings.h, and the weights that those mean.
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
  Scheme scheme;  // of the weights
  std::string encoding;
  nlohmann::json parameters;  // but for what depends on a layer's shape
  rh_data_type scale{};
  bool outer_scale = false;
  std::optional<Scheme> activation;
  std::optional<Encoded> activation_encoding;  // "group_cols": 0 stands for the layer's columns

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

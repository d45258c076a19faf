// SPDX-License-Identifier: Apache-2.0
// How one layer is quantized, and the fields by which people, presets, data types and formats say it.
#pragma once

#include <roundhouse/scheme.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/tensor.h"

namespace roundhouse {

enum class Rounding : int32_t {
  kPlain = RH_ROUNDING_PLAIN,
  kSearch = RH_ROUNDING_SEARCH,
  kTuned = RH_ROUNDING_TUNED,
  kTunedSearch = RH_ROUNDING_TUNED_SEARCH,
};
constexpr bool is_tuned(Rounding rounding) {
  return rounding == Rounding::kTuned || rounding == Rounding::kTunedSearch;
}
// And so has a use for the importance of input channels.
constexpr bool is_searched(Rounding rounding) {
  return rounding == Rounding::kSearch || rounding == Rounding::kTunedSearch;
}

// The weight's or the activation's side of a scheme. `dtype` is a plugin's id, aliases already resolved. A new field is
// a member here and a row in scheme.cpp.
struct TensorScheme {
  std::string dtype;
  int bits = 16;
  bool symmetric = true;
  Rounding rounding = Rounding::kPlain;
  int64_t group_rows = 1;
  int64_t group_cols = 128;  // or RH_GROUP_ROW, RH_GROUP_TENSOR
  bool dynamic = true;
  std::optional<DType> scale_dtype;
  double scale_threshold = 0;
  nlohmann::json options = nlohmann::json::object();  // the data type's own

  bool operator==(const TensorScheme&) const = default;
};

// One layer: weight and, when `activation` is set, activation. A layer without `weight` stays as it is.
struct Scheme {
  std::optional<TensorScheme> weight;
  std::optional<TensorScheme> activation;

  bool operator==(const Scheme&) const = default;
};

inline constexpr std::string_view kActivationPrefix = "act_";  // of the keys of an activation's side

struct SchemeField {
  enum class Kind { kName, kBits, kGroupSize, kFlag, kElementType, kAmount, kOptions };
  static constexpr unsigned kNone = 0, kWeight = 1, kActivation = 2, kBoth = 3;

  std::string key;
  Kind kind;
  unsigned said;  // the sides of which a recipe may say it
  unsigned told;  // the sides of which to_json tells it
  // Throws Error for a value of another kind. nullptr: it is not set by itself.
  void (*set)(TensorScheme& scheme, const nlohmann::json& value);
  nlohmann::json (*get)(const TensorScheme& scheme);
  // Writes it for plugins, borrowing from `scheme`; nullptr: what writes the view does.
  void (*show)(const TensorScheme& scheme, rh_scheme& view);
};

// In the order in which messages list them.
const std::vector<SchemeField>& scheme_fields();

// As recipes write it: columns, or [rows, columns] of a 2-D group.
nlohmann::json group_size(const TensorScheme& scheme);

// The recipe's keys of a scheme. Element types, amounts and options that have their default are omitted; bits and
// act_bits are always there, 16 when that side stays as it is.
nlohmann::json to_json(const Scheme& scheme);

// "int W4 g128 sym tuned", "unchanged": a scheme in a few words.
std::string scheme_text(const Scheme& scheme);

}  // namespace roundhouse

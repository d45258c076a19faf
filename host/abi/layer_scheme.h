// How one layer is quantized, on the host's side of the plugin boundary.
#pragma once

#include <roundhouse/scheme.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "host/base/tensor.h"

namespace roundhouse {

enum class Rounding : int32_t { kPlain = RH_ROUNDING_PLAIN, kSearch = RH_ROUNDING_SEARCH, kTuned = RH_ROUNDING_TUNED };

// The weight's or the activation's side of a scheme. `dtype` is a plugin's id, aliases already resolved.
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

// A TensorScheme as plugins see it. Borrows strings from itself: keep it alive and in place for the call.
class SchemeView {
 public:
  explicit SchemeView(const TensorScheme& scheme);
  SchemeView(const SchemeView&) = delete;
  SchemeView& operator=(const SchemeView&) = delete;
  const rh_scheme* get() const { return &view_; }

 private:
  std::string dtype_, options_;
  rh_scheme view_;
};

// As recipes write it: columns, or [rows, columns] of a 2-D group.
nlohmann::json group_size(const TensorScheme& scheme);

// The recipe's keys (data_type, bits, group_size, sym, act_bits, act_data_type, act_group_size, act_sym, act_dynamic,
// scale_dtype, q_scale_thresh, options) of a scheme. Those that have their default are omitted, but bits and act_bits are
// always there, 16 when that side stays as it is.
nlohmann::json to_json(const Scheme& scheme);

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// What a data type is tried with: the schemes that its check takes, with element types and shapes.
#pragma once

#include <roundhouse/dtype.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "validator/memory.h"
#include "validator/plugin.h"

namespace roundhouse::validator {

// rh_scheme with strings of its own.
struct Scheme {
  std::string dtype, options = "{}";
  int bits = 4;
  bool symmetric = true;
  int rounding = RH_ROUNDING_PLAIN;
  int64_t group_rows = 1, group_cols = 32;
  bool dynamic = true;
  rh_data_type scale_dtype{};
  float scale_threshold = 0;
};

// What a quantizer encoded: rh_encoding with the values of its tensors.
struct Given {
  std::string id, parameters;
  std::vector<std::pair<std::string, Value>> tensors;
};

struct Case {
  const rh_dtype* dtype;
  Scheme scheme;
  int target = RH_TARGET_WEIGHT;
  rh_data_type element{};
  int64_t rows = 0;  // of an activation: tokens of the calls
  int64_t cols = 0;
  std::shared_ptr<const Given> encoding{};  // in place of the scheme
  uint32_t matrices = 1;                    // one below the other in `rows`

  bool is_weight() const { return target == RH_TARGET_WEIGHT; }
  bool tuned() const { return scheme.rounding == RH_ROUNDING_TUNED || scheme.rounding == RH_ROUNDING_TUNED_SEARCH; }
  std::string label() const;
};

// A Case as the plugin sees it: rh_layer, its scheme and strings, with `grow` unknown bytes behind the structs.
class LayerBlock {
 public:
  LayerBlock(const Case& c, bool pages, uint32_t grow);
  const rh_layer* get() const { return layer_; }
  void seal() { block_.seal(); }

 private:
  Block block_;
  rh_layer* layer_;
};

// Calls check. The error's rules are looked at by the test "dtype.errors" alone.
rh_code check(const Case& c, ErrorSlot& error);

// Cases that the data types of the plugin take, each field's values at least once. Throws Skip when there is none.
std::vector<Case> accepted_cases(const Started& plugin);
// Of these, few that differ most: for tests that take long.
std::vector<Case> few_cases(const Started& plugin);
// Schemes that no data type takes as they are.
std::vector<Case> nonsense_cases(const rh_dtype* dtype);
// Other texts of the same JSON object: with blanks wherever they may stand, with the keys in the opposite order.
std::vector<std::string> same_json(const std::string& object);
// Options that are no options.
const std::vector<std::string>& garbage_options();

}  // namespace roundhouse::validator

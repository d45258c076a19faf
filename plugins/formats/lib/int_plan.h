// SPDX-License-Identifier: Apache-2.0
// What configurations say about layers in affine-int/1: a scheme for all, and the layers that differ.
#pragma once

#include <initializer_list>

#include "plugins/formats/lib/checkpoint.h"
#include "plugins/formats/lib/common_groups.h"

namespace roundhouse::formats {

// As config.json writes it: group_size -1 is one group a row.
struct IntScheme {
  int bits;
  int64_t group_size;
  bool symmetric;

  bool operator==(const IntScheme&) const = default;
};

// The layers in affine-int/1 of a plan.
class IntPlan {
 public:
  // Throws rh::Error when there is none.
  explicit IntPlan(const rh_plan& plan);

  // What most layers have.
  const IntScheme& common() const { return common_; }
  bool all_symmetric() const { return all_symmetric_; }
  // A layer's scheme as these configurations can say it.
  IntScheme of(const rh_format_layer& layer) const;

 private:
  CommonGroups groups_;
  IntScheme common_{};
  bool all_symmetric_ = true;
};

// Throws rh::Error, with the reason, unless the layer can be stored with one of `bits`.
void check_int_layer(const rh_format_layer& layer, std::initializer_list<int> bits);

// The keys that both formats write: bits, group_size, sym, data_type, how it was tuned, and by whom.
Json int_config(const rh_export& target, const IntScheme& common);

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
// The groups that most layers of a plan have.
#pragma once

#include <roundhouse/format.h>

#include <cstdint>

namespace roundhouse::formats {

// A layer whose only group of a row is as wide as the layer may have been asked for with a group size or with one group a
// row: its encoding is the same. Configurations want one word for all layers, so such a layer is said to have the groups
// of the others when they fit.
class CommonGroups {
 public:
  CommonGroups() = default;  // of no plan: none
  explicit CommonGroups(const rh_plan& plan);

  // Whether a layer of `cols` columns has one group a row, in a configuration's words.
  bool whole_row(int64_t group_rows, int64_t group_cols, int64_t cols) const {
    return group_cols >= cols && !common(group_rows, group_cols);
  }
  bool common(int64_t group_rows, int64_t group_cols) const { return group_rows == rows_ && group_cols == cols_; }

 private:
  int64_t rows_ = 0, cols_ = 0;
};

}  // namespace roundhouse::formats

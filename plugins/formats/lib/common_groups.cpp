// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/common_groups.h"

#include <map>
#include <roundhouse/encoding/affine_int.hpp>
#include <roundhouse/encoding/scaled_fp8.hpp>
#include <utility>

namespace roundhouse::formats {

CommonGroups::CommonGroups(const rh_plan& plan) {
  std::map<std::pair<int64_t, int64_t>, int64_t> layers;
  int64_t most = 0;
  for (uint64_t i = 0; i < plan.tensor_count; ++i) {
    const rh_format_layer* layer = plan.tensors[i]->layer;
    if (!layer) continue;
    std::pair<int64_t, int64_t> group{};
    if (rh::is(*layer->encoding, rh::AffineInt::kId)) {
      const auto made = rh::AffineInt::of(*layer->encoding);
      group = {made.group_rows, made.group_cols};
    } else if (rh::is(*layer->encoding, rh::ScaledFp8::kId)) {
      const auto made = rh::ScaledFp8::of(*layer->encoding);
      group = {made.group_rows, made.group_cols};
    }
    if (group.second == 0 || group.second >= layer->cols || ++layers[group] <= most) continue;
    most = layers[group];
    rows_ = group.first;
    cols_ = group.second;
  }
}

}  // namespace roundhouse::formats

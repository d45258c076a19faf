// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/int_plan.h"

#include <algorithm>
#include <roundhouse/encoding/affine_int.hpp>
#include <utility>
#include <vector>

#include "plugins/formats/lib/checkpoint_writer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

template <typename Body>
void for_layers(const rh_plan& plan, Body&& body) {
  for (uint64_t i = 0; i < plan.tensor_count; ++i)
    if (const rh_format_layer* layer = plan.tensors[i]->layer; layer && rh::is(*layer->encoding, rh::AffineInt::kId))
      body(*layer);
}

std::string listed(std::initializer_list<int> numbers) {
  std::string text;
  for (int n : numbers) text += cat(text.empty() ? "" : ", ", n);
  return text;
}

}  // namespace

IntPlan::IntPlan(const rh_plan& plan) : groups_(plan) {
  std::vector<std::pair<IntScheme, int64_t>> counts;
  for_layers(plan, [&](const rh_format_layer& layer) {
    const IntScheme scheme = of(layer);
    all_symmetric_ = all_symmetric_ && scheme.symmetric;
    const auto found = std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == scheme; });
    if (found == counts.end())
      counts.emplace_back(scheme, 1);
    else
      ++found->second;
  });
  require_layers(plan);
  common_ = std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
              return a.second < b.second;
            })->first;
}

IntScheme IntPlan::of(const rh_format_layer& layer) const {
  const auto made = rh::AffineInt::of(*layer.encoding);
  const bool row = groups_.whole_row(made.group_rows, made.group_cols, layer.cols);
  return {made.bits, row ? -1 : made.group_cols, made.symmetric != 0};
}

void check_int_layer(const rh_format_layer& layer, std::initializer_list<int> bits) {
  const auto made = rh::AffineInt::of(*layer.encoding);
  rh::require(!layer.activation_encoding, "it stores weights only, and the scheme quantizes activations as well");
  rh::require(!made.outer_scale,
              "it stores one scale a group, and this data type has another for the whole tensor (outer_scale); use a "
              "data type without, such as int");
  rh::require(!made.group_index, "it stores groups of neighbouring columns, and these are in an order of their own");
  rh::require(std::find(bits.begin(), bits.end(), made.bits) != bits.end(),
              cat("it stores ", listed(bits), " bits, not ", made.bits));
  rh::require(made.group_rows == 1, "it stores a scale for each row; use group_size -1 or a number of columns");
  rh::require(layer.rows % 32 == 0 && layer.cols % 32 == 0,
              cat("its bit streams need rows and columns in multiples of 32, and the weight is [", layer.rows, ", ",
                  layer.cols, "]; leave the layer unquantized"));
  rh::require(made.whole_row(layer.cols) || layer.cols % made.group_cols == 0,
              cat("the engines that read it need columns in multiples of the group size, and ", layer.cols,
                  " is not one of ", made.group_cols, "; use a group_size that divides it, or -1"));
}

Json int_config(const rh_export& target, const IntScheme& common) {
  Json config{
      {"bits", common.bits}, {"group_size", common.group_size}, {"sym", common.symmetric}, {"data_type", "int"}};
  add_tuning(target, config);
  return config;
}

}  // namespace roundhouse::formats

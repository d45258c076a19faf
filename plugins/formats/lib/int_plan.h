// What GPTQ-style configurations say about layers: a scheme for all, and the layers that differ.
#pragma once

#include <initializer_list>

#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

// As config.json writes it: group_size -1 is one group a row.
struct IntScheme {
  int bits;
  int64_t group_size;
  bool symmetric;

  bool operator==(const IntScheme&) const = default;
};

struct IntPlan {
  IntScheme common;  // the recipe's scheme
  bool all_symmetric;
};

IntPlan int_plan(const rh_export& target);
// Whether all layers that the plan quantizes are symmetric.
bool all_symmetric(const rh_export& target);

// The scheme of a layer as these configurations can say it: engines want the inputs to be a multiple of the group size,
// so a group wider than the layer becomes one group a row.
IntScheme int_scheme(const rh_encoded_layer& layer);

// Throws rh::Error, with the reason, unless the layer can be stored with one of `bits`.
void check_int_layer(const rh_format_query& query, std::initializer_list<int> bits);

// The keys that both formats write: bits, group_size, sym, data_type, how it was tuned, and by whom.
Json int_config(const rh_export& target, const IntScheme& common);

}  // namespace roundhouse::formats

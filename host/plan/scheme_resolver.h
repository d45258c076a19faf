// SPDX-License-Identifier: Apache-2.0
// The one place where a data type's name, as a recipe or a command line has it, becomes a plugin's id and scheme
// fields.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "host/base/scheme.h"
#include "host/discovery/catalogue.h"

namespace roundhouse {

// One tensor's side of a scheme as it was asked for. Keys of both objects: bits, group_size (a number, or [rows,
// cols]), sym, search (true: searched rounding, false: plain; instead of `rounding`), dynamic,
// scale_dtype (float16, ...), q_scale_thresh, options (an object, the data type's own), and
// the names of the data type's own options themselves.
// For an activation the same keys, without "act_".
struct DtypeRequest {
  std::string name;                                   // an id, an alias, or a stem that bits or symmetry complete
  nlohmann::json said = nlohmann::json::object();     // what the user wrote
  nlohmann::json assumed = nlohmann::json::object();  // what a preset assumes where the user wrote nothing
  Rounding rounding = Rounding::kPlain;               // of the run
};

// Looks `name` up in the order of auto-round's get_quant_func: the exact id; the exact alias; then the stems "opt_rtn_"
// (searched rounding), "rtn_" (no tuning), "block_" (2-D groups) and none, each followed by nothing, the bits, "_sym"
// or "_asym", and both; last, for a name that ends in its bits ("int4"), the name without them. Fields come from
// `said`, then the alias, then `assumed`, then auto-round's defaults: 4 bits, groups of 128, symmetric. An alias with
// the id's own name has the fields that the id itself fixes. An alias's "search" also decides the rounding: true,
// searched; false, plain. Throws Error for an unknown name, key or value, and when the user's words contradict the
// alias.
TensorScheme resolve_dtype(const Catalogue& catalogue, const DtypeRequest& request);

// Throws Error for an option whose name the schema of `whose` options does not have, or whose value its `enum` or `type`
// does not allow. What values mean is the plugin's business.
void check_options(const std::string& whose, const nlohmann::json& schema, const nlohmann::json& options);

// A layer's scheme from a recipe's keys: data_type and those above for the weight; act_data_type, act_bits,
// act_group_size, act_sym and act_dynamic for the activation. 16 bits: that side stays as it is. What is not said of an
// activation: 16 bits, else the weight's data type, group size and symmetry, dynamic (auto-round's rules).
Scheme resolve_scheme(const Catalogue& catalogue, const nlohmann::json& said, const nlohmann::json& assumed,
                      Rounding rounding);

}  // namespace roundhouse

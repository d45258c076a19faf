// What a plan asks a format before any work.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "host/abi/loaded.h"

namespace roundhouse {

// Throws Error with the format's reason when it cannot hold the layer. query.struct_size is filled in here.
void check_format(const LoadedFormat& format, rh_format_query query);

// What the format writes once for a whole checkpoint, with the value that this layer needs; "": nothing. Throws Error.
std::string ask_uniform(const LoadedFormat& format, rh_format_query query);

// The data types that a format wants for layers of the plan: rh_assign in format.h. An empty object when it has no
// wishes. Throws Error with the format's reason, or when the format's answer is not of that form.
nlohmann::json ask_assignment(const LoadedFormat& format, const nlohmann::json& plan,
                              const nlohmann::json& architecture, const nlohmann::json& options);

}  // namespace roundhouse

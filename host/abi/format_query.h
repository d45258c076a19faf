// SPDX-License-Identifier: Apache-2.0
// What a plan asks a format before any work.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/abi/loaded.h"
#include "host/abi/views.h"

namespace roundhouse {

// Throws Error with the format's reason when it cannot hold the layer.
void check_format(const LoadedFormat& format, const FormatLayer& layer, const nlohmann::json& options);

// What a format will do with a planned tensor.
struct TensorAnswer {
  int32_t what = RH_TENSOR_COPIED;  // RH_TENSOR_*
  std::string reason;
};
// One for each tensor of the plan. Throws Error when the format refuses the plan as a whole, or its answer is not of that
// form.
std::vector<TensorAnswer> ask_plan(const LoadedFormat& format, const rh_plan& plan);

// The data types that a format wants for layers: ext/assign.h. An empty object when it has no wishes. Throws Error with
// the format's reason, or when the format's answer is not of that form.
nlohmann::json ask_assignment(const LoadedFormat& format, const nlohmann::json& layers,
                              const nlohmann::json& architecture, const nlohmann::json& options);

// What an engine will stumble over in a finished checkpoint.
struct Finding {
  bool is_error = false;
  std::string engine;  // "": every engine that loads the format
  std::string file;    // relative to the checkpoint; "": no single one
  std::string message, advice;
};
// Empty when the format does not look. `architecture`: Architecture::facts(). Throws Error with the format's reason, or
// when its answer is not of that form.
std::vector<Finding> ask_findings(const LoadedFormat& format, const std::filesystem::path& checkpoint,
                                  const nlohmann::json& architecture);

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Which plugin reads a checkpoint.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "host/base/tensor.h"
#include "host/discovery/catalogue.h"

namespace roundhouse {

// The format that is the surest that the checkpoint at `path` is its own, or empty.
std::string format_of(Catalogue& catalogue, const std::filesystem::path& path);

// Asks every loaded format whether the checkpoint is its own; the surest one opens it, and `format_id` (when not NULL)
// becomes its id. When none does, the folder is an original checkpoint and `format_id` becomes empty; but when its
// weights are quantized, throws Error.
std::unique_ptr<TensorSource> open_checkpoint(Catalogue& catalogue, const std::filesystem::path& folder,
                                              const nlohmann::json& architecture, std::string* format_id = nullptr);

// The checkpoint that a run starts from: as open_checkpoint(), with quantized weights decoded to float32, so that nothing
// they hold is lost.
std::unique_ptr<TensorSource> open_source(Catalogue& catalogue, const std::filesystem::path& folder,
                                          const nlohmann::json& architecture, std::string& format_id);

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Reads a checkpoint whose quantized layers are stored as int_layout.h says.
#pragma once

#include <memory>
#include <string>

#include "plugins/formats/lib/int_layout.h"
#include "plugins/formats/lib/layer_reader.h"

namespace roundhouse::formats {

// Makes one of its layers. Captures `quantization` by reference.
LayerReader::MakeLayer int_layer_maker(const std::string& folder, const Json& config, const Json& quantization,
                                       IntLayout layout);

// `config` is the folder's config.json, `quantization` what it or another file says of the quantization. Throws rh::Error
// when the checkpoint is damaged.
std::unique_ptr<LayerReader> int_reader(const std::string& folder, const Json& config, const Json& quantization,
                                        IntLayout layout);

}  // namespace roundhouse::formats

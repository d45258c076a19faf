// SPDX-License-Identifier: Apache-2.0
// Layers that go from a quantized checkpoint to the formats as they are packed.
#pragma once

#include <functional>

#include "host/abi/format_reader.h"
#include "host/export/encoded_layer.h"

namespace roundhouse {

// Calls body with the layer's encoded tensors, bias and calibrated range. REQUIRES: `source` says what it is packed from.
void with_stored_layer(const LayerPlan& layer, ExportedCheckpoint& source,
                       const std::function<void(const EncodedLayer&)>& body);

}  // namespace roundhouse

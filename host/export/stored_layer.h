// SPDX-License-Identifier: Apache-2.0
// Layers that go from a quantized checkpoint to the formats as they are packed.
#pragma once

#include <functional>

#include "host/abi/format_reader.h"
#include "host/export/encoded_layer.h"

namespace roundhouse {

// Calls body with the layer's encoded tensors, bias and calibrated range. `tensors`: `source`, or its StackedSource, which
// has an expert's bias where one tensor holds those of all. REQUIRES: `source` says what the layer is packed from.
void with_stored_layer(const LayerPlan& layer, ExportedCheckpoint& source, TensorSource& tensors,
                       const std::function<void(const EncodedLayer&)>& body);

}  // namespace roundhouse

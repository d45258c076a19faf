// SPDX-License-Identifier: Apache-2.0
// Whether the plugins can do what a plan wants of one layer.
#pragma once

#include <roundhouse/scheme.h>

#include <string>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/plan/plan.h"

namespace roundhouse {

// Asks the layer's data types and every format, and writes what they say against it, with those that could do it
// instead, to layer.problems; else fills in encoding and encoded_bytes. Does nothing with a layer that has problems.
void check_layer(LayerPlan& layer, const std::vector<FormatChoice>& formats, Catalogue& catalogue);

// Why the data type does not quantize the layer's weight, or "". REQUIRES: the layer's scheme has one.
std::string dtype_refusal(Catalogue& catalogue, const LayerPlan& layer);

// Bytes of an encoding's tensors, with codes, of which each weight has one, packed to `bits`.
uint64_t packed_bytes(const rh_encoding& encoding, const LinearInfo& layer, int bits);

// Why a format cannot hold the layer, or "". REQUIRES: the layer has an encoding.
std::string format_refusal(Catalogue& catalogue, const std::string& format, const nlohmann::json& options,
                           const LayerPlan& layer);

// The loaded formats that hold the layer with their default options. REQUIRES: as format_refusal.
std::vector<std::string> formats_that_could(Catalogue& catalogue, const LayerPlan& layer);

// check_options() of the format's.
void check_format_options(const Catalogue& catalogue, const FormatChoice& format);

}  // namespace roundhouse

// Whether the plugins can do what a plan wants of one layer.
#pragma once

#include <vector>

#include "host/plugins/catalogue.h"
#include "host/recipe/plan.h"

namespace roundhouse {

// Asks the layer's data types and every format, and writes what they say against it, with those that could do it
// instead, to layer.problems; else fills in encoding and encoded_bytes. Does nothing with a layer that has problems.
void check_layer(LayerPlan& layer, const std::vector<FormatChoice>& formats, Catalogue& catalogue);

}  // namespace roundhouse

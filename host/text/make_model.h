// SPDX-License-Identifier: Apache-2.0
// The model that tokenizer.json names.
#pragma once

#include <memory>

#include "host/text/model.h"

namespace roundhouse {

// Throws Error when the model is of a type not supported, or damaged.
std::unique_ptr<const TokenModel> make_model(const Component& component);

}  // namespace roundhouse

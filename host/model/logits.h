// SPDX-License-Identifier: Apache-2.0
// What a model computes for a text, for comparing engines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/base/tensor.h"
#include "host/model/architecture.h"
#include "host/model/input_hook.h"

namespace roundhouse {

// [ids, vocab] f32, computed in float32 on `device` with one block in memory at a time.
Tensor logits(const Architecture& architecture, TensorSource& source, const std::vector<int32_t>& ids,
              const InputHook& input_hook = {}, const std::string& device = "cpu");

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// `roundhouse qdq`: one data type on tensors from a file, a plugin author's first tool.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "host/discovery/catalogue.h"

namespace roundhouse {

// Reads `in` (safetensors) and writes `out`. Taken from `in`, all else ignored:
//   weight    [rows, cols], float32, float16 or bfloat16
//   imatrix   [cols], optional: the importance of each column
//   the data type's tunables by their names (v, min_scale, max_scale), optional: given, the weight is quantized as in
//             tuning, one that is missing has its initial value; none given: plain or searched rounding
//   grad_qdq  shape of weight, optional: the gradient of qdq
// Written: qdq in the weight's element type, each result by its name (scale, zp, ...) and, given grad_qdq,
// grad_<tunable> in the shape that the tunable was given in.
//
// `dtype` is an id or an alias; `options` has the keys of DtypeRequest, and data_type and imatrix, which describe
// and change nothing. Throws Error.
void run_qdq(Catalogue& catalogue, const std::string& dtype, const nlohmann::json& options,
             const std::filesystem::path& in, const std::filesystem::path& out);

}  // namespace roundhouse

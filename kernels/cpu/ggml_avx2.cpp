// SPDX-License-Identifier: Apache-2.0
// In this order: the kernels are written in terms of the lanes.
// clang-format off
#include "kernels/cpu/lanes_avx2.h"
#include "kernels/cpu/ggml_kernels.h"
#include "kernels/cpu/ggml_search_kernels.h"
// clang-format on
#include "kernels/cpu/ggml_targets.h"

namespace roundhouse::kernels {

const GgmlCpu kGgmlAvx2{
    "avx2",     ggml_range, ggml_forward, ggml_codes, ggml_gradients<TunableGradients>, ggml_gradients<TunableStep>,
    ggml_search};

}  // namespace roundhouse::kernels

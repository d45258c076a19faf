// SPDX-License-Identifier: Apache-2.0
// Runs the kernels of scaled small floats where a call asks for it: on the host's threads, or on its CUDA stream.
#pragma once

#include <roundhouse/plugin.hpp>

#include "kernels/scaled.h"

// `workspace`: float [spans], used with more than one row a group only.
void run_maximum(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer, const void* input, float* maximum,
                 float* workspace);
// The largest of n magnitudes into *largest.
// workspace: float [n / kLanes], beside `maximum`; used on CUDA.
void run_largest(const rh_exec& exec, int64_t n, const float* maximum, float* largest, float* workspace);
// On CUDA, has kernels tell of groups without a finite scale in exec.status, which the host reads when it waits for the
// stream. False: the call runs on the CPU.
bool checks_on_cuda(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer, int64_t groups,
                    const float* maximum, const float* largest);
void run_search(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer,
                const roundhouse::kernels::ScaledInput& input, const roundhouse::kernels::ScaledSearch& search);
void run_forward(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer,
                 const roundhouse::kernels::ScaledInput& input, const roundhouse::kernels::ScaledOutput& output);
void run_input_gradient(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer,
                        const roundhouse::kernels::ScaledInput& input,
                        const roundhouse::kernels::OutputGradient& gradient, void* output,
                        roundhouse::kernels::Element type);
// `sums`: [spans], used with more than one row a group only.
void run_backward(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer,
                  const roundhouse::kernels::ScaledInput& input, const roundhouse::kernels::OutputGradient& gradient,
                  const roundhouse::kernels::TunableGradients& output, roundhouse::kernels::ScaledSum* sums);
void run_sign_step(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer,
                   const roundhouse::kernels::ScaledInput& input, const roundhouse::kernels::OutputGradient& gradient,
                   const roundhouse::kernels::TunableStep& step, roundhouse::kernels::ScaledSum* sums);
void run_encode(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer,
                const roundhouse::kernels::ScaledInput& input, const roundhouse::kernels::ScaledCodes& output);
void run_decode(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer,
                const roundhouse::kernels::ScaledCodes& input, void* output, roundhouse::kernels::Element type);
// A calibrated activation's scale, or of kNvfp4 its G, from the state.
void run_calibrated(const rh_exec& exec, const roundhouse::kernels::ScaledLayer& layer,
                    const roundhouse::kernels::ScaledInput& input, float* scale);

// SPDX-License-Identifier: Apache-2.0
// Runs the affine kernels where a call asks for it: on the host's threads, or on its CUDA stream.
#pragma once

#include <roundhouse/plugin.hpp>

#include "kernels/affine_search.h"
#include "kernels/progressive.h"

// With one group for the whole tensor, range, backward and sign step need AffineSums [rows] of workspace.
void run_range(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer, const void* weight, float* low,
               float* high);
// On CUDA, has kernels tell of groups without a finite scale in exec.status, which the host reads when it waits for the
// stream. False: the call runs on the CPU.
bool checks_on_cuda(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer, const float* low,
                    const float* high);
void run_forward(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer,
                 const roundhouse::kernels::AffineInput& input, const roundhouse::kernels::AffineOutput& output);
void run_backward(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer,
                  const roundhouse::kernels::AffineInput& input, const roundhouse::kernels::AffineGradient& gradient,
                  const roundhouse::kernels::AffineGradients& output);
void run_sign_step(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer,
                   const roundhouse::kernels::AffineInput& input, const roundhouse::kernels::AffineGradient& gradient,
                   const roundhouse::kernels::AffineStep& step);
void run_encode(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer,
                const roundhouse::kernels::AffineInput& input, const roundhouse::kernels::AffineCodes& output);
void run_decode(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer,
                const roundhouse::kernels::AffineCodes& input, void* output, roundhouse::kernels::Element type);
void run_input_gradient(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer,
                        const roundhouse::kernels::AffineInput& input,
                        const roundhouse::kernels::AffineGradient& gradient, void* output);
void run_search(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer,
                const roundhouse::kernels::AffineSearch& input, float* low, float* high);
void run_progressive(const rh_exec& exec, const roundhouse::kernels::AffineLayer& layer,
                     const roundhouse::kernels::AffineProgressive& args);

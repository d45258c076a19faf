// SPDX-License-Identifier: Apache-2.0
// A device for libtorch, "pretend:0" and "pretend:1", that stands for a GPU where none is: its memory cannot be read by
// the processor, and each operator runs on the processor through copies, with the processor's bits. As on a GPU,
// tensors on different devices are an error, copies that need not be waited for arrive late, what they come from may not change until then, and what CUDA refuses
// in deterministic mode is refused. No libtorch here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace roundhouse::pretend {

// Allocations of device memory so far, and the bytes that live.
int64_t allocations();
int64_t live_bytes();
// The most bytes that lived at once since the last call.
int64_t take_peak_bytes();
// Of host memory that the device copies from and to by itself, the most bytes that were taken at once since the last
// call. What is given back while the device may copy stays taken until it is waited for.
int64_t take_peak_pinned_bytes();
// Lets the n-th allocation from now on fail, and no other; 0: none.
void fail_allocation(int64_t n);

// Whether the processor may read and write the device's memory at its addresses, as kernels that are emulated do.
void let_kernels_in(bool open);

// What made the host wait for the device since the last call: a scalar that was read, a copy between host and device,
// an operator whose result's shape depends on values. With the number of elements.
struct Wait {
  std::string what;
  int64_t elements;
};
std::vector<Wait> take_waits();

// Operators that ran on the device since the last call, by name, in order.
std::vector<std::string> take_operators();

}  // namespace roundhouse::pretend

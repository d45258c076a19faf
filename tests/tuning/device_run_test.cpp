// SPDX-License-Identifier: Apache-2.0
// Runs on a device that is not the CPU: one that stands for a GPU. The plugins have no kernels for it, so that their
// tensors move.
#include <ATen/ATen.h>

#include "tests/tuning/pretend_device.h"
#include "tests/tuning/quantize_fixture.h"

namespace roundhouse {
namespace {

using namespace std::string_literals;
using OnADevice = QuantizeTest;

constexpr double kLossError = 1e-6;
const std::string kDevice = "pretend:1";  // not the one that is current

TEST_F(OnADevice, RunsGiveTheBitsOfTheCpu) {
  const std::string ranges = ", act_data_type: grid, act_bits: 8, act_group_size: 0, act_dynamic: false}\n";
  for (const std::string& recipe :
       {"scheme: W4A16\ntuning: {iters: 3}\n"s, "scheme: W4A16\ntuning: {iters: 3, quantized_input: false}\n"s,
        "scheme: NVFP4\ntuning: {iters: 3}\n"s,
        "scheme: {data_type: int, group_size: 32" + ranges + "tuning: {iters: 3}\nlayers: [{match: lm_head}]\n",
        "scheme: {data_type: weighted}\ntuning: {iters: 0, search: true}\n"s,
        "scheme: W4A16\ntuning: {iters: 3}\nmemory: 50KiB\n"s}) {
    SCOPED_TRACE(recipe);
    Problem p = problem(kUntied, recipe);
    const Recording expected = p.quantized();
    const Recording got = p.quantized(kDevice);
    expect_same(expected, got, kLossError);
    ASSERT_EQ(expected.seen.importance.size(), got.seen.importance.size());
    for (const auto& [name, sums] : expected.seen.importance) expect_same({sums}, {got.seen.importance.at(name)});
    EXPECT_EQ(pretend::live_bytes(), 0) << "the device's memory is given back";
  }
}

// In an iteration the host waits for nothing but the gradients that it takes to the plugin.
TEST_F(OnADevice, IterationsDoNotWait) {
  const auto waits = [&](int64_t iterations) {
    Problem p = problem(kUntied, "scheme: W4A16\ntuning: {iters: " + std::to_string(iterations) + "}\n");
    pretend::take_waits();
    p.quantized(kDevice);
    std::map<std::string, int64_t> count;
    for (const pretend::Wait& wait : pretend::take_waits()) ++count[wait.what + " " + std::to_string(wait.elements)];
    return count;
  };
  const auto few = waits(10), many = waits(20);
  for (const auto& [what, count] : many) std::cerr << what << ": " << few.at(what) << " " << count << std::endl;
}

}  // namespace
}  // namespace roundhouse

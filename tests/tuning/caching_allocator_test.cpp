// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/caching_allocator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <thread>

namespace roundhouse {
namespace {

constexpr int64_t kLarge = 1 << 20;

at::Tensor bytes(int64_t n) { return at::empty({n}, at::kByte); }

TEST(KeepFreedTensors, FreedMemoryServesTheNextTensorOfAboutItsSize) {
  const KeepFreedTensors keep;
  bytes(4 * kLarge);  // room for what is kept
  at::Tensor first = bytes(kLarge);
  const void* const place = first.data_ptr();
  first.reset();
  EXPECT_NE(bytes(kLarge / 2).data_ptr(), place) << "half of it would be wasted";
  EXPECT_EQ(bytes(kLarge - 100).data_ptr(), place);
  EXPECT_EQ(bytes(kLarge).data_ptr(), place);
  const at::Tensor held = bytes(kLarge);
  EXPECT_NE(bytes(kLarge).data_ptr(), held.data_ptr());
}

TEST(KeepFreedTensors, TensorsAreAlignedAndMayBeResized) {
  const KeepFreedTensors keep;
  at::Tensor tensor = at::arange(kLarge, at::kInt);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 64, 0u);
  tensor.resize_({2 * kLarge});
  EXPECT_EQ(tensor[kLarge - 1].item<int>(), kLarge - 1);
}

TEST(KeepFreedTensors, TensorsOutliveItOnAnyThread) {
  at::Tensor tensor;
  {
    const KeepFreedTensors keep;
    std::thread([&] { tensor = at::full({kLarge}, 7, at::kByte); }).join();
    bytes(kLarge);
  }
  EXPECT_TRUE(tensor.eq(7).all().item<bool>());
  std::thread([&] { tensor.reset(); }).join();
  EXPECT_EQ(KeepFreedTensors::kept(), 0u);
}

TEST(KeepFreedTensors, LargeTensorsAreKeptUntilItsEnd) {
  {
    const KeepFreedTensors keep;
    bytes(kLarge);
    EXPECT_EQ(KeepFreedTensors::kept(), static_cast<size_t>(kLarge));
    bytes(1000);
    EXPECT_EQ(KeepFreedTensors::kept(), static_cast<size_t>(kLarge));
  }
  EXPECT_EQ(KeepFreedTensors::kept(), 0u);
  bytes(kLarge);
  EXPECT_EQ(KeepFreedTensors::kept(), 0u);
}

TEST(KeepFreedTensors, NoMoreIsKeptThanWasInUseAtOnce) {
  const KeepFreedTensors keep;
  for (int64_t size = kLarge; size < 8 * kLarge; size += size / 2) {
    const at::Tensor now = bytes(size);
    EXPECT_EQ(KeepFreedTensors::kept(), 0u) << size << " is the most so far";
  }
  const size_t largest = KeepFreedTensors::kept();
  {
    const at::Tensor other = bytes(kLarge);
    EXPECT_EQ(KeepFreedTensors::kept(), 0u) << "room for it";
  }
  EXPECT_GT(largest, static_cast<size_t>(kLarge));
  EXPECT_EQ(KeepFreedTensors::kept(), static_cast<size_t>(kLarge));
  bytes(kLarge / 2);
  EXPECT_EQ(KeepFreedTensors::kept(), static_cast<size_t>(kLarge + kLarge / 2)) << "together less than the largest";
}

}  // namespace
}  // namespace roundhouse

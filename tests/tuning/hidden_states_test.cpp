// SPDX-License-Identifier: Apache-2.0
// Activations in memory, on disk, and partly both: the same values.
#include "host/tuning/hidden_states.h"

#include <gtest/gtest.h>

#include <string>

#include "host/base/error.h"
#include "tests/checkpoint/file_limit.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

constexpr int64_t kSamples = 5, kSampleBytes = 3 * 4 * 4;  // [3, 4] f32

class ActivationStoreTest : public testing::Test {
 protected:
  HiddenStatesMemory memory(std::optional<int64_t> limit) { return {limit, folder_.path() / "out", {}}; }
  TempFolder folder_;
};

TEST_F(ActivationStoreTest, GivesBackWhatWasWritten) {
  at::manual_seed(1);
  const at::Tensor first = at::randn({kSamples, 3, 4}), second = at::randn({2, 3, 4});
  const at::Tensor indices = at::tensor({4, 0, 3, 3}, at::kLong);
  for (const std::optional<int64_t> limit : {std::optional<int64_t>(), {1}, {2 * kSampleBytes + 7}, {1000}}) {
    HiddenStatesMemory shared = memory(limit);
    HiddenStates store({kSamples, 3, 4}, at::kFloat, at::kCPU, shared);
    store.write(0, first.slice(0, 0, 1));
    store.write(1, first.slice(0, 1, kSamples));
    EXPECT_TRUE(at::equal(store.rows(0, kSamples), first));
    EXPECT_TRUE(at::equal(store.rows(1, 4), first.slice(0, 1, 4)));
    EXPECT_TRUE(at::equal(store.rows(indices), first.index_select(0, indices)));
    store.write(1, second.transpose(0, 1).contiguous().transpose(0, 1));
    EXPECT_TRUE(at::equal(store.rows(1, 3), second)) << "across the end of what is in memory";
    EXPECT_TRUE(at::equal(store.rows(3, 5), first.slice(0, 3, 5)));
  }
}

TEST_F(ActivationStoreTest, StoresShareTheLimitAndCountWhatGoesToDisk) {
  HiddenStatesMemory shared = memory(7 * kSampleBytes);
  HiddenStates a({kSamples, 3, 4}, at::kFloat, at::kCPU, shared), b({kSamples, 3, 4}, at::kFloat, at::kCPU, shared);
  EXPECT_EQ(*shared.left, 0);
  EXPECT_EQ(shared.spill.bytes, 3 * kSampleBytes);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path())) << "the file still has a name";
  a.write(0, at::ones({kSamples, 3, 4}));
  EXPECT_EQ(shared.spill.written, 0);
  b.write(0, at::ones({kSamples, 3, 4}));
  EXPECT_EQ(shared.spill.written, 3 * kSampleBytes);
  b.rows(0, kSamples);
  EXPECT_EQ(shared.spill.read, 3 * kSampleBytes);
  EXPECT_GT(shared.spill.seconds, 0);
}

TEST_F(ActivationStoreTest, AFullDiskIsAnErrorWithPathAndBytes) {
  const FileLimit full(100);
  HiddenStatesMemory shared = memory(1);
  try {
    HiddenStates store({kSamples, 3, 4}, at::kFloat, at::kCPU, shared);
    FAIL() << "no error";
  } catch (const Error& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find((folder_.path() / "out").string()), std::string::npos) << text;
    EXPECT_NE(text.find(std::to_string(kSamples * kSampleBytes) + " bytes"), std::string::npos) << text;
    EXPECT_NE(text.find("memory"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// The choice of a device where libtorch has a CUDA half and no device: a library of its name that holds nothing.
#include "host/tuning/device.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "host/base/error.h"

namespace roundhouse {
namespace {

TEST(ResolveDevice, WithoutACudaDevice) {
  ASSERT_TRUE(dlopen(FIXTURES "/libtorch_cuda.so", RTLD_NOW)) << dlerror();  // from now on this one has the name
  EXPECT_EQ(resolve_device({DeviceChoice::Kind::kCpu, 0}), "cpu");
  testing::internal::CaptureStderr();
  EXPECT_EQ(resolve_device({}), "cpu");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_LE(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_THROW(resolve_device({DeviceChoice::Kind::kCuda, 0}), Error);
}

// What is said, one line each, by an error for `cuda` and, where a driver is loaded, by a message for `auto`.
TEST(ChooseDevice, SaysWhyThereIsNoneAndWhatToDo) {
  const struct {
    const char* what;
    CudaDevices cuda;
    int64_t wanted;
    const char* says;
  } cases[] = {
      {"no CUDA half", {false, true, 0, "", {}, {}}, 0, "libtorch has no CUDA library (libtorch_cuda.so): install"},
      {"no driver", {true, false, 0, "", {}, {}}, 0, "no NVIDIA driver is loaded: install one"},
      {"an old driver",
       {true, true, 0, "CUDA initialization: The NVIDIA driver on your system is too old. Please update it", {}, {}},
       0,
       "driver on your system is too old. Please update"},
      {"hidden devices", {true, true, 0, "", "", {}}, 0, "CUDA_VISIBLE_DEVICES is \"\", which leaves none: unset it"},
      {"no device", {true, true, 0, "", {}, {}}, 0, "the driver lists none: look whether nvidia-smi does"},
      {"one device", {true, true, 1, "", {}, {}}, 1, "cuda:0 alone is; choose one of them; or use device: auto or cpu"},
      {"too high a number", {true, true, 4, "", {}, {}}, 7, "cuda:0 to cuda:3 are; choose one of them"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    try {
      choose_device({DeviceChoice::Kind::kCuda, c.wanted}, c.cuda);
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      const std::string text = e.what();
      EXPECT_NE(text.find("device cuda:" + std::to_string(c.wanted) + " is not there: "), std::string::npos) << text;
      EXPECT_NE(text.find(c.says), std::string::npos) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    }
    testing::internal::CaptureStderr();
    EXPECT_EQ(choose_device({}, c.cuda), c.cuda.count > 0 ? "cuda:0" : "cpu");
    const std::string said = testing::internal::GetCapturedStderr();
    const bool speaks = c.cuda.driver && c.cuda.count == 0;
    EXPECT_EQ(said.find(c.says) != std::string::npos, speaks) << said;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), speaks ? 1 : 0) << said;
  }
}

// Cards that the kernels are not built for are passed over, and refused by name.
TEST(ChooseDevice, RefusesOldCardsByName) {
  const CudaCard old{"Tesla T4", 7, 5}, later{"NVIDIA H200", 9, 0};
  const CudaDevices both{true, true, 2, "", {}, {old, later}}, one{true, true, 1, "", {}, {old}};
  EXPECT_EQ(choose_device({}, both), "cuda:1");
  EXPECT_EQ(choose_device({DeviceChoice::Kind::kCuda, 1}, both), "cuda:1");
  try {
    choose_device({DeviceChoice::Kind::kCuda, 0}, both);
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("cuda:0 cannot be used: it is a Tesla T4 of compute capability 7.5"),
              std::string::npos)
        << e.what();
  }
  testing::internal::CaptureStderr();
  EXPECT_EQ(choose_device({}, one), "cpu");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("Tesla T4"), std::string::npos);
}

}  // namespace
}  // namespace roundhouse

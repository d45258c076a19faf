// SPDX-License-Identifier: Apache-2.0
// The choice of a device where libtorch has a CUDA half and no device: a library of its name that holds nothing.
#include "host/tuning/device.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "host/base/error.h"

namespace roundhouse {
namespace {

TEST(ResolveDevice, WithoutACudaDevice) {
  ASSERT_TRUE(dlopen(FIXTURES "/libtorch_cuda.so", RTLD_NOW)) << dlerror();  // from now on this one has the name
  EXPECT_EQ(resolve_device({DeviceChoice::Kind::kCpu, 0}), "cpu");
  testing::internal::CaptureStderr();
  EXPECT_EQ(resolve_device({}), "cpu");
  const std::string said = testing::internal::GetCapturedStderr();
  if (std::filesystem::exists("/dev/nvidiactl") || std::filesystem::exists("/dev/dxg")) {
    EXPECT_NE(said.find("libtorch's CUDA library is there, but no device that it can use: using the CPU\n"),
              std::string::npos)
        << said;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  } else {
    EXPECT_EQ(said, "");
  }
  try {
    resolve_device({DeviceChoice::Kind::kCuda, 0});
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "device cuda:0 is not there: libtorch sees 0 CUDA devices; use device: auto or cpu");
  }
}

}  // namespace
}  // namespace roundhouse

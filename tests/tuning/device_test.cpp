// SPDX-License-Identifier: Apache-2.0
// The choice of a device where libtorch has a CUDA half and no device: a library of its name that holds nothing.
#include "host/tuning/device.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "host/base/error.h"
#include "kernels/block.h"
#include "tests/temp_folder.h"

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
  CudaCard old, later;
  old.name = "Tesla T4";
  old.major = 7;
  old.minor = 5;
  later.major = 9;
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

std::string message_of(const DeviceChoice& wanted, const CudaDevices& cuda) {
  try {
    return choose_device(wanted, cuda);
  } catch (const Error& e) {
    return e.what();
  }
}

// A folder that the user names and that is none deserves a line, driver or not.
TEST(ChooseDevice, WarnsOfAWrongTorch) {
  CudaDevices cuda{false, false, 0, "ROUNDHOUSE_TORCH=/x is no torch folder: install torch", {}, {}};
  cuda.wrong_torch = cuda.why;
  testing::internal::CaptureStderr();
  EXPECT_EQ(choose_device({}, cuda), "cpu");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("warning: no CUDA device can be used, so the run uses the CPU: " + cuda.why), std::string::npos)
      << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_NE(message_of({DeviceChoice::Kind::kCuda, 0}, cuda).find(cuda.why), std::string::npos);
}

TEST(WrongVersion, IsThatOfTheFolderAroundTheLibrary) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "lib");
  const auto library = folder.path() / "lib/libtorch_cuda.so";
  EXPECT_EQ(wrong_version(library), "") << "it does not tell";
  std::ofstream(folder.path() / "version.py") << "__version__ = '2.9.1+cu128'\n";
  EXPECT_NE(wrong_version(library).find("libtorch_cuda.so is torch 2.9.1: install torch=="), std::string::npos);
  const std::string ours = libtorch_version().substr(0, libtorch_version().find(' '));
  std::ofstream(folder.path() / "version.py") << "__version__ = '" << ours << "+cu130'\n";
  EXPECT_EQ(wrong_version(library), "");
}

// What a command says in one line, and its exit code. `eval` asks for the device before all else.
std::pair<std::string, int> said_by_eval(const std::string& environment, const std::string& device) {
  const std::string command = "env " + environment +
                              " " ROUNDHOUSE_BUILD "/bin/roundhouse eval /nowhere --data x.txt --device " + device +
                              " 2>&1";
  FILE* const program = ::popen(command.c_str(), "re");
  std::string text;
  for (int c; (c = std::fgetc(program)) != EOF;) text += static_cast<char>(c);
  return {text, ::pclose(program)};
}

// A library that the loader finds by itself is held to the version, too.
TEST(ResolveDevice, RefusesALibraryOfAnotherVersion) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "lib");
  std::filesystem::copy_file(FIXTURES "/libtorch_cuda.so", folder.path() / "lib/libtorch_cuda.so");
  std::ofstream(folder.path() / "version.py") << "__version__ = '2.9.1+cu128'\n";
  const std::string path = "-u ROUNDHOUSE_TORCH LD_LIBRARY_PATH=" + (folder.path() / "lib").string();
  const auto [text, status] = said_by_eval(path, "cuda");
  EXPECT_NE(status, 0);
  EXPECT_NE(text.find("device cuda:0 is not there: "), std::string::npos) << text;
  EXPECT_NE(text.find("/lib/libtorch_cuda.so is torch 2.9.1: install torch=="), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST(ResolveDevice, NamesAWrongTorchForAutoAndCuda) {
  const auto [of_auto, ignored] = said_by_eval("ROUNDHOUSE_TORCH=/nowhere", "auto");
  EXPECT_NE(of_auto.find("uses the CPU: ROUNDHOUSE_TORCH=/nowhere is no torch folder: install torch=="),
            std::string::npos)
      << of_auto;
  const auto [of_cuda, status] = said_by_eval("ROUNDHOUSE_TORCH=/nowhere", "cuda");
  EXPECT_NE(of_cuda.find("not there: ROUNDHOUSE_TORCH=/nowhere is no torch folder"), std::string::npos) << of_cuda;
  EXPECT_NE(status, 0);
  EXPECT_NE(said_by_eval("", "gpu").first.find("--device: must be auto, cpu, cuda or cuda:N, not gpu"),
            std::string::npos);
}

// What the driver tells of cards, and of those that it gives to nobody or to one process.
TEST(ChooseDevice, PassesOverCardsThatAreTaken) {
  ASSERT_TRUE(dlopen(FAKE_DRIVER, RTLD_NOW)) << dlerror();  // from now on this one has the name
  const auto cards_with = [](const char* modes) {
    ::setenv("FAKE_CUDA_MODES", modes, 1);
    return cards_of_driver();
  };
  const CudaDevices free{true, true, 2, "", {}, cards_with("00")};
  ASSERT_EQ(free.cards.size(), 2u);
  const CudaCard& card = free.cards[1];
  EXPECT_EQ(card.name, "Fake 1");
  EXPECT_EQ(card.memory, uint64_t{80} << 30);
  EXPECT_EQ(card.processors, 132);
  EXPECT_DOUBLE_EQ(card.clock, 1.83e9);
  EXPECT_DOUBLE_EQ(card.bandwidth, 3.35232e12);
  EXPECT_EQ(card_of("cuda:1").name, "Fake 1");
  EXPECT_EQ(choose_device({}, free), "cuda:0");

  const CudaDevices one_taken{true, true, 2, "", {}, cards_with("30")};
  EXPECT_EQ(choose_device({}, one_taken), "cuda:1");
  const std::string taken = message_of({DeviceChoice::Kind::kCuda, 0}, one_taken);
  EXPECT_NE(
      taken.find("device cuda:0 cannot be used: it is a Fake 0; it is in exclusive mode, and another process has it: "
                 "wait for that one"),
      std::string::npos)
      << taken;

  const CudaDevices none{true, true, 2, "", {}, cards_with("22")};
  testing::internal::CaptureStderr();
  EXPECT_EQ(choose_device({}, none), "cpu");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("its compute mode prohibits all use: run nvidia-smi -i 0 -c DEFAULT"), std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_NE(message_of({DeviceChoice::Kind::kCuda, 1}, none).find("nvidia-smi -i 1 -c DEFAULT"), std::string::npos);
  ::unsetenv("FAKE_CUDA_MODES");
}

#ifdef KERNELS
// As a run on a GPU loads it. Without a driver its functions say what is missing.
TEST(HostKernels, AreALibraryThatLoadsAndSaysWhatIsMissing) {
  void* const library = dlopen(KERNELS, RTLD_NOW | RTLD_LOCAL);
  ASSERT_TRUE(library) << dlerror();
  auto* const get = reinterpret_cast<const kernels::BlockKernels* (*)()>(dlsym(library, "roundhouse_block_kernels"));
  ASSERT_TRUE(get);
  if (std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "there is a driver";
  const char* const said = get()->keep_best({0, nullptr}, 1, nullptr, nullptr, nullptr);
  ASSERT_TRUE(said);
  EXPECT_NE(std::string(said).find("driver"), std::string::npos) << said;
}
#endif

}  // namespace
}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// What a plugin leaves behind in its thread or the process: it is named, once, and what can be is put back.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "host/abi/quantizer.h"
#include "host/base/crash.h"
#include "host/base/process_state.h"
#include "tests/plugins/sandbox.h"

namespace roundhouse {
namespace {

class Leftovers : public Sandbox {
 protected:
  // What is printed when the fixture does `wish` in each of two layers. A copy of it by another name is another plugin.
  std::string warnings(const std::string& wish) {
    set("FIXTURE_CRASH", wish);
    const Path file = root_ / ("librh_" + std::to_string(++copies_) + ".so");
    std::filesystem::copy_file(fixture("good"), file);
    DiscoveryOptions options = this->options();
    options.files = {file};
    testing::internal::CaptureStderr();
    Catalogue catalogue = Catalogue::discover(options);
    TensorScheme scheme;
    scheme.dtype = "fixture";
    scheme.bits = 8;
    for (const char* layer : {"layers.0", "layers.1"}) {
      Quantizer quantizer(catalogue.dtype(scheme.dtype), scheme, {layer, "down", 2, 2, DType::kF32});
      const Tensor weight(DType::kF32, {2, 2});
      const rh_tensor input = weight.view();
      TensorSet statistic = quantizer.statistic(), states = quantizer.states();
      quantizer.measure({}, input, statistic.data()[0]);
      quantizer.prepare({}, &input, nullptr, statistic.data()[0], states.data());
      rh_tensor output = weight.view();
      quantizer.forward({}, input, nullptr, states.data(), output);
    }
    ::unsetenv("FIXTURE_CRASH");
    return testing::internal::GetCapturedStderr();
  }
  // The warning, as a pattern.
  static std::string named(const std::string& what) {
    return "warning: plugin fixture \\(.*/librh_[0-9]+\\.so\\) " + what + ", in forward of layers\\.0\n";
  }

 private:
  int copies_ = 0;
};

TEST_F(Leftovers, AreNamedOnceAndPutBack) {
  const FloatEnvironment floats = FloatEnvironment::now();
  const ProcessState process;
  const std::string back = ", which is put back";
  const std::string floating = "changes the floating-point environment \\(rounding, denormals or traps\\)" + back;
  EXPECT_THAT(warnings("forward=rounding"), testing::MatchesRegex(named(floating)));
  EXPECT_THAT(warnings("forward=denormals"), testing::MatchesRegex(named(floating)));
  EXPECT_THAT(warnings("chunk=rounding"), testing::MatchesRegex(named(floating)));
  EXPECT_THAT(warnings("forward=locale"), testing::MatchesRegex(named("changes the locale" + back)));
  EXPECT_THAT(warnings("forward=umask"), testing::MatchesRegex(named("changes the umask from [0-7]+ to 0" + back)));
  EXPECT_THAT(warnings("forward=folder"), testing::MatchesRegex(named("changes the current folder to /" + back)));
  EXPECT_THAT(warnings("forward=handler"), testing::MatchesRegex(named("changes the handler of SIGTERM" + back)));
  EXPECT_EQ(FloatEnvironment::now(), floats);
  EXPECT_TRUE(process.restore().empty());
}

TEST_F(Leftovers, OfDescriptorsAreNamed) {
  EXPECT_THAT(warnings("forward=file"), testing::MatchesRegex(named("leaves .* open")));
  const int output = ::dup(STDOUT_FILENO);
  EXPECT_THAT(
      warnings("forward=output"),
      testing::MatchesRegex(named("closes descriptor 1, which is not its own; what the program writes there is lost")));
  ::dup2(output, STDOUT_FILENO);
  ::close(output);
}

TEST_F(Leftovers, NoneAreNamedOfAPluginThatKeepsTheRule) { EXPECT_EQ(warnings("forward=nothing"), ""); }

TEST_F(Leftovers, OfEachFunctionTheFirstSixteenCallsAreWatchedAndThenEverySixteenth) {
  const mode_t before = ::umask(022);
  std::vector<int> unnoticed;
  for (int call = 0; call < 50; ++call) {
    {
      const WatchedCall watched("a plugin", "counted");
      ::umask(077);
    }
    if (::umask(022) != 022) unnoticed.push_back(call);
  }
  ::umask(before);
  EXPECT_EQ(unnoticed.size(), 50u - 16 - 3);
  EXPECT_THAT(unnoticed, testing::Not(testing::AnyOf(testing::Contains(15), testing::Contains(32))));
}

// What another plugin changes at the same time on another thread would be taken for its own.
TEST_F(Leftovers, NoOtherThreadIsInAPluginDuringACallThatIsWatched) {
  std::atomic<int> inside = 0;
  std::atomic<bool> ends = false;
  std::atomic<int64_t> calls = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      while (!ends) {
        const PluginCall call("another plugin", "forward");
        ++inside;
        const WatchedCall nested("another plugin", "decode");  // of a call that is not watched
        ++calls;
        --inside;
      }
    });
  const auto met = [&] { return inside.load(); };
  for (int call = 0; call < 16; ++call) {
    const int64_t before = calls;
    {
      const WatchedCall watched("a plugin", "alone");
      for (int look = 0; look < 1000; ++look) ASSERT_EQ(met(), 0);
    }
    while (calls < before + 2) std::this_thread::yield();  // they go on
  }
  ends = true;
}

TEST_F(Leftovers, ACallThatIsNotWatchedDoesNotWait) {
  for (int call = 0; call < 16; ++call) const WatchedCall watched("a plugin", "beside");
  std::optional<WatchedCall> first(std::in_place, "a plugin", "beside");  // the 17th
  first.reset();
  const PluginCall here("another plugin", "forward");
  std::jthread([] { const WatchedCall unwatched("a plugin", "beside"); }).join();
}

}  // namespace
}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// A plugin that crashes while it runs: the last words name its file, the call, the layer, and what is kept.
#include "host/base/crash.h"

#include <sys/resource.h>

#include <csignal>
#include <cstdlib>

#include "host/abi/quantizer.h"
#include "host/checkpoint/output.h"
#include "tests/plugins/sandbox.h"

namespace roundhouse {
namespace {

// Each death runs in a process of its own, which starts the test again.
class CrashDeathTest : public Sandbox {
 protected:
  CrashDeathTest() {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    set("TEST_TMPDIR", root_ / "");  // what a death leaves goes with this test
  }
  ~CrashDeathTest() override { ::unsetenv("TEST_TMPDIR"); }

  // Quantizes a layer with the fixture, which ends the process as `wish` says.
  void crash(const char* wish) const {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    set("FIXTURE_CRASH", wish);
    DiscoveryOptions options = this->options();
    options.files = {fixture("good")};
    Catalogue catalogue = Catalogue::discover(options);
    TensorScheme scheme;
    scheme.dtype = "fixture";
    scheme.bits = 8;
    OutputFolder folder(root_ / "out", false);
    CrashNote note;
    note.set("A note.");
    report_crashes();
    Quantizer quantizer(catalogue.dtype(scheme.dtype), scheme, {"layers.0.down", "down", 2, 2, DType::kF32});
    const Tensor weight(DType::kF32, {2, 2});
    const rh_tensor input = weight.view();
    TensorSet statistic = quantizer.statistic(), states = quantizer.states(), encoded = quantizer.encoded();
    quantizer.measure({}, input, statistic.data()[0]);
    quantizer.prepare({}, &input, nullptr, statistic.data()[0], states.data());
    rh_tensor output = weight.view();
    quantizer.forward({}, input, nullptr, states.data(), output);
    quantizer.encode({}, input, nullptr, states.data(), encoded.data());
  }
  // The last words, as a pattern.
  static std::string words(const std::string& what) {
    return "error: plugin fixture \\(" + fixture("good").string() + "\\) " + what +
           "\n  Not finished: .*/out\\. The files that were complete are kept in .*/out\\.partial until .*\n  A "
           "note\\.\n";
  }
};

TEST_F(CrashDeathTest, SignalsOfEveryKindNameTheCallAndTheLayer) {
  const auto killed = [](int signal) { return testing::KilledBySignal(signal); };
  EXPECT_EXIT(crash("forward=SIGSEGV"), killed(SIGSEGV),
              words("crashed with SIGSEGV .* in forward of layers\\.0\\.down"));
  EXPECT_EXIT(crash("forward=SIGFPE"), killed(SIGFPE), words("crashed with SIGFPE .* in forward of layers\\.0\\.down"));
  EXPECT_EXIT(crash("encode=SIGABRT"), killed(SIGABRT),
              words("crashed with SIGABRT .* in encode of layers\\.0\\.down"));
  EXPECT_EXIT(crash("destroy=SIGSEGV"), killed(SIGSEGV), words("crashed with SIGSEGV .* in destroy"));
}

TEST_F(CrashDeathTest, AStackOverflowIsReported) {
  EXPECT_EXIT(crash("forward=recursion"), testing::KilledBySignal(SIGSEGV), words("crashed .* in forward of layers.*"));
}

TEST_F(CrashDeathTest, ThreadsOfParallelForKnowTheirCall) {
  EXPECT_EXIT(crash("chunk=SIGSEGV"), testing::KilledBySignal(SIGSEGV), words("crashed .* in forward of layers.*"));
}

TEST_F(CrashDeathTest, ExitIsNoWayOut) {
  EXPECT_EXIT(crash("encode=exit"), testing::ExitedWithCode(1),
              words("called exit\\(\\) in encode of layers\\.0\\.down"));
  EXPECT_EXIT(crash("encode=quick_exit"), testing::ExitedWithCode(1),
              words("called quick_exit\\(\\) in encode of layers\\.0\\.down"));
}

TEST_F(CrashDeathTest, OutsideEveryPluginItSaysSo) {
  EXPECT_EXIT(
      {
        report_crashes();
        std::abort();
      },
      testing::KilledBySignal(SIGABRT), "error: the program crashed with SIGABRT .*, outside every plugin");
}

}  // namespace
}  // namespace roundhouse

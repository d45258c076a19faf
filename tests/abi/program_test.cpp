// SPDX-License-Identifier: Apache-2.0
// The program with plugins built against every published minor, and against a simulated next one.
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

class Program : public WorkFolder {
 protected:
  // Quantizes tinystories-656k with the data type and the format of `version`; the program itself verifies the export.
  void quantize(const std::string& version) const {
    const std::string folder = ABI_PLUGINS "/" + version;
    const std::string recipe = write_recipe("formats: [fixture_format]\n").string();
    const Outcome outcome =
        run_command("XDG_CACHE_HOME=" + work_.string() + " " + kProgram + " --plugin " + folder +
                    "/librh_fixture_good.so --plugin " + folder + "/librh_fixture_format.so run " + recipe +
                    " --set tuning.iters=2 --set 'scheme={data_type: fixture, bits: 8}' --set output=" +
                    (work_ / version).string());
    ASSERT_EQ(outcome.code, 0) << outcome.output;
  }
};

TEST_F(Program, RunsWithPluginsOfEveryMinorAndWritesTheSame) {
  quantize("next");
  const std::string next = read(work_ / "next/model.safetensors");
  int versions = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ABI_PLUGINS)) {
    const std::string version = entry.path().filename();
    if (version == "next") continue;
    quantize(version);
    EXPECT_TRUE(read(work_ / version / "model.safetensors") == next) << version;
    ++versions;
  }
  EXPECT_GT(versions, 0);
}

}  // namespace
}  // namespace roundhouse

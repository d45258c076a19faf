// SPDX-License-Identifier: Apache-2.0
// The host knows no plugin: without them it says what is missing, and each one that comes back works by itself.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "host/base/error.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

class MissingPlugins : public WorkFolder {
 protected:
  void SetUp() override { std::filesystem::create_directory(work_ / "plugins"); }
  void bring_back(const std::string& name, const std::string& as = "") {
    const std::string file = "librh_" + name + ".so";
    std::filesystem::copy(kPlugins + "/" + file, work_ / "plugins" / (as.empty() ? file : as));
  }
  Outcome with_plugins(const std::string& arguments) const {
    return run_command("XDG_CACHE_HOME=" + work_.string() + "/cache XDG_DATA_HOME=" + work_.string() +
                       "/data ROUNDHOUSE_PLUGIN_PATH=" + work_.string() + "/plugins " + kProgram + " " + arguments);
  }
  static bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }
};

TEST_F(MissingPlugins, NoneThenOneThenTheOther) {
  const std::string recipe = "run " + write_recipe("formats: [auto_gptq]\n").string();
  Outcome outcome = with_plugins(recipe);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(contains(outcome.output, work_.string() + "/plugins")) << outcome.output;
  EXPECT_TRUE(contains(outcome.output, "\"int\"")) << outcome.output;
  EXPECT_TRUE(contains(outcome.output, "\"auto_gptq\"")) << outcome.output;
  EXPECT_TRUE(contains(with_plugins("dtypes").output, work_.string() + "/plugins"));
  EXPECT_EQ(with_plugins("dtypes --json").output, "[]\n");

  bring_back("dtype_int");
  EXPECT_TRUE(contains(with_plugins("dtypes").output, "int"));
  EXPECT_EQ(with_plugins("formats --json").output, "[]\n");
  outcome = with_plugins(recipe);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(contains(outcome.output, "auto_gptq")) << outcome.output;

  bring_back("format_auto_gptq");
  outcome = with_plugins(recipe);
  EXPECT_EQ(outcome.code, 0) << outcome.output;
}

TEST_F(MissingPlugins, DoctorNamesWhatIsWrong) {
  Outcome outcome = with_plugins("doctor");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(contains(outcome.output, "error: no run can begin: plugins: ")) << outcome.output;
  EXPECT_TRUE(contains(outcome.output,
                       "0 loaded: 0 data types, 0 formats\n"
                       "               " +
                           work_.string() + "/plugins\n"))
      << outcome.output;

  bring_back("dtype_int");
  bring_back("format_fake");
  write("plugins/librh_broken.so", "no library");
  outcome = with_plugins("doctor");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_TRUE(contains(outcome.output, "  plugins      2 loaded: 1 data types, 1 formats\n")) << outcome.output;
  EXPECT_TRUE(contains(outcome.output, "! plugin       " + work_.string() + "/plugins/librh_broken.so\n"))
      << outcome.output;
  for (const char* fact : {"program", "system", "processor", "memory", "disk", "libtorch", "gpu", "configs", "caches"})
    EXPECT_TRUE(contains(outcome.output, cat("\n  ", fact, " ")) || contains(outcome.output, cat("\n! ", fact, " ")) ||
                outcome.output.starts_with(cat("  ", fact, " ")))
        << fact << "\n"
        << outcome.output;
  EXPECT_TRUE(contains(outcome.output, "ROUNDHOUSE_PLUGIN_PATH=" + work_.string() + "/plugins\n")) << outcome.output;
}

TEST_F(MissingPlugins, EachDataTypeWorksAlone) {
  const std::string recipe = "run " + write_recipe().string() + " --overwrite --set scheme=";
  for (const auto& [plugin, preset] : std::vector<std::pair<std::string, std::string>>{{"int", "W4A16"},
                                                                                       {"fp8", "FP8_BLOCK"},
                                                                                       {"mxfp", "MXFP4"},
                                                                                       {"nvfp", "NVFP4"},
                                                                                       {"fp8_to_int_sym", "W4FP8"},
                                                                                       {"ggml", "GGUF:Q8_0"}}) {
    std::filesystem::remove_all(work_ / "plugins");
    std::filesystem::create_directory(work_ / "plugins");
    bring_back("format_fake");
    bring_back("dtype_" + plugin);
    const Outcome outcome = with_plugins(recipe + preset);
    EXPECT_EQ(outcome.code, 0) << plugin << ": " << outcome.output;
  }
}

TEST_F(MissingPlugins, ARenamedPluginLosesNothing) {
  bring_back("dtype_int", "librh_dtype_vendor.so");
  bring_back("format_fake", "librh_format_vendor.so");
  const Outcome outcome = with_plugins("run " + write_recipe().string());
  EXPECT_EQ(outcome.code, 0) << outcome.output;
}

TEST_F(MissingPlugins, AnExportWithoutItsFormatNamesTheFolder) {
  ASSERT_EQ(run("run " + write_recipe("formats: [auto_gptq]\n").string()).code, 0);
  bring_back("format_fake");
  const Outcome outcome =
      with_plugins("eval " + (work_ / "out").string() + " --data " + kExamples + "/texts/tinystories-heldout.jsonl");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(contains(outcome.output, (work_ / "out").string())) << outcome.output;
  EXPECT_TRUE(contains(outcome.output, "fake")) << "lists what is loaded: " << outcome.output;
}

TEST_F(MissingPlugins, ABrokenPluginIsListedAndHurtsNothing) {
  bring_back("dtype_int");
  write("plugins/librh_dtype_broken.so", "not a shared object");
  const Outcome outcome = with_plugins("plugins list");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_TRUE(contains(outcome.output, "blocked")) << outcome.output;
  EXPECT_TRUE(contains(with_plugins("dtypes").output, "int"));
}

}  // namespace
}  // namespace roundhouse

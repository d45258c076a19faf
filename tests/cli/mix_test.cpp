// SPDX-License-Identifier: Apache-2.0
// Mixes to a size: the target is met, and the choice is the same for any number of threads.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class MixRun : public WorkFolder {
 protected:
  Outcome run_to(const std::string& output, const std::string& target, const std::string& more = "") const {
    return run_command("XDG_CACHE_HOME=" + (work_ / "cache").string() + " " + kProgram + " run " + recipe_.string() +
                       " --set output=" + (work_ / output).string() +
                       " --set 'scheme={mix: [W2A16G32, W4A16G32, W8A16], target: " + target + "}' " + more);
  }
  json mix_of(const std::string& output) const {
    return json::parse(read(work_ / output / "roundhouse/report.json")).at("mix");
  }
  size_t measured() const {
    const fs::path folder = work_ / "cache/roundhouse/sensitivities";
    return fs::exists(folder) ? std::distance(fs::directory_iterator(folder), fs::directory_iterator()) : 0;
  }

  const fs::path recipe_ = write_recipe("formats: [auto_round]\n");
};

TEST_F(MixRun, MeetsItsTargetAndMeasuresOnce) {
  const Outcome first = run_to("a", "1.25MB");
  ASSERT_EQ(first.code, 0) << first.output;
  ASSERT_EQ(measured(), 1u);
  const json mix = mix_of("a");
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(work_ / "a"))
    if (entry.path().extension() == ".safetensors") bytes += fs::file_size(entry.path());
  // The estimate leaves headers out.
  EXPECT_LE(mix["bytes"].get<uint64_t>(), 1'250'000u);
  EXPECT_LE(bytes, 1'250'000u + 8192u);
  EXPECT_GE(mix["bytes"].get<uint64_t>(), 1'200'000u) << "room is left for a group of layers with more bits: " << mix;
  size_t layers = 0, used = 0;
  for (const json& scheme : mix["schemes"]) {
    layers += scheme["layers"].get<size_t>();
    used += scheme["layers"].get<size_t>() > 0;
  }
  EXPECT_EQ(layers, 14u);
  EXPECT_GE(used, 2u) << mix;
  // More room, less loss.
  for (size_t i = 1; i < mix["curve"].size(); ++i) {
    EXPECT_GT(mix["curve"][i]["bytes"], mix["curve"][i - 1]["bytes"]);
    EXPECT_LT(mix["curve"][i]["loss"], mix["curve"][i - 1]["loss"]);
  }

  // Threads change no bit, of what is measured and of what follows.
  fs::remove_all(work_ / "cache/roundhouse/sensitivities");
  const Outcome again = run_to("b", "1.25MB", "--threads 1");
  ASSERT_EQ(again.code, 0) << again.output;
  EXPECT_EQ(mix_of("b"), mix);
  EXPECT_EQ(read(work_ / "b/model.safetensors"), read(work_ / "a/model.safetensors"));

  // What is known is not measured again; the recipe that is kept beside the output gives the same without a mix.
  ASSERT_EQ(run_to("c", "1.4MB").code, 0);
  EXPECT_EQ(measured(), 1u);
  EXPECT_GT(mix_of("c")["bytes"], mix["bytes"]);
  const Outcome kept =
      run("run " + (work_ / "a/roundhouse/recipe.yaml").string() + " --set output=" + (work_ / "d").string());
  ASSERT_EQ(kept.code, 0) << kept.output;
  EXPECT_EQ(read(work_ / "d/model.safetensors"), read(work_ / "a/model.safetensors"));
}

}  // namespace
}  // namespace roundhouse

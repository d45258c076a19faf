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
  Outcome run_to(const std::string& output, const std::string& target, const std::string& more = "",
                 const std::string& schemes = "W2A16G32, W4A16G32, W8A16") const {
    return run_command("XDG_CACHE_HOME=" + (work_ / "cache").string() + " " + kProgram + " run " + recipe_.string() +
                       " --set output=" + (work_ / output).string() + " --set 'scheme={mix: [" + schemes +
                       "], target: " + target + "}' " + more);
  }
  json mix_of(const std::string& output) const {
    return json::parse(read(work_ / output / "roundhouse/report.json")).at("mix");
  }
  uint64_t weights_in(const std::string& output) const {
    uint64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(work_ / output))
      if (entry.path().extension() == ".safetensors" || entry.path().extension() == ".gguf") bytes += entry.file_size();
    return bytes;
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
  EXPECT_LE(weights_in("a"), mix["bytes"].get<uint64_t>());
  EXPECT_LE(mix["bytes"].get<uint64_t>(), 1'250'000u);
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

TEST_F(MixRun, MeasuresAgainWhereTheCacheIsDamagedOrTheRunIsRestarted) {
  ASSERT_EQ(run_to("a", "1.25MB").code, 0);
  const fs::path file = fs::directory_iterator(work_ / "cache/roundhouse/sensitivities")->path();
  const std::string measured = read(file);
  const std::string other = "{\"model.layers.0.self_attn.q_proj\":[1.0,1.0,1.0]}";
  for (const std::string& damage : {std::string(), measured.substr(0, measured.size() / 2), other}) {
    std::ofstream(file, std::ios::binary) << damage;
    const Outcome again = run_to("b", "1.25MB", "--overwrite");
    ASSERT_EQ(again.code, 0) << again.output;
    EXPECT_NE(again.output.find("what is kept of an earlier measurement is of no use: " + file.string()),
              std::string::npos)
        << again.output;
    EXPECT_EQ(read(file), measured);
    EXPECT_EQ(mix_of("b"), mix_of("a"));
  }

  // A fit file is taken as it is, and only --restart measures all the same.
  json free_of_loss = json::parse(measured);
  for (json& of_layer : free_of_loss) of_layer = json::array({0.0, 0.0, 0.0});
  std::ofstream(file, std::ios::binary) << free_of_loss.dump();
  ASSERT_EQ(run_to("b", "1.25MB", "--overwrite").code, 0);
  EXPECT_EQ(mix_of("b")["loss"], 0.0);
  ASSERT_EQ(run_to("b", "1.25MB", "--overwrite --restart").code, 0);
  EXPECT_EQ(mix_of("b"), mix_of("a"));
  EXPECT_EQ(read(file), measured);
}

TEST_F(MixRun, OfGgufTypesMeetsItsTarget) {
  const Outcome outcome = run_to("a", "0.65MB", "--set 'formats=[gguf]'", "'GGUF:Q4_0', 'GGUF:Q5_0', 'GGUF:Q8_0'");
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const json mix = mix_of("a");
  EXPECT_LE(weights_in("a"), mix["bytes"].get<uint64_t>());
  EXPECT_LE(mix["bytes"].get<uint64_t>(), 650'000u);
  EXPECT_GE(mix["bytes"].get<uint64_t>(), 600'000u) << mix;
  size_t used = 0;
  for (const json& scheme : mix["schemes"]) used += scheme["layers"].get<size_t>() > 0;
  EXPECT_GE(used, 2u) << mix;
  EXPECT_EQ(run("verify --deep " + (work_ / "a").string()).code, 0);
}

// The smallest export has headers, too.
TEST_F(MixRun, ATargetThatOnlyTheEstimateMeetsIsRefused) {
  const Outcome alone = run("plan --json " + recipe_.string() + " --set scheme=W2A16G32");
  ASSERT_EQ(alone.code, 0) << alone.output;
  const json estimate = json::parse(alone.output.substr(alone.output.find('{')))["formats"][0]["bytes_estimate"];
  const Outcome outcome = run_to("a", std::to_string(estimate.get<uint64_t>() + 64) + "B", "", "W2A16G32, W4A16G32");
  EXPECT_NE(outcome.code, 0);
  EXPECT_NE(outcome.output.find("of the mix is less than the smallest export"), std::string::npos) << outcome.output;
}

}  // namespace
}  // namespace roundhouse

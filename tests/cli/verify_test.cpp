// SPDX-License-Identifier: Apache-2.0
// What a run exported reads back as what it made, and damage is found.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "host/base/error.h"
#include "host/checkpoint/mapped_file.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/safetensors_header.h"
#include "host/checkpoint/writer.h"
#include "host/export/digests.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

using Lines = std::vector<std::string>;

class Verify : public WorkFolder {
 protected:
  void export_model(const std::string& more = "") {
    const Outcome outcome = run("run " + write_recipe(more).string());
    ASSERT_EQ(outcome.code, 0) << outcome.output;
  }
  // Rewrites the exported model.safetensors after `change` was called for each tensor; false drops one.
  template <typename Change>
  void damage(Change&& change) {
    std::vector<std::pair<std::string, Tensor>> tensors;
    {
      SafetensorsFolder exported(work_ / "out");
      for (const std::string& name : exported.names()) {
        const Tensor mapped = exported.load(name);
        Tensor copy(mapped.dtype(), mapped.shape());
        std::memcpy(copy.data(), mapped.data(), mapped.bytes());
        if (change(name, copy)) tensors.emplace_back(name, copy);
      }
    }
    std::filesystem::remove(work_ / "out/model.safetensors");
    write_safetensors_file(work_ / "out/model.safetensors", tensors);
  }
  Outcome verify() { return run("verify --deep " + (work_ / "out").string()); }
};

TEST_F(Verify, EveryTensorOfAGoodExportAgrees) {
  export_model("formats: [auto_round, fake]\n");
  for (const char* format : {"auto_round", "fake"}) {
    const Outcome outcome = run("verify --deep --json " + (work_ / "out" / format).string());
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    const auto result = nlohmann::json::parse(outcome.output);
    EXPECT_EQ(result["format"], format);
    EXPECT_EQ(result["tensors"], result["compared"]);
    EXPECT_LT(result["largest_difference"].get<double>(), 1e-6);
  }
}

// Flips the lowest bit of a byte.
void flip(const std::filesystem::path& file, uint64_t at) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(at));
  const auto byte = static_cast<char>(stream.get() ^ 1);
  stream.seekp(static_cast<std::streamoff>(at));
  stream.put(byte);
}

TEST_F(Verify, OneFlippedBitIsFoundInEveryTensor) {
  export_model("formats: [auto_round]\n");
  const auto file = work_ / "out/model.safetensors";
  const std::vector<SafetensorsHeader::Tensor> tensors = parse_safetensors_header(MappedFile(file)).tensors;
  ASSERT_GT(tensors.size(), 40u);
  const Digests digests = Digests::read(work_ / "out").value();
  const auto differences = [&] { return digests.differences(work_ / "out", [](const std::string&) {}); };
  const std::string changed = "model.safetensors is not as it was written (SHA-256)";
  EXPECT_EQ(differences(), Lines());
  for (const auto& tensor : tensors) {
    const uint64_t at = (tensor.begin + tensor.end) / 2;
    flip(file, at);
    EXPECT_EQ(differences(), Lines{changed + ": " + tensor.name});
    flip(file, at);
  }
  flip(file, 10);
  EXPECT_EQ(differences(), Lines{changed + ", outside its tensors"});
}

TEST_F(Verify, OneFlippedBitIsFoundInAGguf) {
  const Outcome made = run("run " + write_recipe("formats: [gguf]\n").string() + " --set scheme=GGUF:Q8_0");
  ASSERT_EQ(made.code, 0) << made.output;
  std::filesystem::path file;
  for (const auto& entry : std::filesystem::directory_iterator(work_ / "out"))
    if (entry.path().extension() == ".gguf") file = entry.path();
  flip(file, std::filesystem::file_size(file) / 2);
  Outcome outcome = run("verify " + (work_ / "out").string());
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find(".gguf is not as it was written (SHA-256): "), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find(".weight\n"), std::string::npos) << outcome.output;
}

TEST_F(Verify, EditedLostAndForeignFilesAreNamed) {
  export_model("formats: [llm_compressor]\n");
  const auto folder = work_ / "out";
  ASSERT_EQ(std::system(("cd " + folder.string() + " && sha256sum --quiet -c SHA256SUMS 2>&1").c_str()), 0);
  std::string config = read(folder / "config.json");
  config.replace(config.find("\"num_bits\": 4"), 13, "\"num_bits\": 8");
  write(folder / "config.json", config);
  write(folder / "tokenizer.json", read(folder / "tokenizer.json").substr(0, 3000));
  std::filesystem::remove(folder / "tokenizer_config.json");
  write(folder / "notes.txt", "mine");
  const Outcome outcome = run("verify " + folder.string());
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("config.json is not as it was written (SHA-256)\n"
                                "tokenizer.json is not as it was written (SHA-256)\n"
                                "tokenizer_config.json is missing\n"),
            std::string::npos)
      << outcome.output;
  EXPECT_NE(outcome.output.find("note: not written by the run, and not checked: notes.txt\n"), std::string::npos)
      << outcome.output;
}

TEST_F(Verify, DigestsThatWereCutAndAConfigurationThatIsDamagedAreNamed) {
  export_model("formats: [auto_round, fake]\n");
  const auto folder = work_ / "out/auto_round";
  const std::string digests = read(folder / "SHA256SUMS"), config = read(folder / "config.json");
  write(folder / "config.json", "[" + config);
  Outcome outcome = run("verify " + folder.string() + "/");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("config.json is not as it was written (SHA-256)\n"), std::string::npos)
      << outcome.output;
  write(folder / "config.json", config);
  std::string flipped = digests;
  flipped[digests.find("# tensor\t") + 10] ^= 1;
  std::string first = digests;
  first[digests.find("lines below")] ^= 1;
  for (const std::string& cut :
       {std::string(), digests.substr(0, digests.find('\n', digests.size() / 2) + 1), flipped, first}) {
    write(folder / "SHA256SUMS", cut);
    outcome = run("verify " + folder.string() + "/");
    EXPECT_EQ(outcome.code, 1);
    EXPECT_NE(outcome.output.find(
                  "SHA256SUMS does not have the lines that its first line says: it was cut, damaged or edited\n"),
              std::string::npos)
        << outcome.output;
    EXPECT_NE(outcome.output.find("compared with the run"), std::string::npos) << outcome.output;
  }
}

TEST_F(Verify, WhatTheRunLeftBesideItsExportsIsCompared) {
  for (const auto& [formats, inside, beside] :
       {std::tuple{"[fake]", "", "roundhouse/"}, {"[auto_gptq, fake]", "/auto_gptq", "../roundhouse/"}}) {
    export_model(cat("formats: ", formats, "\n"));
    const auto notes = work_ / "out/roundhouse";
    const std::string command = cat("verify ", (work_ / "out").string(), inside);
    EXPECT_EQ(run(command).code, 0);
    EXPECT_EQ(std::system(("cd " + notes.string() + " && sha256sum --quiet -c SHA256SUMS 2>&1").c_str()), 0);
    write(notes / "recipe.yaml", read(notes / "recipe.yaml") + "# mine\n");
    flip(notes / "fingerprints.safetensors", std::filesystem::file_size(notes / "fingerprints.safetensors") - 2);
    std::filesystem::remove(notes / "report.html");
    write(notes / "thoughts.md", "mine");
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_NE(outcome.output.find(cat(beside, "fingerprints.safetensors is not as it was written (SHA-256): ")),
              std::string::npos)
        << outcome.output;
    EXPECT_NE(outcome.output.find(cat(beside, "recipe.yaml is not as it was written (SHA-256)\n", beside,
                                      "report.html is missing\nnote: not written by the run, and not checked: ", beside,
                                      "thoughts.md\n")),
              std::string::npos)
        << outcome.output;
    std::filesystem::remove_all(work_ / "out");
  }
}

// A mirror's, say.
TEST_F(Verify, DigestsOfAnotherProgramAreNoDamage) {
  export_model("formats: [auto_gptq]\n");
  const std::string out = (work_ / "out").string();
  ASSERT_EQ(std::system(("cd " + out + " && sha256sum *.json *.safetensors > SHA256SUMS").c_str()), 0);
  EXPECT_EQ(run("verify " + out).code, 0);
  write("out/SHA256SUMS", "# made by the mirror\n" + read(work_ / "out/SHA256SUMS"));
  const Outcome outcome = run("verify " + out);
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("there are no digests (SHA256SUMS)"), std::string::npos) << outcome.output;
}

TEST_F(Verify, OfSeveralExportsOneIsToBeNamed) {
  export_model("formats: [fake, auto_round]\n");
  const std::string out = (work_ / "out").string();
  for (const std::string& command :
       {"verify " + out, "convert " + out + " --format fake", "tokenize --model " + out + " --text x",
        "eval " + out + " --data " + kExamples + "/texts/tinystories-heldout.jsonl"}) {
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.code, 1) << command;
    EXPECT_EQ(outcome.output, "error: " + out + " holds the exports of a run in several formats: auto_round, fake. " +
                                  "Give the folder of one, such as " + out + "/auto_round\n");
  }
}

TEST_F(Verify, DamageIsNotConverted) {
  export_model("formats: [auto_round]\n");
  const auto file = work_ / "out/model.safetensors";
  flip(file, std::filesystem::file_size(file) - 1);
  const Outcome outcome =
      run("convert " + (work_ / "out").string() + " --format fake --output " + (work_ / "other").string());
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("out is damaged, and would be converted so: model.safetensors is not as it was"),
            std::string::npos)
      << outcome.output;
  EXPECT_FALSE(std::filesystem::exists(work_ / "other"));
}

TEST_F(Verify, OriginalsAreCheckedToo) {
  const Outcome outcome = run("verify " + kExamples + "/tinystories-656k");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
}

TEST_F(Verify, FindsWrongCodes) {
  export_model("formats: [auto_round]\n");
  damage([](const std::string& name, Tensor& tensor) {
    if (name == "model.layers.1.mlp.up_proj.qzeros")
      for (int64_t i = 0; i < tensor.elements(); ++i) tensor.as<uint32_t>()[i] ^= 0x11111111;  // off by one
    return true;
  });
  const Outcome outcome = verify();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("model.layers.1.mlp.up_proj.weight differs"), std::string::npos) << outcome.output;
}

TEST_F(Verify, FindsNan) {
  export_model();
  damage([](const std::string& name, Tensor& tensor) {
    if (name == "model.norm.weight") std::memset(tensor.data(), 0xff, size_of(tensor.dtype()));
    return true;
  });
  const Outcome outcome = verify();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("model.norm.weight holds NaN"), std::string::npos) << outcome.output;
}

TEST_F(Verify, AConstantWeightIsNotedWhereNoFingerprintTellsOfIt) {
  export_model();
  damage([](const std::string& name, Tensor& tensor) {
    if (name == "model.layers.0.self_attn.k_proj.weight") std::memset(tensor.data(), 0, tensor.bytes());
    return true;
  });
  Outcome outcome = verify();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("k_proj.weight differs from what the run made"), std::string::npos) << outcome.output;
  std::filesystem::remove_all(work_ / "out/roundhouse");
  std::filesystem::remove(work_ / "out/SHA256SUMS");
  outcome = verify();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_NE(outcome.output.find("note: model.layers.0.self_attn.k_proj.weight is one constant, and there is no "
                                "fingerprint that says whether it was so before\n"),
            std::string::npos)
      << outcome.output;
}

// A copy of the example model, its tensors changed, as recipe "model".
class VerifySource : public Verify {
 protected:
  void change_source(const std::function<void(std::vector<std::pair<std::string, Tensor>>&)>& change) {
    const auto folder = copy_model();
    std::vector<std::pair<std::string, Tensor>> tensors;
    {
      SafetensorsFolder model(folder);
      for (const std::string& name : model.names()) {
        const Tensor mapped = model.load(name);
        Tensor copy(mapped.dtype(), mapped.shape());
        std::memcpy(copy.data(), mapped.data(), mapped.bytes());
        tensors.emplace_back(name, copy);
      }
    }
    change(tensors);
    std::filesystem::remove(folder / "model.safetensors");
    write_safetensors_file(folder / "model.safetensors", tensors);
  }
  void expect_verified(const std::string& format, const std::string& scheme) {
    write("recipe.yaml",
          "version: 1\nmodel: model\noutput: out\nscheme: " + scheme + "\ntuning: {iters: 0}\ncalibration: {data: " +
              kExamples + "/texts/tinystories-calibration.jsonl, samples: 2, seqlen: 32}\nformats: [" + format + "]\n");
    const Outcome made = run("run --overwrite " + (work_ / "recipe.yaml").string());
    EXPECT_EQ(made.code, 0) << format << ": " << made.output;
    const Outcome outcome = verify();
    EXPECT_EQ(outcome.code, 0) << format << ": " << outcome.output;
  }
};

TEST_F(VerifySource, AnAllZeroProjectionIsRight) {
  change_source([](auto& tensors) {
    for (auto& [name, tensor] : tensors)
      if (name == "model.layers.0.mlp.down_proj.weight") std::memset(tensor.data(), 0, tensor.bytes());
  });
  for (const auto& [format, scheme] : {std::pair{"auto_round", "W4A16"},
                                       {"auto_gptq", "W4A16"},
                                       {"auto_awq", "W4A16"},
                                       {"llm_compressor", "NVFP4"},
                                       {"fp8", "FP8_BLOCK"},
                                       {"fake", "W4A16"},
                                       {"gguf", "GGUF:Q8_0"}})
    expect_verified(format, scheme);
}

TEST_F(VerifySource, WhatAFormatLeavesOutIsNotLost) {
  change_source([](auto& tensors) {
    Tensor frequencies(DType::kF32, {16});
    std::fill_n(frequencies.template as<float>(), 16, 1.0f);
    tensors.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", frequencies);
  });
  expect_verified("gguf", "GGUF:Q8_0");
}

TEST_F(VerifySource, NanIsToldBeforeTheWorkAndAsTheSources) {
  const auto add = [](float value) {
    return [value](auto& tensors) {
      Tensor extra(DType::kF32, {4});
      std::fill_n(extra.template as<float>(), 4, value);
      tensors.emplace_back("adapter.extra", extra);
    };
  };
  change_source(add(NAN));
  write("recipe.yaml",
        "version: 1\nmodel: model\noutput: out\nscheme: W4A16\ntuning: {iters: 0}\nformats: [auto_round]\n");
  const Outcome told = run("run " + (work_ / "recipe.yaml").string());
  EXPECT_EQ(told.code, 0);
  EXPECT_TRUE(told.output.starts_with("warning: " + (work_ / "model").string() +
                                      ": adapter.extra has 4 elements that are NaN or infinite, the first at [0]. The "
                                      "model does not compute with it: it is carried as it is\n"))
      << told.output;
  EXPECT_NE(told.output.find("adapter.extra holds NaN or infinity, as the source does\n"), std::string::npos)
      << told.output;

  std::filesystem::remove_all(work_ / "model");
  std::filesystem::remove_all(work_ / "out");
  change_source(add(1));
  expect_verified("auto_round", "W4A16");
  damage([](const std::string& name, Tensor& tensor) {
    if (name == "adapter.extra") tensor.as<float>()[0] = NAN;
    return true;
  });
  std::filesystem::remove(work_ / "out/SHA256SUMS");  // else it is damage
  const Outcome converted = run("convert " + (work_ / "out").string() + " --format auto_gptq");
  EXPECT_EQ(converted.code, 0) << converted.output;
  EXPECT_NE(converted.output.find("note: adapter.extra holds NaN or infinity, as the source does\n"), std::string::npos)
      << converted.output;
}

TEST_F(Verify, FindsLostTensors) {
  export_model();
  damage([](const std::string& name, Tensor&) { return name != "model.layers.1.input_layernorm.weight"; });
  const Outcome outcome = verify();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("model.layers.1.input_layernorm.weight is missing"), std::string::npos)
      << outcome.output;
}

}  // namespace
}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// What `verify` finds in folders that an engine would refuse or misread: an export, with one thing changed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "tests/cli/program.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using Tensors = std::vector<std::pair<std::string, Tensor>>;

const std::string kBlock = "model.layers.0.";

class Findings : public WorkFolder {
 protected:
  // An export by plain rounding into work_/out.
  void export_model(const std::string& format, const std::string& scheme, const std::string& more = "") {
    write("recipe.yaml",
          std::string("version: 1\nmodel: " ROUNDHOUSE_SOURCE "/tests/data/models/tiny-llama\noutput: out\nscheme: ") +
              scheme + "\ntuning: {iters: 0}\nformats: [" + format + "]\n" +
              (scheme == "NVFP4" ? "calibration: {data: " + kExamples +
                                       "/texts/tinystories-calibration.jsonl, samples: 2, seqlen: 32}\n"
                                 : "") +
              more);
    const Outcome outcome = run("run " + (work_ / "recipe.yaml").string());
    ASSERT_EQ(outcome.code, 0) << outcome.output;
  }
  void edit(const std::function<void(json& config, json& quantization)>& change) {
    json config = json::parse(read(work_ / "out/config.json"));
    change(config, config["quantization_config"]);
    write("out/config.json", config.dump());
  }
  void edit_tensors(const std::function<void(Tensors&)>& change) {
    Tensors tensors;
    {
      SafetensorsFolder exported(work_ / "out");
      for (const std::string& name : exported.names()) {
        const Tensor mapped = exported.load(name);
        Tensor copy(mapped.dtype(), mapped.shape());
        std::memcpy(copy.data(), mapped.data(), mapped.bytes());
        tensors.emplace_back(name, copy);
      }
    }
    change(tensors);
    std::filesystem::remove(work_ / "out/model.safetensors");
    write_safetensors_file(work_ / "out/model.safetensors", tensors);
  }
  void drop(const std::string& tensor) {
    edit_tensors([&](Tensors& tensors) { std::erase_if(tensors, [&](const auto& t) { return t.first == tensor; }); });
  }
  // The findings as lines, in their order: "error vllm config.json: what. Advice".
  std::vector<std::string> findings() {
    const Outcome outcome = run_command(kProgram + " verify --json " + (work_ / "out").string() + " 2>/dev/null; true");
    std::vector<std::string> lines;
    const std::string text = outcome.output.substr(0, outcome.output.rfind('}') + 1);
    const json answer = json::parse(text, nullptr, false);
    if (!answer.is_object()) return {"no answer: " + outcome.output};
    for (const json& f : answer["findings"]) {
      const auto part = [&](const char* key) { return f[key].get<std::string>(); };
      std::string line = part("severity");
      if (!part("engine").empty()) line += " " + part("engine");
      if (!part("file").empty()) line += " " + part("file");
      lines.push_back(line + ": " + part("message") + ". " + part("advice"));
    }
    return lines;
  }
  using Lines = std::vector<std::string>;
};

TEST_F(Findings, AGoodFolderHasNone) {
  for (const auto& [format, scheme] : {std::pair{"auto_round", "W4A16"},
                                       {"auto_round", "NVFP4"},
                                       {"auto_gptq", "W4A16"},
                                       {"auto_awq", "W4A16"},
                                       {"llm_compressor", "NVFP4"},
                                       {"llm_compressor", "FP8_STATIC"},
                                       {"fp8", "FP8_BLOCK"},
                                       {"gguf", "GGUF:Q4_K_M"}}) {
    std::filesystem::remove_all(work_ / "out");
    export_model(
        format, scheme,
        std::string(scheme) == "FP8_STATIC"
            ? "calibration: {data: " + kExamples + "/texts/tinystories-calibration.jsonl, samples: 2, seqlen: 32}\n"
            : "");
    EXPECT_EQ(findings(), Lines()) << format << " " << scheme;
  }
}

TEST_F(Findings, AWeightThatTheIgnoreListLacks) {
  export_model("llm_compressor", "W4A16", "layers: [{match: model.layers.0.self_attn.o_proj, scheme: none}]\n");
  edit([](json&, json& quantization) {
    json& ignore = quantization["ignore"];
    ignore.erase(std::find(ignore.begin(), ignore.end(), kBlock + "self_attn.o_proj"));
  });
  EXPECT_EQ(findings(),
            Lines({"error config.json: model.layers.0.self_attn.o_proj: its weight is stored as it is, but "
                   "`ignore` does not name it: an engine looks for a packed one. Add its name to `ignore`"}));
}

TEST_F(Findings, APlainHeadThatIsSaidToBeQuantized) {
  export_model("auto_gptq", "W4A16");
  edit([](json&, json& quantization) { quantization["lm_head"] = true; });
  EXPECT_EQ(findings(),
            Lines({"error config.json: lm_head: its weight is stored as it is, but `lm_head` is true: an "
                   "engine looks for a packed one. Add \"-:\" and a regular expression for it to `dynamic`"}));
  std::filesystem::remove_all(work_ / "out");
  export_model("auto_round", "W4A16");
  edit([](json&, json& quantization) { quantization["extra_config"]["lm_head"] = {{"bits", 8}}; });
  EXPECT_EQ(findings(), Lines({"error config.json: lm_head: its weight is stored as it is, but `extra_config` says so "
                               "few bits: an engine looks for a packed one. Add its name to `extra_config`, with 16 "
                               "bits"}));
}

TEST_F(Findings, AConfigurationThatNamesNoFamily) {
  export_model("auto_gptq", "W4A16");
  edit([](json& config, json& quantization) {
    config.erase("model_type");
    config.erase("architectures");
    quantization.erase("quant_method");
  });
  const std::string copy = "Copy it from the original's config.json";
  EXPECT_EQ(findings(),
            Lines({"error config.json: model_type is missing: an engine cannot tell the model's family. " + copy,
                   "error vllm config.json: architectures is missing: it names the class of the model. " + copy,
                   "error sglang config.json: architectures is missing: it names the class of the model. " + copy,
                   "error transformers config.json: quantization_config.quant_method is missing. It is a text"}));
}

TEST_F(Findings, WhatNoKernelTakes) {
  const json cases = {
      {"NVFP4", "bits", 3, "bits is 3, and nv_fp has 4"},
      {"NVFP4", "group_size", 32, "group_size is 32, and nv_fp has 16"},
      {"NVFP4", "sym", false, "sym is false, and nv_fp has true"},
      {"NVFP4", "packing_format", "auto_round",
       "packing_format is \"auto_round\", and nv_fp has \"auto_round:llm_compressor\""},
      {"NVFP4", "act_bits", 16, "act_bits is 16, and nv_fp has 4"},
      {"NVFP4", "act_data_type", "int", "act_data_type is int, and weights are of nv_fp"},
      {"MXFP4", "act_dynamic", false, "act_dynamic is false, and mx_fp has true"},
      {"MXFP4", "packing_format", nullptr, "packing_format is missing, and mx_fp has \"auto_round:llm_compressor\""},
      {"W4A16", "act_bits", 8, "act_bits is 8, and layers of packed integers take their input as it is"},
  };
  std::string scheme, config;
  for (const json& c : cases) {
    if (scheme != c[0]) {
      scheme = c[0];
      std::filesystem::remove_all(work_ / "out");
      export_model("auto_round", scheme);
      config = read(work_ / "out/config.json");
    }
    write("out/config.json", config);
    const std::string key = c[1], what = c[3];
    edit([&](json&, json& quantization) { quantization[key] = c[2]; });
    const std::string line = "error transformers config.json: model.layers.0.mlp.down_proj (and 13 others): " + what +
                             ": no kernel takes that. Correct the configuration";
    const Lines found = findings();
    EXPECT_NE(std::find(found.begin(), found.end(), line), found.end()) << what << ", not " << json(found);
  }
}

TEST_F(Findings, APackingThatIsNotKnown) {
  export_model("auto_round", "W4A16");
  edit([](json&, json& quantization) { quantization["packing_format"] = "auto_round:marlin"; });
  EXPECT_EQ(findings(),
            Lines({"error config.json: quantization_config.packing_format is auto_round:marlin, which is not "
                   "known of data_type int. Correct the configuration"}));
}

TEST_F(Findings, ExpressionsThatAutoRoundFindsInNames) {
  export_model("auto_round", "W4A16");
  const std::string config = read(work_ / "out/config.json");
  edit([](json&, json& quantization) { quantization["modules_to_not_convert"] = {"mlp.down"}; });
  EXPECT_EQ(findings(),
            Lines({"error config.json: model.layers.0.mlp.down_proj (and 1 other): its weight is packed, but "
                   "`modules_to_not_convert` has mlp.down, which is in its name: an engine looks for a plain one. Let "
                   "the configuration say how it is packed"}));
  write("out/config.json", config);
  edit([](json&, json& quantization) { quantization["extra_config"]["mlp.down"] = {{"bits", 8}}; });
  EXPECT_EQ(findings(),
            Lines({"error config.json: model.layers.0.mlp.down_proj (and 1 other): it says 8 bits in groups of 128, "
                   "symmetric, and the tensors hold 4 bits in groups of 128. Correct the configuration, or export the "
                   "model again"}));
}

TEST_F(Findings, ABlockThatTheConfigurationDoesNotCount) {
  export_model("auto_round", "W4A16");
  edit([](json& config, json&) { config["num_hidden_layers"] = 1; });
  EXPECT_EQ(findings(), Lines({"error config.json: num_hidden_layers is 1, and block 1 is stored: an engine leaves it "
                               "out. Set it to 2"}));
}

// Numbers that int64 does not hold were read all the same.
TEST_F(Findings, ABlockWhoseNumberIsNone) {
  export_model("auto_round", "W4A16");
  edit_tensors([](Tensors& tensors) {
    for (const char* number : {"99999999999999999999", "-7", "x", "4294967296"})
      tensors.emplace_back(std::string("model.layers.") + number + ".input_layernorm.weight",
                           Tensor(DType::kF32, {64}));
  });
  EXPECT_EQ(findings(), Lines());
}

TEST_F(Findings, AStatusThatIsNotCompressed) {
  export_model("llm_compressor", "W4A16");
  edit([](json&, json& quantization) { quantization["quantization_status"] = "frozen"; });
  EXPECT_EQ(findings(), Lines({"error transformers config.json: quantization_config.quantization_status is frozen: "
                               "transformers then looks for plain weights. Set it to compressed"}));
}

TEST_F(Findings, AStatusThatIsMissing) {
  export_model("llm_compressor", "W4A16");
  edit([](json&, json& quantization) { quantization.erase("quantization_status"); });
  EXPECT_EQ(findings(), Lines({"error transformers config.json: quantization_config.quantization_status is missing: "
                               "transformers then looks for plain weights. Set it to compressed"}));
}

TEST_F(Findings, ArgumentsThatCompressedTensorsRefuses) {
  const json cases = {
      {"FP8_STATIC", "weights", "num_bits", 4, ".num_bits is 4, and float-quantized holds floats of 8 bits"},
      {"FP8_STATIC", "weights", "group_size", 64, ".group_size is 64, and the strategy channel has no groups"},
      {"FP8_STATIC", "weights", "dynamic", true, ".dynamic is true, and stored weights have fixed scales"},
      {"FP8_STATIC", "input_activations", "strategy", "token",
       ".dynamic is false, and the strategy token has a scale for each input"},
      {"FP8_STATIC", "input_activations", "dynamic", "local", ".dynamic is local, and the strategy is tensor"},
      {"NVFP4", "weights", "num_bits", 8, ".num_bits is 8, and nvfp4-pack-quantized holds floats of 4 bits"},
      {"NVFP4",
       "weights",
       "block_structure",
       {128, 128},
       ".block_structure is there, and the strategy tensor_group has no blocks"},
  };
  std::string scheme, config;
  for (const json& c : cases) {
    if (scheme != c[0]) {
      scheme = c[0];
      std::filesystem::remove_all(work_ / "out");
      export_model("llm_compressor", scheme,
                   scheme == "FP8_STATIC" ? "calibration: {data: " + kExamples +
                                                "/texts/tinystories-calibration.jsonl, samples: 2, seqlen: 32}\n"
                                          : "");
      config = read(work_ / "out/config.json");
    }
    write("out/config.json", config);
    const std::string part = c[1], key = c[2], what = c[4];
    edit([&](json&, json& quantization) { quantization["config_groups"]["group_0"][part][key] = c[3]; });
    EXPECT_EQ(findings(), Lines({"error config.json: quantization_config.config_groups.group_0." + part + what +
                                 ": an engine refuses it. Correct it"}));
  }
}

TEST_F(Findings, ACacheWithoutScales) {
  export_model("llm_compressor", "W4A16");
  edit([](json&, json& quantization) { quantization["kv_cache_scheme"] = {{"num_bits", 8}, {"dynamic", false}}; });
  const Lines found = findings();
  EXPECT_EQ(found, Lines({"error transformers config.json: quantization_config.kv_cache_scheme is there, and no scales "
                          "of keys and values (k_scale, v_scale) are stored: they have no values. Set it to null"}));
  edit_tensors([](Tensors& tensors) {
    for (const char* scale : {"self_attn.k_scale", "self_attn.v_scale"})
      tensors.emplace_back(kBlock + scale, Tensor(DType::kF32, {1}));
  });
  EXPECT_EQ(findings(), Lines());
}

TEST_F(Findings, APackedWeightThatTheIgnoreListNames) {
  export_model("auto_awq", "W4A16");
  edit([](json&, json& quantization) { quantization["modules_to_not_convert"].push_back("down_proj"); });
  EXPECT_EQ(findings(),
            Lines({"error config.json: model.layers.0.mlp.down_proj (and 1 other): its weight is packed, but "
                   "`modules_to_not_convert` has down_proj, which is in its name: an engine looks for a plain "
                   "one. Let the configuration say how it is packed"}));
}

TEST_F(Findings, AMissingTensorOfAPackedWeight) {
  export_model("auto_round", "NVFP4");
  drop(kBlock + "mlp.down_proj.weight_global_scale");
  EXPECT_EQ(findings(), Lines({"error: model.layers.0.mlp.down_proj: its weight_global_scale is missing (nv_fp of 4 "
                               "bits). Export the model again"}));
}

TEST_F(Findings, ATensorThatIsLeftOver) {
  export_model("auto_awq", "W4A16");
  edit_tensors(
      [](Tensors& tensors) { tensors.emplace_back(kBlock + "mlp.down_proj.g_idx", Tensor(DType::kI32, {512})); });
  EXPECT_EQ(findings(), Lines({"error: model.layers.0.mlp.down_proj: its g_idx is left over: 4 bits in groups of 128, "
                               "asymmetric has no such tensor, and an engine refuses it. Export the model again"}));
}

TEST_F(Findings, BitsThatTheTensorsDoNotHave) {
  export_model("auto_gptq", "W4A16");
  edit([](json&, json& quantization) { quantization["group_size"] = 64; });
  const Lines found = findings();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(
      found[0],
      "error config.json: model.layers.0.mlp.down_proj (and 13 others): it says 4 bits in groups of 64, symmetric, "
      "and the tensors hold 4 bits in groups of 128. Correct the configuration, or export the model again");
}

TEST_F(Findings, AFusedGroupInTwoSchemes) {
  export_model("auto_round", "W4A16", "layers: [{match: model.layers.0.mlp.up_proj, bits: 8}]\n");
  const std::string what =
      "model.layers.0.mlp: the engine fuses gate_proj and up_proj, and they are packed in 2 ways: 4 "
      "bits in groups of 128, symmetric and 8 bits in groups of 128, symmetric. Quantize them alike";
  EXPECT_EQ(findings(), Lines({"error vllm: " + what, "error sglang: " + what}));
}

TEST_F(Findings, AFusedGroupThatIsPackedInPart) {
  export_model("llm_compressor", "W4A16", "layers: [{match: model.layers.1.self_attn.k_proj, scheme: none}]\n");
  const std::string what =
      "model.layers.1.self_attn: the engine fuses q_proj, k_proj and v_proj, and only q_proj and "
      "v_proj are packed. Quantize them alike, or none of them";
  EXPECT_EQ(findings(), Lines({"error vllm: " + what, "error sglang: " + what}));
  const Outcome outcome = run("verify " + (work_ / "out").string());
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("for vllm, sglang: " + what + "\n"), std::string::npos) << outcome.output;
}

TEST_F(Findings, AFusedGroupThatIsSaidToBePackedInPart) {
  export_model("llm_compressor", "W4A16");
  edit([](json&, json& quantization) { quantization["ignore"].push_back(kBlock + "mlp.up_proj"); });
  const Lines found = findings();
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[1],
            "error vllm: model.layers.0.mlp: the engine fuses gate_proj and up_proj, and they are packed in 2 ways: a "
            "plain weight and pack-quantized, 4 bits by group of 128. Quantize them alike");
}

TEST_F(Findings, AnEntryOfDynamicThatAFusedLayerDoesNotFind) {
  export_model("auto_gptq", "W4A16", "layers: [{match: \"re:.*_proj\", bits: 8}, {match: lm_head, scheme: none}]\n");
  EXPECT_EQ(findings(), Lines());
  std::filesystem::remove_all(work_ / "out");
  export_model("auto_gptq", "W4A16", "layers: [{match: \"re:.*(gate|up)_proj\", bits: 8}]\n");
  EXPECT_EQ(findings(), Lines());
  edit([](json&, json& quantization) {
    EXPECT_EQ(quantization["dynamic"].erase("+:^model\\.layers\\.0\\.mlp\\.gate_up_proj$"), 1u);
  });
  EXPECT_EQ(findings(),
            Lines({"error vllm config.json: model.layers.0.mlp: the engine fuses gate_proj and up_proj, looks for "
                   "gate_up_proj alone, and takes 4 bits in groups of 128, symmetric for 8 bits in groups of 128, "
                   "symmetric. Let `dynamic` have the same entry for gate_up_proj"}));
}

TEST_F(Findings, GlobalScalesOfAFusedGroupThatDiffer) {
  export_model("llm_compressor", "NVFP4");
  edit_tensors([](Tensors& tensors) {
    for (auto& [name, tensor] : tensors)
      if (name == kBlock + "mlp.up_proj.weight_global_scale") tensor.as<float>()[0] *= 2;
  });
  const std::string what =
      "model.layers.0.mlp: the engine fuses gate_proj and up_proj, and takes one "
      "weight_global_scale for all, of 2 that differ. Let them share it: the data type nv_fp does";
  EXPECT_EQ(findings(), Lines({"warning vllm: " + what, "warning sglang: " + what}));
}

TEST_F(Findings, KeysOfTheConfiguration) {
  export_model("auto_gptq", "W4A16");
  edit([](json&, json& quantization) {
    quantization.erase("desc_act");
    quantization["bits"] = "4";
  });
  EXPECT_EQ(findings(), Lines({"error config.json: quantization_config.bits is \"4\". It is a number",
                               "error config.json: quantization_config.desc_act is missing. It is true or false"}));
}

TEST_F(Findings, BlocksThatAreNotThere) {
  export_model("auto_round", "W4A16");
  edit([](json&, json& quantization) { quantization["block_name_to_quantize"] = "transformer.h"; });
  const Lines found = findings();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0],
            "error config.json: quantization_config.block_name_to_quantize is transformer.h, and no stored "
            "module begins so. Name the module that the blocks lie in");
}

TEST_F(Findings, AnIndexThatPlacesATensorWrong) {
  export_model("auto_round", "W4A16", "max_shard_size: 500KB\n");
  json index = json::parse(read(work_ / "out/model.safetensors.index.json"));
  json& map = index["weight_map"];
  const std::string right = map["model.norm.weight"], wrong = map["model.embed_tokens.weight"];
  ASSERT_NE(right, wrong);
  map["model.norm.weight"] = wrong;
  write("out/model.safetensors.index.json", index.dump());
  EXPECT_EQ(findings(), Lines({"error transformers model.safetensors.index.json: model.norm.weight: it is in " + right +
                               ", and the index places it in " + wrong + ". Correct the index"}));
}

TEST_F(Findings, WeightsThatOnlySomeEnginesLoad) {
  export_model("auto_round", "W4A16");
  const std::string shard = "model-00003-of-00005.safetensors";
  std::filesystem::copy(work_ / "out/model.safetensors", work_ / "out" / shard);
  const std::string loaded = "no index leaves it out, so that it is loaded beside model.safetensors. Remove it";
  EXPECT_EQ(findings(), Lines({"error vllm " + shard + ": " + loaded, "error sglang " + shard + ": " + loaded}));
  write("out/model.safetensors.index.json", json{{"weight_map", {{"model.norm.weight", shard}}}}.dump());
  write("out/adapter_config.json", "{}");
  EXPECT_EQ(
      findings(),
      Lines({"warning transformers adapter_config.json: with the package peft, transformers takes the folder for an "
             "adapter of the model that this names. Remove it",
             "error model.safetensors.index.json: it does not name model.safetensors: transformers loads that "
             "alone, and others what it names. Remove the one that does not belong to the checkpoint"}));
}

TEST_F(Findings, ATiedHeadThatIsStored) {
  export_model("auto_round", "W4A16");
  edit([](json& config, json&) { config["tie_word_embeddings"] = true; });
  EXPECT_EQ(findings(),
            Lines({"error config.json: tie_word_embeddings is true, and lm_head is stored with other values "
                   "than model.embed_tokens: engines take those instead. Set it to false"}));
}

TEST_F(Findings, AZeroPointThatSymmetricKernelsDoNotRead) {
  export_model("auto_gptq", "{preset: W4A16, sym: false}");
  edit([](json&, json& quantization) { quantization["sym"] = true; });
  const std::string what =
      " config.json: model.layers.0.mlp.down_proj (and 13 others): `sym` is true, and its zero points are not those of "
      "a "
      "symmetric layer: kernels do not read them. Set `sym` to false";
  EXPECT_EQ(findings(), Lines({"error vllm" + what, "error sglang" + what}));
}

// ---- GGUF: a value or a name in the header, of the same length ----

class GgufFindings : public Findings {
 protected:
  void SetUp() override {
    Findings::SetUp();
    export_model("gguf", "GGUF:Q4_K_M");
    for (const auto& entry : std::filesystem::directory_iterator(work_ / "out"))
      if (entry.path().extension() == ".gguf") file_ = entry.path();
    bytes_ = read(file_);
  }
  // Where the value of `key` begins.
  size_t value_at(const std::string& key) const { return bytes_.find(key) + key.size() + sizeof(uint32_t); }
  void set(const std::string& key, uint32_t value) { std::memcpy(bytes_.data() + value_at(key), &value, sizeof value); }
  void rename(const std::string& from, const std::string& to) { bytes_.replace(bytes_.find(from), from.size(), to); }
  std::vector<std::string> broken() {
    std::ofstream(file_, std::ios::binary | std::ios::trunc) << bytes_;
    return findings();
  }
  std::string error(const std::string& what) const {
    return "error llama.cpp " + file_.filename().string() + ": " + what;
  }

  std::filesystem::path file_;
  std::string bytes_;
};

TEST_F(GgufFindings, BlockCount) {
  set("llama.block_count", 3);
  EXPECT_EQ(broken(), Lines({error("llama.block_count is 3, and the tensors are of 2 blocks: llama.cpp misses tensors. "
                                   "Export the model again")}));
}

TEST_F(GgufFindings, AHyperparameterThatIsMissing) {
  rename("llama.context_length", "llama.context_lengtx");
  EXPECT_EQ(broken(), Lines({error("llama.context_length is missing: llama.cpp stops there. Export the model again")}));
}

TEST_F(GgufFindings, HyperparametersThatTheTensorsDoNotHave) {
  const std::string good = bytes_;
  const auto refused = [&](const std::string& what) {
    return error(what + ": llama.cpp refuses a tensor of that shape. Export the model again");
  };
  set("llama.embedding_length", 128);
  EXPECT_EQ(broken().at(0), refused("token_embd.weight has 256 columns, and llama.embedding_length makes 128"));
  bytes_ = good;
  set("llama.feed_forward_length", 500);
  EXPECT_EQ(broken(), Lines({refused("blk.0.ffn_up.weight has 512 rows, and llama.feed_forward_length makes 500"),
                             refused("blk.1.ffn_up.weight has 512 rows, and llama.feed_forward_length makes 500")}));
  bytes_ = good;
  set("llama.attention.head_count_kv", 4);
  const Lines found = broken();
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found[0], refused("blk.0.attn_k.weight has 128 rows, and llama.attention.head_count_kv makes 256"));
}

TEST_F(GgufFindings, ATokenizerThatLlamaCppDoesNotKnow) {
  const size_t at = value_at("tokenizer.ggml.model") + sizeof(uint64_t);
  bytes_.replace(at, 4, "gpt9");
  EXPECT_EQ(broken(), Lines({error("tokenizer.ggml.model is \"gpt9\", which llama.cpp does not know: it refuses the "
                                   "file. Export the model again")}));
}

TEST_F(GgufFindings, ATokenBeyondTheVocabulary) {
  set("tokenizer.ggml.eos_token_id", 70000);
  const Lines found = broken();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].starts_with(error("tokenizer.ggml.eos_token_id is 70000, and there are "))) << found[0];
}

TEST_F(GgufFindings, AFileTypeThatIsNone) {
  set("general.file_type", 999);
  EXPECT_EQ(broken(), Lines({"warning llama.cpp " + file_.filename().string() +
                             ": general.file_type is 999, which is none. Set the option `file_type`"}));
}

TEST_F(GgufFindings, ATensorThatOneBlockLacks) {
  rename("blk.1.ffn_norm.weight", "blk.1.ffn_nxrm.weight");
  const Lines found = broken();
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(
      found[0],
      error("the tensor blk.1.ffn_norm.weight is missing, which every other block of its kind has: llama.cpp stops "
            "there. Export the model again"));
}

TEST_F(GgufFindings, ATensorThatABlockOfAHybridLacks) {
  for (const std::string block : {"blk.0.", "blk.1."}) rename(block + "attn_q.weight", block + "ssm_in.weight");
  rename("blk.1.ffn_norm.weight", "blk.1.ffn_nxrm.weight");
  const Lines found = broken();
  ASSERT_FALSE(found.empty());
  EXPECT_NE(found[0].find("blk.1.ffn_norm.weight is missing, which every other block of its kind has"),
            std::string::npos)
      << found[0];
}

}  // namespace
}  // namespace roundhouse

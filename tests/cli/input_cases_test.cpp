// SPDX-License-Identifier: Apache-2.0
// Models and texts as people have them, in the program's words. The cases are files: inputs/NAME.yaml changes a tiny
// Llama and its recipe, beside it stands NAME.txt, what the commands say of it. The keys of a case, all optional:
//   files     by path ("model/config.json", "texts.jsonl"): a text; a map, which changes the file's JSON (null: the key is
//             gone); null: the file is gone
//   bytes     by path: a text whose characters are a byte each
//   rename    tensors, by the beginning of their names
//   tensors   by name: {shape, type, value, first} (numbers, or "nan", "inf"; 0 and as `value`, where they are left out); null: the tensor is gone
//   recipe    what changes the recipe
//   commands  `plan` when nothing is said; "run", "plan --deep", "eval model --data texts.txt"
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "host/yaml/yaml.h"
#include "tests/cli/program.h"
#include "tests/recorded.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kCases = fs::path(ROUNDHOUSE_SOURCE) / "tests/cli/inputs";
const fs::path kTokenizer = fs::path(ROUNDHOUSE_SOURCE) / "tests/data/models/stories260K";

constexpr int64_t kVocab = 512, kHidden = 64, kIntermediate = 128, kBlocks = 2, kKeyRows = 32;

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kCases))
    if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

class InputCase : public WorkFolder, public testing::WithParamInterface<std::string> {
 protected:
  InputCase() {
    fs::create_directories(work_ / "model");
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      fs::copy(kTokenizer / name, work_ / "model" / name);
    write("model/config.json", json{{"architectures", {"LlamaForCausalLM"}},
                                    {"model_type", "llama"},
                                    {"vocab_size", kVocab},
                                    {"hidden_size", kHidden},
                                    {"intermediate_size", kIntermediate},
                                    {"num_hidden_layers", kBlocks},
                                    {"num_attention_heads", 4},
                                    {"num_key_value_heads", 2},
                                    {"max_position_embeddings", 256},
                                    {"rms_norm_eps", 1e-5},
                                    {"bos_token_id", 1},
                                    {"eos_token_id", 2},
                                    {"tie_word_embeddings", false},
                                    {"torch_dtype", "float32"}}
                                   .dump());
    for (const char* name : {"model.embed_tokens", "lm_head"}) add(name, {kVocab, kHidden});
    add("model.norm", {kHidden});
    for (int64_t block = 0; block < kBlocks; ++block) {
      const std::string at = "model.layers." + std::to_string(block) + ".";
      for (const char* name : {"input_layernorm", "post_attention_layernorm"}) add(at + name, {kHidden});
      for (const char* name : {"q_proj", "o_proj"}) add(at + "self_attn." + name, {kHidden, kHidden});
      for (const char* name : {"k_proj", "v_proj"}) add(at + "self_attn." + name, {kKeyRows, kHidden});
      for (const char* name : {"gate_proj", "up_proj"}) add(at + "mlp." + name, {kIntermediate, kHidden});
      add(at + "mlp.down_proj", {kHidden, kIntermediate});
    }
    recipe_ = {{"version", 1},
               {"model", "model"},
               {"output", "out"},
               {"scheme", {{"preset", "W4A16"}, {"group_size", 32}}},
               {"tuning", {{"iters", 0}}},
               {"formats", {"auto_round", "auto_gptq", "auto_awq", "llm_compressor", "fake"}}};
  }

  // Weights like random ones; norms near 1.
  void add(const std::string& name, const std::vector<int64_t>& shape) {
    Tensor tensor(DType::kF32, shape);
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      state_ = state_ * 1664525 + 1013904223;
      tensor.as<float>()[i] = (static_cast<float>(state_ >> 8) / (1 << 24) - 0.5F) * 0.2F + (shape.size() == 1 ? 1 : 0);
    }
    tensors_[name + ".weight"] = tensor;
  }

  static const json& part(const json& wanted, const char* key) {
    static const json none = json::object();
    return wanted.contains(key) ? wanted[key] : none;
  }

  void change(const json& wanted) {
    for (const auto& [name, contents] : part(wanted, "files").items()) {
      if (contents.is_null())
        fs::remove(work_ / name);
      else if (contents.is_string())
        write(name, contents);
      else
        change_json(name, contents);
    }
    for (const auto& [name, text] : part(wanted, "bytes").items()) write(name, bytes_of(text.get<std::string>()));
    for (const auto& [from, to] : part(wanted, "rename").items()) {
      for (const auto& [name, tensor] : std::map(tensors_)) {
        if (!name.starts_with(from)) continue;
        tensors_.erase(name);
        tensors_[to.get<std::string>() + name.substr(from.size())] = tensor;
      }
    }
    for (const auto& [name, is] : part(wanted, "tensors").items()) {
      tensors_.erase(name);
      if (!is.is_null()) tensors_[name] = made(is);
    }
    recipe_.merge_patch(part(wanted, "recipe"));
  }

  void change_json(const std::string& name, const json& patch) const {
    json document = fs::exists(work_ / name) ? json::parse(read(work_ / name)) : json::object();
    document.merge_patch(patch);
    write(name, document.dump());
  }

  // Characters up to U+00FF in UTF-8.
  static std::string bytes_of(const std::string& text) {
    std::string bytes;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto lead = static_cast<unsigned char>(text[i]);
      bytes += lead < 0x80 ? text[i] : static_cast<char>((lead & 3) << 6 | (text[++i] & 0x3f));
    }
    return bytes;
  }

  static Tensor made(const json& is) {
    Tensor tensor(dtype_from_safetensors(is.value("type", "F32")), is.at("shape").get<std::vector<int64_t>>());
    if (tensor.dtype() != DType::kF32) return tensor;
    const auto number = [&](const char* key) {
      return is[key].is_string() ? std::stof(is[key].get<std::string>()) : is[key].get<float>();
    };
    std::fill_n(tensor.as<float>(), tensor.elements(), is.contains("value") ? number("value") : 0);
    if (is.contains("first")) tensor.as<float>()[0] = number("first");
    return tensor;
  }

  // What the command says: all of an error; of what goes well the warnings and what is left out.
  std::string said(const std::string& command) const {
    const size_t space = std::min(command.find(' '), command.size());
    const std::string name = command.substr(0, space), rest = command.substr(space);
    const std::string arguments = name == "plan" || name == "run" ? name + " recipe.yaml" + rest : command;
    const Outcome outcome = run_command("cd " + work_.string() + " && env XDG_CONFIG_HOME=" + work_.string() +
                                        " XDG_DATA_HOME=" + work_.string() + " HF_HUB_CACHE=" + work_.string() +
                                        "/hub OMP_NUM_THREADS=1 " + kProgram + " " + arguments);
    std::string text = "$ roundhouse " + arguments + "\n";
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);)
      if (outcome.code != 0 || line.starts_with("warning: ") || line.find(" does not store ") != std::string::npos)
        text += line + "\n";
    return text + (outcome.code == 0 ? "" : "exit " + std::to_string(outcome.code) + "\n");
  }

  std::map<std::string, Tensor> tensors_;
  json recipe_;
  uint32_t state_ = 1;
};

TEST_P(InputCase, IsTakenOrRefusedAsWritten) {
  const json wanted = yaml::Node::load(kCases / (GetParam() + ".yaml")).as_json();
  change(wanted);
  write_safetensors_file(work_ / "model/model.safetensors", {tensors_.begin(), tensors_.end()});
  write("recipe.yaml", recipe_.dump());
  std::string text;
  for (const std::string& command : wanted.value("commands", std::vector<std::string>{"plan"})) text += said(command);
  for (const auto& [path, name] : {std::pair{kPlugins, "$PLUGINS"}, {work_.string(), "$WORK"}})
    for (size_t at = 0; (at = text.find(path, at)) != std::string::npos;) text.replace(at, path.size(), name);
  expect_recorded(text, kCases / (GetParam() + ".txt"));
}

INSTANTIATE_TEST_SUITE_P(Files, InputCase, testing::ValuesIn(case_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace roundhouse

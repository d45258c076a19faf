// SPDX-License-Identifier: Apache-2.0
// The tokenizer inside a GGUF file beside the host's: the same ids, and the same tokens around a text.
#include <fstream>
#include <map>
#include <set>

#include "host/base/error.h"
#include "host/checkpoint/gguf_file.h"
#include "host/model/architecture.h"
#include "host/text/tokenizer.h"
#include "tests/formats/format_fixture.h"

namespace roundhouse::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kTokenizers = fs::path(TEST_DATA) / "text/tokenizers";
constexpr int kVocab = 2100;  // more than any of the tokenizers has

// An export of a model with the tokenizer of `folder`, in `out`. Throws Error with the format's message.
void export_model(const fs::path& folder, const json& config, const json& options, const fs::path& out) {
  const FormatPlugin format("gguf");
  json architecture = Architecture::load(fs::path(TEST_DATA) / "models/tiny-llama",
                                         {fs::path(ROUNDHOUSE_SOURCE) / "configs/architectures"})
                          .facts();
  architecture["vocab"] = kVocab;
  const std::string norm = "model.layers.0.input_layernorm.weight";
  OutputFolder output(out, false);
  TestPlan plan(options, architecture);
  plan.add_tensor(norm, {256}, DType::kF32);
  const ExportSession::Facts facts{{{"config", config},
                                    {"architecture", architecture},
                                    {"plan", {{"data_type", nullptr}, {"layers", json::object()}}}},
                                   {{"model", folder.string()}},
                                   {{"tokenizer", [&folder] { return Tokenizer::facts(folder); }}}};
  const ExportSession session(output, facts, plan.get(), 1 << 30, nullptr);
  rh_error error{};
  rh_writer* writer = nullptr;
  if (format->begin(format.get(), session.get(), &writer, &error) != RH_OK) throw Error(error.message);
  const Tensor weight(DType::kF32, {256});
  const rh_tensor view = weight.view();
  if (writer->add_tensor(writer, norm.c_str(), &view, &error) != RH_OK) throw Error(error.message);
  if (writer->finish(writer, &error) != RH_OK) throw Error(error.message);
  output.finish();
}

// Its metadata.
json metadata_of(const fs::path& folder, const json& config = json::object()) {
  const TempFolder temporary;
  export_model(folder, config, {{"pre", "gpt-2"}}, temporary.path() / "out");
  for (const auto& entry : fs::directory_iterator(temporary.path() / "out"))
    if (entry.path().extension() == ".gguf")
      return GgufFile(std::make_shared<const MappedFile>(entry.path())).metadata();
  throw Error("no file was written");
}

std::vector<fs::path> folders() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(kTokenizers))
    if (fs::is_directory(entry)) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

TEST(GgufTokenizer, HasTheHostsIdsAndFlags) {
  int compared = 0;
  for (const fs::path& folder : folders()) {
    SCOPED_TRACE(folder.filename());
    json metadata;
    try {
      metadata = metadata_of(folder);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(": llama.cpp has no tokenizer of the type "), std::string::npos)
          << error.what();
      continue;
    }
    ++compared;
    const Tokenizer tokenizer = Tokenizer::load(folder);
    const auto tokens = metadata.at("tokenizer.ggml.tokens").get<std::vector<std::string>>();
    const auto types = metadata.at("tokenizer.ggml.token_type").get<std::vector<int>>();
    ASSERT_EQ(tokens.size(), static_cast<size_t>(kVocab));
    size_t used = 0;
    for (int32_t id = 0; id < kVocab; ++id) {
      if (types[static_cast<size_t>(id)] == 5) continue;  // unused
      EXPECT_EQ(tokenizer.token_id(tokens[static_cast<size_t>(id)]), id) << tokens[static_cast<size_t>(id)];
      ++used;
    }
    EXPECT_EQ(used, tokenizer.vocab_size());
    std::vector<int32_t> around;  // as llama.cpp does it
    for (const std::string role : {"bos", "eos"})
      if (metadata.at(cat("tokenizer.ggml.add_", role, "_token")))
        around.push_back(metadata.at(cat("tokenizer.ggml.", role, "_token_id")));
    EXPECT_EQ(around, tokenizer.encode(""));
  }
  EXPECT_GE(compared, 20);
}

// The reader's tokenizer.json, in a folder.
void rebuild(const fs::path& model, const fs::path& to) {
  const FormatPlugin format("gguf");
  const TestReader reader(format, model);
  ASSERT_EQ(reader.error(), "");
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    std::string contents;
    const auto take = [](void* text, const void* bytes, uint64_t size) {
      static_cast<std::string*>(text)->assign(static_cast<const char*>(bytes), size);
    };
    rh_error error{};
    ASSERT_EQ(reader.get()->side_file(reader.get(), name, take, &contents, &error), RH_OK) << error.message;
    std::ofstream(to / name, std::ios::binary) << contents;
  }
}

// What GGUF has no word for; the rebuilt tokenizer then does what llama.cpp does.
const std::map<std::string, const char*> kUnsaid = {
    {"made-added-files", "added tokens that strip blanks"},
    {"made-gemma", "bytes that are not decoded"},
    {"made-llama-files", "a space before the first word only"},
    {"made-mistral", "a space before the first word only"},
    {"made-some-bytes", "a vocabulary without some bytes"},
    {"made-unigram", "the likeliest pieces instead of merges"},
    {"made-unigram-files", "the likeliest pieces instead of merges"},
    {"tinystories-656k", "added tokens that are found after the text was normalized"},
};

TEST(GgufTokenizer, IsRebuiltWithTheSameIds) {
  std::set<std::string> compared, unsaid;
  const json texts = read_json(kTokenizers / "texts.json");
  for (const fs::path& folder : folders()) {
    SCOPED_TRACE(folder.filename());
    const TempFolder temporary;
    try {
      export_model(folder, json::object(), json::object(), temporary.path() / "out");
    } catch (const Error&) {
      continue;  // no tokenizer of llama.cpp's
    }
    const fs::path rebuilt = temporary.path() / "rebuilt";
    fs::create_directory(rebuilt);
    rebuild(temporary.path() / "out", rebuilt);
    const Tokenizer original = Tokenizer::load(folder), again = Tokenizer::load(rebuilt);
    const std::string name = folder.filename();
    (kUnsaid.contains(name) ? unsaid : compared).insert(name);
    EXPECT_EQ(original.bos_id() ? again.bos_id() : std::nullopt, original.bos_id());
    EXPECT_EQ(original.eos_id() ? again.eos_id() : std::nullopt, original.eos_id());
    bool same = true;
    for (const json& entry : texts) {
      if (!entry.contains("text")) continue;
      const std::string text = entry["text"];
      const auto ids = original.encode(text);
      same = same && again.encode(text) == ids && again.decode(ids) == original.decode(ids);
      EXPECT_TRUE(same || kUnsaid.contains(name)) << entry["name"];
    }
    EXPECT_EQ(same, !kUnsaid.contains(name));
  }
  for (const char* name : {"made-gpt2", "made-llama2", "made-llama3", "made-qwen2", "made-smollm", "made-tekken-files"})
    EXPECT_TRUE(compared.contains(name)) << name;
  EXPECT_EQ(unsaid.size(), kUnsaid.size());
}

// A folder with made-gpt2's tokenizer.json, changed, and other files.
class ChangedTokenizer {
 public:
  explicit ChangedTokenizer(const json& changes, const std::map<std::string, json>& files = {}) {
    json tokenizer = read_json(kTokenizers / "made-gpt2/tokenizer.json");
    for (const json& token : changes.value("more_tokens", json::array())) tokenizer["added_tokens"].push_back(token);
    if (changes.contains("post_processor")) tokenizer["post_processor"] = changes["post_processor"];
    write("tokenizer.json", tokenizer);
    for (const auto& [name, content] : files) write(name, content);
  }
  json metadata(const json& config = json::object()) const { return metadata_of(folder_.path(), config); }

 private:
  void write(const std::string& name, const json& content) const {
    std::ofstream(folder_.path() / name) << content.dump();
  }
  TempFolder folder_;
};

json template_with(const std::string& token, int id) {
  return {{"type", "TemplateProcessing"},
          {"single", {{{"SpecialToken", {{"id", token}}}}, {{"Sequence", {{"id", "A"}}}}}},
          {"special_tokens", {{token, {{"ids", {id}}}}}}};
}

TEST(GgufTokenizer, FlagsAreWrittenWhateverTheConfigurationSays) {
  const std::string text = "<|endoftext|>";
  const auto flags = [](const json& metadata) {
    return std::pair(metadata.at("tokenizer.ggml.add_bos_token").get<bool>(),
                     metadata.at("tokenizer.ggml.add_eos_token").get<bool>());
  };
  const json with_template{{"post_processor", template_with(text, 0)}};
  // The template alone tells; the token's role is known from config.json, or from nowhere.
  EXPECT_EQ(flags(ChangedTokenizer(with_template).metadata({{"bos_token_id", 0}})), std::pair(true, false));
  const json unnamed = ChangedTokenizer(with_template).metadata();
  EXPECT_EQ(flags(unnamed), std::pair(true, false));
  EXPECT_EQ(unnamed.at("tokenizer.ggml.bos_token_id"), 0);
  // transformers reads add_bos_token only where there is no tokenizer.json.
  const json says_no{{"bos_token", text}, {"add_bos_token", false}},
      says_yes{{"bos_token", text}, {"add_bos_token", true}};
  EXPECT_EQ(flags(ChangedTokenizer(with_template, {{"tokenizer_config.json", says_no}}).metadata()),
            std::pair(true, false));
  EXPECT_EQ(flags(ChangedTokenizer(json::object(), {{"tokenizer_config.json", says_yes}}).metadata()),
            std::pair(false, false));
  EXPECT_EQ(flags(ChangedTokenizer(json::object()).metadata()), std::pair(false, false));
  // What stands before texts is bos to llama.cpp, whatever else has the name; eos ends a generation and stays.
  const json other_bos = ChangedTokenizer(with_template).metadata({{"bos_token_id", 5}});
  EXPECT_EQ(flags(other_bos), std::pair(true, false));
  EXPECT_EQ(other_bos.at("tokenizer.ggml.bos_token_id"), 0);
  json behind = template_with(text, 0);
  std::swap(behind["single"][0], behind["single"][1]);
  const json other_eos = ChangedTokenizer(json{{"post_processor", behind}}).metadata({{"eos_token_id", 5}});
  EXPECT_EQ(flags(other_eos), std::pair(false, false));
  EXPECT_EQ(other_eos.at("tokenizer.ggml.eos_token_id"), 5);
  EXPECT_EQ(flags(metadata_of(kTokenizers / "made-roberta")), std::pair(true, true));
}

TEST(GgufTokenizer, AddedTokensOfEveryFileHaveTheIdsOfTexts) {
  const json flags{{"lstrip", false}, {"rstrip", false}, {"normalized", false}, {"single_word", false}};
  const auto token = [&flags](const std::string& text, bool special) {
    json whole = flags;
    whole.update({{"content", text}, {"special", special}});
    return whole;
  };
  json beyond_a_gap = token("<gap>", true);
  beyond_a_gap["id"] = 900;
  const json more{{"more_tokens", {beyond_a_gap}}};
  const size_t size = Tokenizer::load(kTokenizers / "made-gpt2").vocab_size();

  const json decoder{{"added_tokens_decoder", {{"901", token("<tool>", true)}, {"905", token("word", false)}}}};
  const json known = ChangedTokenizer(more, {{"tokenizer_config.json", decoder}}).metadata();
  const auto& tokens = known.at("tokenizer.ggml.tokens");
  EXPECT_EQ(tokens.at(size), "<gap>");
  EXPECT_EQ(tokens.at(size + 1), "<tool>");
  EXPECT_EQ(tokens.at(size + 2), "word");
  EXPECT_EQ(tokens.at(size + 3), cat("[PAD", size + 3, "]"));
  const auto& types = known.at("tokenizer.ggml.token_type");
  EXPECT_EQ(types.at(size), 3);
  EXPECT_EQ(types.at(size + 2), 4);

  const json file = ChangedTokenizer(json::object(), {{"added_tokens.json", {{"<tool>", size}}}}).metadata();
  EXPECT_EQ(file.at("tokenizer.ggml.tokens").at(size), "<tool>");
}

// llama.cpp has no name for either, so texts would get other ids.
TEST(GgufTokenizer, WhatIsDoneToATextFirstIsPartOfThePreTokenizer) {
  const TempFolder folder;
  const auto refusal = [&](const auto& change) {
    const fs::path copy = folder.path() / "model";
    fs::remove_all(copy);
    fs::copy(kTokenizers / "made-gpt2", copy);
    json tokenizer = read_json(copy / "tokenizer.json");
    change(tokenizer);
    std::ofstream(copy / "tokenizer.json") << tokenizer;
    try {
      export_model(copy, json::object(), json::object(), folder.path() / "out");
    } catch (const Error& error) {
      const std::string message = error.what(), before = "this is (";
      return message.substr(message.find(before) + before.size(),
                            message.find(") is not known") - message.find(before) - before.size());
    }
    return std::string();
  };
  EXPECT_EQ(refusal([](json& tokenizer) { tokenizer["pre_tokenizer"]["add_prefix_space"] = true; }),
            "words after a space");
  EXPECT_EQ(refusal([](json& tokenizer) { tokenizer["normalizer"] = {{"type", "Lowercase"}}; }), "Lowercase, words");
}

// The same regular expression divides by what it matches or by what is between, and words may go before merges or not.
TEST(GgufTokenizer, SplitsAndMergesAreLlamaCppsOrRefused) {
  const TempFolder folder;
  // What the pre-tokenizer is called, or the message.
  const auto pre_of = [&](const char* name, const auto& change) {
    const fs::path copy = folder.path() / "model", out = folder.path() / "out";
    for (const fs::path& old : {copy, out}) fs::remove_all(old);
    fs::copy(kTokenizers / name, copy);
    json tokenizer = read_json(copy / "tokenizer.json");
    change(tokenizer);
    std::ofstream(copy / "tokenizer.json") << tokenizer;
    try {
      export_model(copy, json::object(), json::object(), out);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    for (const auto& entry : fs::directory_iterator(out))
      if (entry.path().extension() == ".gguf")
        return GgufFile(std::make_shared<const MappedFile>(entry.path()))
            .metadata()
            .at("tokenizer.ggml.pre")
            .get<std::string>();
    return std::string("no file");
  };
  const auto split = [](const char* behavior, bool invert) {
    return [=](json& tokenizer) {
      tokenizer["pre_tokenizer"]["pretokenizers"][0].update({{"behavior", behavior}, {"invert", invert}});
    };
  };
  const auto merges = [](bool ignored) {
    return [=](json& tokenizer) { tokenizer["model"]["ignore_merges"] = ignored; };
  };
  for (const auto& [behavior, invert] : {std::pair{"Isolated", false}, {"Isolated", true}, {"Removed", true}})
    EXPECT_EQ(pre_of("made-qwen2", split(behavior, invert)), "qwen2") << behavior;
  EXPECT_NE(pre_of("made-qwen2", split("Removed", false)).find("\\s+ Removed, bytes) is not known"), std::string::npos);
  EXPECT_NE(
      pre_of("made-qwen2", split("MergedWithPrevious", true)).find("\\s+ MergedWithPrevious inverted, bytes) is not"),
      std::string::npos);

  EXPECT_EQ(pre_of("made-llama3", merges(true)), "llama-bpe");
  EXPECT_EQ(pre_of("made-llama3", merges(false)), "dbrx");
  EXPECT_EQ(pre_of("made-smollm", merges(false)), "starcoder");
  for (const auto& [name, what] :
       {std::pair{"made-gpt2", "(words"}, {"made-smollm", "(digits, words"}, {"made-qwen2", ", bytes"}})
    EXPECT_NE(pre_of(name, merges(true))
                  .find(cat(what, ", ignore_merges true) is not known. Name it with the format's option pre")),
              std::string::npos)
        << pre_of(name, merges(true));
  EXPECT_NE(pre_of("made-mistral", merges(true)).find("takes whole words before it merges (ignore_merges true)"),
            std::string::npos);
}

// transformers' order.
TEST(GgufTokenizer, TheChatTemplateIsTheFileOfItsOwn) {
  const TempFolder folder;
  fs::copy(kTokenizers / "made-llama3", folder.path() / "model");
  const fs::path file = folder.path() / "model/tokenizer_config.json";
  json config = fs::exists(file) ? read_json(file) : json::object();
  for (const json& said : {json(nullptr), json("another")}) {
    config["chat_template"] = said;
    std::ofstream(file) << config;
    std::ofstream(folder.path() / "model/chat_template.jinja") << "its own";
    EXPECT_EQ(metadata_of(folder.path() / "model").at("tokenizer.chat_template"), "its own");
  }
}

TEST(GgufTokenizer, WithoutATokenizerTheHostsMessageIsTold) {
  const TempFolder folder;
  try {
    metadata_of(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("there is no tokenizer: none of tokenizer.json"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace roundhouse::formats

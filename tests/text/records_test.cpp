// SPDX-License-Identifier: Apache-2.0
#include "host/text/records.h"

#include <gtest/gtest.h>

#include <functional>

#include "host/base/error.h"
#include "host/base/log.h"
#include "host/text/calibration.h"
#include "host/text/token_pieces.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using Texts = std::vector<std::string>;

const fs::path kTokenizers = fs::path(TEST_DATA) / "text" / "tokenizers";
constexpr std::chrono::year_month_day kDate = std::chrono::July / 26 / 2024;

std::string last_warning;

class RecordsTest : public testing::Test {
 protected:
  RecordsTest() {
    last_warning.clear();
    log::set_sink([](log::Level, const std::string& message) { last_warning = message; });
    folder_.write("chat_template.jinja",
                  "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
                  "{% if tools %}{{ tools | length }} tools{% endif %}{% if messages[0].role == 'assistant' %}"
                  "{{ raise_exception('begin with the user') }}{% endif %}");
    folder_.write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "chat_template": "not this"})");
  }
  ~RecordsTest() override { log::set_sink(nullptr); }

  Texts read(const std::string& name, const std::string& content, std::optional<std::string> field = {}) const {
    Texts all;
    for (const Text& text : read_texts(folder_.write(name, content), {.field = std::move(field), .chat = &chat_}))
      all.push_back((text.templated ? "T:" : "") + text.text);
    return all;
  }
  std::string problem(const std::string& name, const std::string& content,
                      std::optional<std::string> field = {}) const {
    try {
      read(name, content, std::move(field));
    } catch (const Error& e) {
      const std::string message = e.what(), path = (folder_.path() / name).string();
      return message.starts_with(path) ? message.substr(path.size()) : "without its file: " + message;
    }
    return "no error";
  }

  TempFolder folder_;
  ChatTemplates chat_{folder_.path(), kDate};
};

bool contains(const std::string& message, const std::string& part) { return message.find(part) != message.npos; }

TEST_F(RecordsTest, ConversationsGoThroughTheChatTemplate) {
  const std::string expected = "T:<s>[user]Hi[assistant]Ho";
  EXPECT_EQ(read("a.jsonl", R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}], "id": 7}
{"conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
{"prompt": "Hi", "response": "Ho"}
{"prompt": "Hi", "completion": "Ho"}
{"prompt": "Hi", "chosen": "Ho", "rejected": "No"}
{"question": "Hi", "answer": "Ho"}
{"instruction": "Hi", "input": "", "output": "Ho"}
{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Ho"}]}
{"prompt": "Hi", "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
)"),
            Texts(10, expected));
  EXPECT_EQ(read("b.jsonl", R"({"instruction": "Add", "input": "1 2", "output": "3", "system": "S"})"),
            (Texts{"T:<s>[system]S[user]Add\n\n1 2[assistant]3"}));
  EXPECT_EQ(read("c.jsonl", R"({"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "a"}]})"),
            (Texts{"T:<s>[user]x1 tools"}));
  EXPECT_EQ(read("d.json", R"({"messages": [{"role": "user", "content": "one"}]})"), (Texts{"T:<s>[user]one"}));
}

TEST_F(RecordsTest, UsualKeysAndTheNamedOne) {
  EXPECT_EQ(read("a.jsonl", R"({"content": "a", "id": 1}
{"text": "b", "messages": []}
{"story": "c"}
)"),
            (Texts{"a", "b", "c"}));
  EXPECT_PRED2(contains, problem("a.jsonl", R"({"id": "abc"})"),
               ":1: has no text: \"id\" names none; a record must be");
  EXPECT_EQ(read("a.jsonl", R"({"id": "abc", "body": "x", "text": "y"})", "body"), (Texts{"x"}));
  EXPECT_EQ(read("a.jsonl", R"({"chat": [{"from": "human", "value": "x"}]})", "chat"), (Texts{"T:<s>[user]x"}));
  EXPECT_EQ(problem("a.jsonl", R"({"text": "y"})", "body"), ":1: has no \"body\", which `field` names");
  EXPECT_PRED2(contains, problem("a.jsonl", R"({"a": 1, "b": 2})"), "(its keys: a, b)");
}

TEST_F(RecordsTest, FilesAsPeopleHaveThem) {
  EXPECT_EQ(read("lines.json", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n"), (Texts{"a", "b"}));
  EXPECT_EQ(read("UPPER.JSONL", "\xef\xbb\xbf{\"text\": \"a\"}\n"), (Texts{"a"}));
  EXPECT_EQ(read("wrapped.json", R"({"version": "1", "data": [{"text": "a"}]})"), (Texts{"a"}));
  EXPECT_EQ(read("a.csv", "id,text\r\n1,\"a, \"\"b\"\"\nc\"\r\n\n2,d"), (Texts{"a, \"b\"\nc", "d"}));
  EXPECT_EQ(read("one.csv", "story\nfirst\n"), (Texts{"first"}));
  EXPECT_EQ(read("a.TSV", "prompt\tresponse\nHi, you\tHo\n"), (Texts{"T:<s>[user]Hi, you[assistant]Ho"}));
  EXPECT_EQ(read("chat.csv", "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"x\"\"}]\"\n", "messages"),
            (Texts{"T:<s>[user]x"}));
  const std::string only = "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"x\"\"}]\"\n";
  EXPECT_EQ(read("only.csv", only), (Texts{"T:<s>[user]x"})) << "the only column is no plain text";
  EXPECT_PRED2(contains, problem("repr.csv", "messages\n\"[{'role': 'user', 'content': 'x'}]\"\n"),
               "a conversation must be");
  EXPECT_EQ(read("null.jsonl", R"({"text": null, "messages": [{"role": "user", "content": "x"}]})"),
            (Texts{"T:<s>[user]x"}));
  EXPECT_PRED2(contains, problem("semicolons.csv", "id;text\n1;Once\n"), "separate columns by commas");
  EXPECT_EQ(problem("bad.csv", "text,id\na,1\nb\n"), ":3: has 1 fields, the header 2");
  EXPECT_EQ(problem("bad.csv", "text\n\"a\nb\n"), ":2: a quotation that begins in this row has no end");
  EXPECT_EQ(problem("bad.csv", "text\n\"a\"b\n"), ":2: text stands behind a quotation; quotes within one are doubled");
  EXPECT_PRED2(contains, problem("lines.json", "{\"text\": \"a\"}\n{\"text\": \n"), ":2: is not valid JSON");
}

TEST_F(RecordsTest, BytesThatAreNoTextAreRefusedOrToldOf) {
  const std::string utf16("\xff\xfeh\0i\0\n\0", 8), unmarked("h\0i\0,\0y\0o\0u\0", 12),
      binary("\x01\x00\x00pq\x00r", 7);
  EXPECT_PRED2(contains, problem("a.txt", utf16),
               ": is UTF-16, as PowerShell's > writes it. Convert it: iconv -f UTF-16");
  EXPECT_PRED2(contains, problem("a.jsonl", unmarked), ": is UTF-16 without a mark. Convert it: iconv -f UTF-16LE");
  EXPECT_PRED2(contains, problem("a.txt", binary), ": is binary");
  EXPECT_PRED2(contains, problem("a.txt", "\xcf\xf0\xe8\xe2\xe5\xf2"), ": is not UTF-8. Convert it");
  EXPECT_EQ(last_warning, "");
  EXPECT_EQ(read("a.txt", "caf\xe9 in the old town\nna\xefve and so on\n"),
            (Texts{"caf\xef\xbf\xbd in the old town", "na\xef\xbf\xbdve and so on"}));
  EXPECT_PRED2(contains, last_warning, "a.txt: 2 bytes or sequences are not UTF-8 and were replaced");
  EXPECT_PRED2(contains, problem("a.gz", "x"), ": is compressed; unpack it first");
}

TEST_F(RecordsTest, EveryRecordIsReadAndTheFirstBadOneTold) {
  EXPECT_EQ(problem("a.jsonl", R"({"text": "a"}
{"messages": [{"role": "assistant", "content": "x"}]}
{"text": 1}
{"messages": 5}
)"),
            ":2: the chat template refuses the conversation: line 1: begin with the user (and 2 records more)");
}

TEST_F(RecordsTest, TemplatesOfAFolder) {
  const auto render = [&](const fs::path& folder, bool tools) {
    nlohmann::ordered_json variables = {{"messages", nlohmann::ordered_json::array()}};
    if (tools) variables["tools"] = {1};
    try {
      return ChatTemplates(folder, kDate).render(variables);
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  const TempFolder parent;
  const fs::path a = parent.path() / "a", b = parent.path() / "b", c = parent.path() / "c", d = parent.path() / "d";
  for (const fs::path& path : {a, b, c, d, a / "additional_chat_templates"}) fs::create_directories(path);
  parent.write("a/chat_template.jinja", "file {{ strftime_now('%d %b %Y') }}");
  parent.write("a/additional_chat_templates/tool_use.jinja", "tools");
  parent.write("b/tokenizer_config.json",
               R"({"eos_token": "</s>", "chat_template": [{"name": "default", "template": "list{{ eos_token }}"},
                   {"name": "tool_use", "template": "list tools"}]})");
  parent.write("c/chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(render(a, false), "file 26 Jul 2024");
  EXPECT_EQ(render(a, true), "tools");
  EXPECT_EQ(render(b, false), "list</s>");
  EXPECT_EQ(render(b, true), "list tools");
  EXPECT_EQ(render(c, true), "json");
  EXPECT_PRED2(contains, render(d, false), "d: has no chat template, which conversations need");
  parent.write("d/chat_template.jinja", "{% if %}");
  EXPECT_PRED2(contains, render(d, false), "d/chat_template.jinja: line 1: expected an expression");
}

// ---- samples ----

using Ids = std::vector<int32_t>;

Tokenizer load_tokenizer(const std::string& name) { return Tokenizer::load(kTokenizers / name); }

std::string words(int count, int first = 0) {
  const char* const kWords[] = {"river ", "stone ", "lamp ", "green ", "the ", "bird ", "sings. "};
  std::string text;
  for (int i = 0; i < count; ++i) text += kWords[(first + i * (i % 89) + i / 7) % 7];
  return text;
}

TEST_F(RecordsTest, TemplatedTextsGetNoSecondBos) {
  const Tokenizer tokenizer = load_tokenizer("stories260K");
  ASSERT_TRUE(tokenizer.bos_id());
  const fs::path path =
      folder_.write("a.json", R"([{"prompt": ")" + words(20) + R"(", "response": ")" + words(20) + R"("}])");
  const CalibrationRequest request{{{path}}, 1, 12, 1, false, {.field = {}, .chat = &chat_}};
  const Ids sample = load_calibration(request, tokenizer).samples.at(0);
  EXPECT_EQ(sample, tokenizer.encode("<s>[user]" + words(20), false, 12));
  EXPECT_EQ(std::count(sample.begin(), sample.end(), *tokenizer.bos_id()), 1);
}

TEST_F(RecordsTest, LongTextsGiveManySamplesWhereTheyAreNeeded) {
  const Tokenizer tokenizer = load_tokenizer("stories260K");
  const std::string a = words(150), b = words(60, 3);
  const fs::path path = folder_.write("a.txt", a + "\n" + b + "\n");
  const CalibrationSet one = load_calibration({{{path}}, 2, 32, 1}, tokenizer);
  EXPECT_EQ(one.further, 0);
  const CalibrationRequest all{{{path}}, 1000, 32, 1};
  const CalibrationSet many = load_calibration(all, tokenizer);
  ASSERT_GT(many.samples.size(), 6u);
  EXPECT_EQ(many.further + 2, static_cast<int>(many.samples.size()));
  EXPECT_EQ(Ids(many.samples[0]), one.samples[0]);
  EXPECT_EQ(Ids(many.samples[1]), one.samples[1]);
  // A text's pieces are its ids, cut: the first of one text and its second piece follow each other.
  Ids joined = many.samples[0];
  joined.insert(joined.end(), many.samples[2].begin(), many.samples[2].end());
  const bool begins_with_a = joined == tokenizer.encode(a, true, 64);
  EXPECT_TRUE(begins_with_a || joined == tokenizer.encode(b, true, 64));
}

TEST_F(RecordsTest, PartsOfALongTextGiveTheIdsOfTheWhole) {
  const Tokenizer tokenizer = load_tokenizer("made-llama3");
  const std::string text = words(60000);
  ASSERT_GT(text.size(), 300000u);
  const Ids whole = tokenizer.encode(text, true);
  TokenPieces pieces(text, tokenizer, true, 50);
  Ids all;
  for (Ids piece = pieces.next(); !piece.empty(); piece = pieces.next())
    all.insert(all.end(), piece.begin(), piece.end());
  EXPECT_EQ(all, whole);
}

TEST_F(RecordsTest, ConcatenatePacksShortTexts) {
  const Tokenizer tokenizer = load_tokenizer("stories260K");
  std::string lines, prose;
  for (int i = 0; i < 40; ++i) lines += words(6, i) + "\n\n";
  for (int i = 0; i < 40; ++i) prose += words(6, i) + "\n";
  const CalibrationRequest request{{{folder_.write("a.txt", lines)}}, 4, 64, 1, true};
  const CalibrationSet set = load_calibration(request, tokenizer);
  ASSERT_EQ(set.samples.size(), 4u);
  EXPECT_EQ(set.read, 40);
  const Ids& sample = set.samples[0];
  EXPECT_EQ(sample.size(), 64u);
  EXPECT_GT(std::count(sample.begin(), sample.end(), *tokenizer.bos_id()), 2);  // in front of every text
  // Lines without blank ones between them are one text, with its lines' ends.
  const CalibrationSet one = load_calibration({{{folder_.write("b.txt", prose)}}, 1, 64, 1, true}, tokenizer);
  EXPECT_EQ(one.read, 1);
  EXPECT_EQ(one.samples[0], tokenizer.encode(prose, true, 64));
}

TEST_F(RecordsTest, FilesGiveTheirShares) {
  const Tokenizer tokenizer = load_tokenizer("stories260K");
  std::string a, b;
  for (int i = 0; i < 12; ++i) a += "one " + words(30, i) + "\n";
  for (int i = 0; i < 12; ++i) b += "two " + words(30, i) + "\n";
  const fs::path first = folder_.write("a.txt", a), second = folder_.write("b.txt", b);
  const CalibrationSet set = load_calibration({{{first, 0.7}, {second, 0.3}}, 9, 16, 1}, tokenizer);
  ASSERT_EQ(set.samples.size(), 9u);
  int begins[2] = {0, 0};
  for (const Ids& ids : set.samples) ++begins[tokenizer.decode(ids).find("two") != std::string::npos];
  EXPECT_EQ(begins[0], 6);  // 6.3 and 2.7
  EXPECT_EQ(begins[1], 3);
  EXPECT_EQ(set.samples[0], load_calibration({{{first}}, 1, 16, 1}, tokenizer).samples[0]);
  EXPECT_THROW(load_calibration({{{first, 1}, {second, 0.01}}, 9, 16, 1}, tokenizer), Error);
}

}  // namespace
}  // namespace roundhouse

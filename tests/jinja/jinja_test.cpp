// SPDX-License-Identifier: Apache-2.0
// tests/data/jinja has chat templates and small templates with what Jinja2 makes of them: record_jinja.py.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>

#include "host/base/error.h"
#include "host/jinja/template.h"

namespace roundhouse::jinja {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

const fs::path kData = fs::path(TEST_DATA) / "jinja";
constexpr std::chrono::year_month_day kDate = std::chrono::July / 26 / 2024;

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

Json read_json(const std::string& name) { return Json::parse(read_text(kData / name)); }

// Nothing for an error, whose message comes in `why`.
std::optional<std::string> rendered(const std::string& source, const Json& variables, std::string& why,
                                    const RenderLimits& limits = {}) {
  try {
    return Template(source).render(variables, kDate, limits);
  } catch (const Error& e) {
    why = e.what();
    return std::nullopt;
  }
}

std::string message_of(const std::string& source, const Json& variables = Json::object(),
                       const RenderLimits& limits = {}) {
  std::string why = "no error";
  rendered(source, variables, why, limits);
  return why;
}

void expect_same(const std::string& source, const Json& variables, const Json& expected) {
  std::string why;
  const auto output = rendered(source, variables, why);
  if (expected.is_null()) {
    EXPECT_FALSE(output) << *output;
  } else {
    ASSERT_TRUE(output) << why;
    EXPECT_EQ(*output, expected.get<std::string>());
  }
}

TEST(Jinja, RendersChatTemplatesAsJinja2Does) {
  const Json expected = read_json("expected.json"), conversations = read_json("conversations.json");
  ASSERT_GE(expected.size(), 20u);
  int texts = 0;
  for (const auto& [name, outputs] : expected.items()) {
    const std::string source = read_text(kData / "templates" / (name + ".jinja"));
    ASSERT_EQ(outputs.size(), conversations.size());
    for (const auto& [conversation, output] : outputs.items()) {
      SCOPED_TRACE(name + " " + conversation);
      expect_same(source, conversations.at(conversation), output);
      texts += !output.is_null();
    }
  }
  EXPECT_GE(texts, 150);
}

TEST(Jinja, RendersSnippetsAsJinja2Does) {
  const Json snippets = read_json("snippets.json"), expected = read_json("snippets_expected.json");
  const Json& templates = snippets.at("templates");
  ASSERT_EQ(templates.size(), expected.size());
  for (size_t i = 0; i < templates.size(); ++i) {
    const std::string source = templates[i];
    SCOPED_TRACE(source);
    expect_same(source, snippets.at("variables"), expected[i]);
  }
}

TEST(Jinja, ErrorsNameTheLineAndTheReason) {
  EXPECT_EQ(message_of("a\n{{ raise_exception('Roles must ' ~ 'alternate') }}"), "line 2: Roles must alternate");
  EXPECT_EQ(message_of("\n\n{{ messages[0].role }}"), "line 3: 'messages' is undefined");
  EXPECT_EQ(message_of("{{ m.a.b }}", {{"m", Json::object()}}), "line 1: 'dict object' has no attribute 'a'");
  EXPECT_EQ(message_of("{% for x in y %}\n{{ x }}"), "line 2: the template ends where {% else, endfor %} is expected");
  EXPECT_EQ(message_of("\n{% include 'x' %}"), "line 2: {% include %} is unknown or not supported");
  EXPECT_EQ(message_of("{{ 'a' | urlize }}"), "line 1: there is no filter named 'urlize', or it is not supported");
  EXPECT_EQ(message_of("{{ 'a' + 1 }}"), "line 1: values of types str and int have no +");
  EXPECT_EQ(message_of("{{ (1 }}"), "line 1: unexpected '}'");
  EXPECT_EQ(message_of("{{ messages.append(1) }}", {{"messages", Json::array()}}),
            "line 1: a template must not change a list");
}

// ---- bounds: templates come from anywhere ----

TEST(Jinja, StepsMemoryAndDepthAreBounded) {
  const Json none = Json::object();
  const RenderLimits few{.steps = 100'000, .bytes = 1 << 22};
  const std::string loops = "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}";
  EXPECT_EQ(message_of(loops, none, few), "line 1: the template takes too many steps");
  const std::string memory = "line 1: the template takes too much memory";
  EXPECT_EQ(message_of("{% set ns = namespace(t='ab') %}{% for a in range(99) %}{% set ns.t = ns.t ~ ns.t %}"
                       "{% endfor %}",
                       none, few),
            memory);
  EXPECT_EQ(message_of("{{ 'abc' * 4611686018427387904 }}"), "line 1: a whole number is beyond 64 bits");
  EXPECT_EQ(message_of("{{ 'abc' * 1000000000 }}", none, few), memory);
  EXPECT_EQ(message_of("{{ ('a' * 100000) | replace('', 'b' * 100000) }}", none, few), memory);
  EXPECT_EQ(message_of("{{ ('a' * 100000).replace('a', 'b' * 100000) }}", none, few), memory);
  EXPECT_EQ(message_of("{{ ('\\n' * 10000) | indent(9999) }}", none, few), memory);
  EXPECT_EQ(message_of("{{ '%500s' * 100000 % 1 }}"), "line 1: a format has more % than values");
  EXPECT_EQ(message_of("{{ range(100001) }}"), "line 1: range: has more than 100000 numbers");
  const std::string doubled = "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}";
  EXPECT_EQ(message_of(doubled + "{% endfor %}"), "line 1: a list or dict is too large");
  const std::string nested = "{% set ns = namespace(x=[1]) %}{% for a in range(999) %}{% set ns.x = [ns.x] %}";
  EXPECT_EQ(message_of(nested + "{% endfor %}"), "line 1: lists and dicts are nested deeper than 200");
  EXPECT_EQ(message_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "line 1: macros call each other too deeply");
  EXPECT_EQ(message_of("{{ " + std::string(5000, '(') + std::string(5000, ')') + " }}"),
            "line 1: the template is nested too deeply");
  EXPECT_EQ(message_of("{{ " + std::string(5000, '-') + "1 }}"), "line 1: the template is nested too deeply");
  std::string sum = "{{ 1", ifs;
  for (int i = 0; i < 5000; ++i) sum += "+1";
  EXPECT_EQ(message_of(sum + " }}"), "line 1: the expression is too long");
  for (int i = 0; i < 5000; ++i) ifs += "{% if 1 %}";
  EXPECT_EQ(message_of(ifs), "line 1: the template is nested too deeply");
  EXPECT_EQ(message_of("{% for a in range(999) %}{% endfor %}", none, {.steps = 9}),
            "line 1: the template takes too many steps");
}

// A long conversation needs more steps than a short one; the limits grow with it.
TEST(Jinja, LongConversationsAreRendered) {
  Json messages = Json::array();
  for (int i = 0; i < 20000; ++i) messages.push_back({{"role", i % 2 ? "assistant" : "user"}, {"content", "word"}});
  std::string why;
  const auto output = rendered(
      "{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role == 'user' and messages|length > 1 %}"
      "{% set ns.n = ns.n + 1 %}{% endif %}{{ m['content'] | trim }}{% endfor %}{{ ns.n }}",
      {{"messages", messages}}, why);
  ASSERT_TRUE(output) << why;
  EXPECT_EQ(output->size(), 20000u * 4 + 5);
}

// Namespaces and macros may hold themselves; a leak shows under the sanitizer.
TEST(Jinja, CirclesAreFreed) {
  std::string why;
  EXPECT_EQ(rendered("{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.all = [ns] %}"
                     "{% macro m() %}x{% endmacro %}{% set ns.m = m %}{{ ns.me.m() }}",
                     Json::object(), why),
            "x");
}

// Any bytes give a text or an Error.
TEST(Jinja, DamagedTemplatesAreRefusedOrRendered) {
  const Json conversations = read_json("conversations.json");
  const std::string alphabet = "{}%-+#|().[]:,='\"~*/<> \n\\_ae09\xc3\xff";
  std::mt19937 random(20240607);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  int texts = 0, refused = 0;
  for (const auto& entry : fs::directory_iterator(kData / "templates")) {
    const std::string valid = read_text(entry.path());
    for (int round = 0; round < 60; ++round) {
      std::string source = valid;
      for (size_t edits = 1 + below(3); edits > 0; --edits) {
        const size_t at = below(source.size());
        switch (below(3)) {
          case 0:
            source[at] = alphabet[below(alphabet.size())];
            break;
          case 1:
            source.erase(at, 1 + below(8));
            break;
          default:
            source.insert(at, source.substr(below(source.size()), below(40)));
            break;
        }
      }
      std::string why;
      rendered(source, conversations.begin().value(), why, {.steps = 100'000, .bytes = 1 << 20}) ? ++texts : ++refused;
    }
  }
  EXPECT_GT(texts, 200);
  EXPECT_GT(refused, 200);
}

}  // namespace
}  // namespace roundhouse::jinja

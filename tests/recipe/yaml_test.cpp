// SPDX-License-Identifier: Apache-2.0
#include "host/yaml/yaml.h"

#include <gtest/gtest.h>

#include "host/base/error.h"

namespace roundhouse::yaml {
namespace {

Node parse(const std::string& text) { return Node::parse(text, {"r.yaml", "/folder"}); }

template <typename Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Yaml, ScalarsHaveTypes) {
  const Node node = parse(
      "{n: 8, plus: +8, f: 1.5e-3, whole: 2, t: true, s: W4A16, quoted: '8', none: , tilde: ~, "
      "hex: 0x10, inf: .inf, huge: 99999999999999999999, v: 1.2.3, dash: '-'}");
  EXPECT_EQ(node.at("n").as_int(0), 8);
  EXPECT_EQ(node.at("plus").as_int(0), 8);
  EXPECT_EQ(node.at("f").as_number(0), 1.5e-3);
  EXPECT_EQ(node.at("whole").as_number(0), 2);
  EXPECT_TRUE(node.at("t").as_bool());
  EXPECT_EQ(node.at("s").as_text(), "W4A16");
  EXPECT_EQ(node.at("quoted").as_text(), "8");
  EXPECT_TRUE(node.at("none").is_null());
  EXPECT_TRUE(node.at("tilde").is_null());
  EXPECT_EQ(node.at("hex").as_text(), "0x10");
  EXPECT_EQ(node.at("inf").as_text(), ".inf");
  EXPECT_EQ(node.at("huge").as_number(0), 1e20);
  EXPECT_EQ(node.at("v").as_text(), "1.2.3");
  EXPECT_EQ(error_of([&] { node.at("quoted").as_int(0, 9); }),
            "r.yaml:1:66: quoted: must be a whole number from 0 to 9, not \"8\"");
  EXPECT_EQ(error_of([&] { node.at("n").as_int(9); }), "r.yaml:1:5: n: must be a whole number, at least 9, not 8");
  EXPECT_EQ(error_of([&] { node.at("n").as_text(); }), "r.yaml:1:5: n: must be text (in quotes?), not 8");
  EXPECT_EQ(error_of([&] { node.at("f").as_int(0); }),
            "r.yaml:1:21: f: must be a whole number, at least 0, not 0.0015");
}

TEST(Yaml, AliasesRepeat) {
  const Node node = parse("a: &x {k: 1}\nb: *x");
  EXPECT_EQ(node.at("b").at("k").as_int(0), 1);
}

TEST(Yaml, RefusedDocuments) {
  EXPECT_EQ(error_of([] { parse("a: 1\nb: [\n"); }), "r.yaml:3:1: end of sequence flow not found");
  EXPECT_EQ(error_of([] { parse("a: 1\nb: 2\na: 3"); }), "r.yaml:3:1: the key a is there twice");
  EXPECT_EQ(error_of([] { parse("a: !!python/object:os.system ls"); }),
            "r.yaml:1:4: a: has the tag tag:yaml.org,2002:python/object:os.system; tags are not supported");
  EXPECT_EQ(error_of([] { parse("a: 1\nb:\n\tc: 2\n"); }),
            "r.yaml:3:3: illegal map value. Line 3 is indented with a tab: YAML takes spaces alone");
  EXPECT_EQ(error_of([] { parse("a:1\nb: 2\n"); }),
            "r.yaml:2:2: illegal map value. Line 1 has no space behind its colon");
  EXPECT_EQ(error_of([] { parse("a:\u00a01\nb: 2\n"); }),
            "r.yaml:2:2: illegal map value. Line 1 has a no-break space: put an ordinary one");
  EXPECT_EQ(error_of([] { parse("a: &a {b: 1}\nc: {<<: *a}"); }),
            "r.yaml:2:5: c: << (a merge key) is not supported: write the keys out");
  EXPECT_EQ(error_of([] { parse("a: 1\n---\nb: 2"); }), "r.yaml: has something after the end of its YAML document");
  EXPECT_EQ(error_of([] { parse("[a]: 1"); }), "r.yaml:1:1: a key must be plain text");
  EXPECT_EQ(error_of([] { parse("a: \xff"); }), "r.yaml: is not UTF-8 text");
  EXPECT_EQ(error_of([] { parse("\xff\xfe\x61"); }),
            "r.yaml: is not UTF-8 text, but UTF-16, as PowerShell's > writes it. Convert it: iconv -f UTF-16 -t UTF-8");
  EXPECT_EQ(error_of([] { Node::load("/no/such.yaml"); }), "/no/such.yaml: cannot be read");
}

TEST(Yaml, AliasesThatLoopOrExplodeAreRefused) {
  EXPECT_EQ(error_of([] { parse("a: &a [*a]"); }), "r.yaml:1:8: a.0: is an alias inside its own anchor");
  EXPECT_EQ(error_of([] { parse(",a: 1"); }), "r.yaml: has something after the end of its YAML document");
  std::string bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int level = 1; level < 9; ++level) {
    bomb += cat("l", level, ": &l", level, " [");
    for (int i = 0; i < 10; ++i) bomb += cat("*l", level - 1, ", ");
    bomb += "]\n";
  }
  EXPECT_NE(error_of([&] { parse(bomb); }).find("is too large"), std::string::npos);
  EXPECT_NE(error_of([] { parse(std::string(20'000, '[')); }), "no error");
}

TEST(Yaml, SetFollowsDottedPaths) {
  Node node = parse("a: {b: 1}\nlist: [{c: 1}, 2]");
  const auto set = [&](const std::string& path, const std::string& text) {
    node.set(path, Node::parse(text, {"--set " + path, "/elsewhere", false}, path));
  };
  set("a.b", "2");
  set("list.0.c", "x");
  set("list.1", "[3]");
  set("new.deep.key", "true");
  EXPECT_EQ(node.as_json(), nlohmann::json::parse(R"({"a": {"b": 2}, "list": [{"c": "x"}, [3]],
                                                      "new": {"deep": {"key": true}}})"));
  EXPECT_EQ(error_of([&] { set("a.b.c", "1"); }), "--set a.b.c: a.b.c: a.b is 2, not a mapping; set a.b as a whole");
  EXPECT_EQ(error_of([&] { set("list.2", "1"); }),
            "--set list.2: list.2: list is a list of 2; write its index, from 0, in place of 2");
  EXPECT_EQ(error_of([&] { node.at("new").only({"deeper"}); }),
            "--set new.deep.key: new: there is no key deep (did you mean deeper?). Known: deeper");
  EXPECT_EQ(error_of([&] { node.at("list").at("0"); }), "r.yaml:2:7: list: must be a mapping, not a list");
  set("path", "x/../y/");
  EXPECT_EQ(node.at("path").as_path(), "/elsewhere/y");
}

TEST(Yaml, WhatIsEmittedReadsBackTheSame) {
  const auto value = nlohmann::ordered_json::parse(R"({
    "version": 1, "text": "plain", "number-like": "1e3", "boolean-like": "true", "null-like": "~", "colon": "re:.*\\.x",
    "control": "a\u0001\n\t\"\\", "wide": "ж🙂", "empty": "", "dash": "- a", "real": 0.1, "small": 1e-7, "big": 1e22,
    "list": [1, "a b", [2, 3], true], "none": null, "no list": [], "no map": {},
    "maps": [{"match": "a", "deep": {"x": [1, {"y": 2}], "z": {}}}, "text", {"only": "one"}, {}, []],
    "map": {"a": {"b": {"c": -5}}}})");
  const std::string text = emit(value);
  EXPECT_EQ(parse(text).as_json(), nlohmann::json(value)) << text;
}

}  // namespace
}  // namespace roundhouse::yaml

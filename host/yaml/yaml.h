// SPDX-License-Identifier: Apache-2.0
// YAML with types: every value knows where it was written, and every error says so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace roundhouse::yaml {

// What a document was read from.
struct Source {
  std::string name;              // "configs/recipe.yaml", or an option: "--set tuning.iters=0"
  std::filesystem::path folder;  // that relative paths in it start from
  bool has_lines = true;         // errors tell line and column
};

// A value of a document, with its own copy of what is below it. Scalars have YAML's core types: without quotes, true is
// a boolean and 8 a number. Every reading function throws Error "file:line:column: key: must be ..., not ..." when the
// value is of another type. Immutable but for set(); safe to read from several threads.
class Node {
 public:
  // Reads the one document of a file. Throws Error: unreadable, not UTF-8, a syntax error, a key that is there twice, a
  // tag, or more nodes than a recipe could have (an alias may repeat what is large).
  static Node load(const std::filesystem::path& file);
  // `path` is the dotted key that the value will have.
  static Node parse(const std::string& text, Source source, const std::string& path = "");

  bool is_null() const { return kind_ == Kind::kNull; }
  bool is_text() const { return kind_ == Kind::kText; }
  bool is_list() const { return kind_ == Kind::kList; }
  bool is_map() const { return kind_ == Kind::kMap; }

  int64_t as_int(int64_t min, int64_t max = std::numeric_limits<int64_t>::max()) const;
  double as_number(double min) const;  // at least `min`; whole numbers are numbers, too
  bool as_bool() const;
  const std::string& as_text() const;     // not empty
  std::filesystem::path as_path() const;  // absolute
  const std::vector<Node>& as_list() const;
  nlohmann::json as_json() const;

  // Members of a map, in their order. Nothing (`tuning:` and no more) is an empty map.
  std::vector<std::pair<std::string, const Node*>> members() const;
  const Node* find(std::string_view key) const;  // NULL: not there
  const Node& at(std::string_view key) const;    // throws Error when it is not there
  // Throws Error for the first key that is not among `keys`, with the nearest of them.
  void only(const std::vector<std::string>& keys) const;

  // Puts `value` at a dotted path of keys and list indices; maps on the way are made where nothing is.
  // Throws Error when the path leads through a scalar or past a list's end.
  void set(std::string_view path, Node value);

  // "configs/recipe.yaml:3:7", or the option.
  std::string place() const;
  // Throws Error "<place>: <path>: <message>".
  [[noreturn]] void fail(const std::string& message) const;

 private:
  enum class Kind { kNull, kBool, kInt, kFloat, kText, kList, kMap };
  class Builder;

  std::string shown() const;  // for messages
  [[noreturn]] void fail_type(const std::string& expected) const;

  Kind kind_ = Kind::kNull;
  nlohmann::json scalar_;
  std::vector<Node> children_;  // of a list or map
  std::vector<Node> keys_;      // of a map, beside children_; their path_ is the map's
  std::shared_ptr<const Source> source_;
  int line_ = 0, column_ = 0;  // from 1; 0: not known
  std::string path_;           // "layers.0.bits"
};

// A JSON object as YAML that Node reads as the same: a line a key, lists without maps in one line.
std::string emit(const nlohmann::ordered_json& map);

}  // namespace roundhouse::yaml

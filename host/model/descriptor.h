// SPDX-License-Identifier: Apache-2.0
// Architecture descriptors: finding the one for a config.json, and reading values that one file refers to in the other.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace roundhouse {

struct Descriptor {
  std::filesystem::path file, config_file;
  nlohmann::json yaml, config;
  // `yaml` with the words of each of its `spellings` in place of "{WORD}"; itself it has the first. Empty: it has none.
  std::vector<nlohmann::json> spellings = {};
};

// The descriptor of one block: with the block's number in place of "{block}".
Descriptor of_block(const Descriptor& descriptor, int64_t block);

// Which descriptor a model has.
struct FamilyChoice {
  std::string family;      // that of this family; "": that which lists the model_type
  bool generic = false;    // where none lists it, the generic one
  std::string place = {};  // where the family is named, for messages; "": nowhere that has a place
};

// A descriptor lists a model_type, or "TYPE/TEXT": with the model_type of config.json's text_config. Throws Error when
// config.json cannot be read, or there is no such descriptor.
Descriptor find_descriptor(const std::filesystem::path& model_dir,
                           const std::vector<std::filesystem::path>& descriptor_dirs, const FamilyChoice& choice = {});

// A descriptor that is there for a family, and what it lists.
struct FamilyRecord {
  std::string family;
  std::vector<std::string> model_types;  // those that no descriptor before it lists
  std::filesystem::path file;
  bool generic = false;  // it describes no blocks: generic.h
};
// All in these folders, best first. Throws Error for a descriptor that cannot be read.
std::vector<FamilyRecord> list_families(const std::vector<std::filesystem::path>& descriptor_dirs);

// A value of the descriptor, or of config.json where the descriptor says {key: NAME}. Borrows the Descriptor.
//   {key: NAME}                     the value of config.json's NAME, which must be there; a.b is b in the map a, or the b-th of the list a
//   {key: NAME, default: VALUE}     VALUE when NAME is absent (null counts as there)
//   {key: [NAME, OTHER], ...}       the first that is there and neither null nor empty
//   {key: NAME, is: VALUE}          whether config.json's NAME is VALUE; where it is absent, `default`, else false
//   {is_set: NAME} or [NAME, OTHER] whether one is there and neither null nor empty
//   {choose: [{when: FLAG, value: VALUE}, ...]}  the first value whose flag is true, or is not there
// The accessors throw Error naming file and key when the value has another type.
class Value {
 public:
  explicit Value(const Descriptor& descriptor);  // the whole descriptor

  // Members of a map. `at` throws when absent; `only` throws when the map has another member than these and `more`.
  Value at(std::string_view key) const;
  std::optional<Value> find(std::string_view key) const;
  void only(std::initializer_list<std::string_view> keys, std::span<const std::string_view> more = {}) const;
  // config.json's first of these keys that is there and neither null nor empty; else null.
  Value in_config(const std::vector<std::string>& keys) const;
  std::vector<Value> items() const;
  std::vector<std::pair<std::string, Value>> members() const;

  bool is_null() const { return value_.is_null(); }
  bool is_map() const { return value_.is_object(); }
  bool is_list() const { return value_.is_array(); }
  bool is_flag() const { return value_.is_boolean(); }
  bool is_text() const { return value_.is_string(); }
  int64_t positive() const;  // an integer > 0
  int64_t integer() const;
  double number() const;
  bool flag() const;
  std::string text() const;
  // All of it, with values of config.json wherever it refers to some.
  nlohmann::json resolved() const;

  // "/models/x/config.json: hidden_size": where the value came from.
  std::string origin() const;
  [[noreturn]] void fail(const std::string& expected) const;

 private:
  Value(const Descriptor& descriptor, nlohmann::json value, std::filesystem::path file, std::string path);
  void follow_key();
  void choose();
  std::vector<std::string> names_under(const char* key) const;

  const Descriptor* descriptor_;
  nlohmann::json value_;
  std::filesystem::path file_;  // the descriptor or config.json
  std::string path_;            // in that file: "block.steps[0].attention"
};

}  // namespace roundhouse

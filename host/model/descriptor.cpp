// SPDX-License-Identifier: Apache-2.0
#include "host/model/descriptor.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/model_folder.h"
#include "host/base/suggest.h"
#include "host/yaml/yaml.h"

namespace roundhouse {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

std::vector<std::filesystem::path> descriptor_files(const std::filesystem::path& dir) {
  std::vector<std::filesystem::path> files;
  if (!std::filesystem::is_directory(dir)) return files;
  for (const auto& entry : std::filesystem::directory_iterator(dir))
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::string joined(const auto& texts) {
  std::string all;
  for (const auto& text : texts) all += (all.empty() ? "" : ", ") + std::string(text);
  return all;
}

std::string shown(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

// "" where there is none. section: of a map in config.json.
std::string model_type(const json& config, const char* section = nullptr) {
  if (section) return config.contains(section) && config[section].is_object() ? model_type(config[section]) : "";
  const auto type = config.find("model_type");
  return type != config.end() && type->is_string() ? type->get<std::string>() : "";
}

// The value of "a.b" in a map, or of "3.b" in a list; nullptr where it is not there.
const json* value_at(const json& from, const std::string& path) {
  if (from.is_array()) {
    size_t index = 0;
    const auto [end, error] = std::from_chars(path.data(), path.data() + path.size(), index);
    if (error != std::errc() || index >= from.size()) return nullptr;
    if (end == path.data() + path.size()) return &from[index];
    return *end == '.' ? value_at(from[index], end + 1) : nullptr;
  }
  if (!from.is_object()) return nullptr;
  if (const auto found = from.find(path); found != from.end()) return &*found;
  const size_t dot = path.find('.');
  const auto inner = from.find(path.substr(0, dot));
  return dot == std::string::npos || inner == from.end() ? nullptr : value_at(*inner, path.substr(dot + 1));
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

// Spells the descriptor out.
Descriptor with_spellings(Descriptor descriptor) {
  const auto spellings = Value(descriptor).find("spellings");
  if (!spellings) return descriptor;
  json unspelled = descriptor.yaml;
  unspelled.erase("spellings");
  for (const Value& words : spellings->items()) {
    std::string text = unspelled.dump();
    for (const auto& [word, value] : words.members()) replace_all(text, "{" + word + "}", value.text());
    descriptor.spellings.push_back(json::parse(text));
  }
  if (descriptor.spellings.empty()) spellings->fail("a list of maps");
  descriptor.yaml = descriptor.spellings.front();
  return descriptor;
}

// Why the descriptor declines the config, or "": the reason of the first of `refuse` that holds.
std::string refusal(const Descriptor& descriptor) {
  const auto guards = Value(descriptor).find("refuse");
  if (!guards) return "";
  for (const Value& guard : guards->items()) {
    guard.only({"when", "unless", "reason"});
    const auto when = guard.find("when");
    if (when ? when->flag() : !guard.at("unless").flag()) return guard.at("reason").text();
  }
  return "";
}

}  // namespace

Descriptor of_block(const Descriptor& descriptor, int64_t block) {
  Descriptor own = descriptor;
  std::string text = own.yaml.dump();
  replace_all(text, "{block}", std::to_string(block));
  own.yaml = json::parse(text);
  return own;
}

std::vector<FamilyRecord> list_families(const std::vector<std::filesystem::path>& descriptor_dirs) {
  std::vector<FamilyRecord> families;
  std::set<std::string> known;
  for (const auto& dir : descriptor_dirs) {
    for (const auto& file : descriptor_files(dir)) {
      const Descriptor descriptor{file, {}, yaml::Node::load(file).as_json(), {}};
      const Value root(descriptor);
      if (root.at("version").integer() != kVersion)
        throw Error(cat(root.at("version").origin(), ": this Roundhouse reads version ", kVersion, " only"));
      FamilyRecord& record =
          families.emplace_back(FamilyRecord{root.at("family").text(), {}, file, descriptor.yaml.contains("weights")});
      for (const Value& model_type : root.at("model_types").items())
        if (known.insert(model_type.text()).second) record.model_types.push_back(model_type.text());
    }
  }
  return families;
}

Descriptor find_descriptor(const std::filesystem::path& model_dir,
                           const std::vector<std::filesystem::path>& descriptor_dirs, const FamilyChoice& choice) {
  Descriptor found;
  found.config_file = model_dir / "config.json";
  require_config(model_dir);
  found.config = read_json_object(found.config_file);
  const std::string type = model_type(found.config),
                    text_type = cat(type, "/", model_type(found.config, "text_config"));
  if (type.empty() && choice.family.empty() && !choice.generic)
    throw Error(cat(found.config_file.string(), ": has no model_type, so its architecture is not known"));

  std::set<std::string> known, families;
  std::filesystem::path generic;
  for (const FamilyRecord& record : list_families(descriptor_dirs)) {
    const auto& listed = record.model_types;
    known.insert(listed.begin(), listed.end());
    families.insert(record.family);
    if (record.generic && generic.empty()) generic = record.file;
    const bool lists = std::any_of(listed.begin(), listed.end(),
                                   [&](const std::string& each) { return each == type || each == text_type; });
    if (!(choice.family.empty() ? lists : record.family == choice.family)) continue;
    found.file = record.file;
    found.yaml = yaml::Node::load(record.file).as_json();
    const std::string refused = refusal(found);
    if (refused.empty()) return with_spellings(std::move(found));
    if (choice.generic && choice.family.empty()) continue;  // to the generic one
    throw Error(cat(
        found.config_file.string(), ": ", refused, " (", found.file.string(), " declines it)",
        choice.family.empty() ? ". Weights of any family can be rounded without tuning: set tuning.iters to 0" : ""));
  }
  if (choice.generic && !generic.empty()) {
    found.file = generic;
    found.yaml = yaml::Node::load(generic).as_json();
    return found;
  }
  std::vector<std::string> searched;
  for (const auto& dir : descriptor_dirs) searched.push_back(dir.string());
  if (!choice.family.empty())
    throw Error(cat(choice.place, choice.place.empty() ? "" : ": ", "architecture: no descriptor is of the family ",
                    choice.family, suggest(choice.family, {families.begin(), families.end()}),
                    ". Known: ", joined(families), ". Searched: ", joined(searched)));
  throw Error(cat(found.config_file.string(), ": no architecture descriptor lists the model_type ",
                  shown(found.config["model_type"]), ". Known: ", known.empty() ? "none" : joined(known),
                  ". Searched: ", joined(searched),
                  ". To add one, put a YAML file that lists it into one of these folders, after the model of those "
                  "in configs/architectures (README.md there explains them).",
                  !generic.empty() ? " Weights of any family can be rounded without one: set tuning.iters to 0." : ""));
}

Value::Value(const Descriptor& descriptor) : Value(descriptor, descriptor.yaml, descriptor.file, "") {}

Value::Value(const Descriptor& descriptor, json value, std::filesystem::path file, std::string path)
    : descriptor_(&descriptor), value_(std::move(value)), file_(std::move(file)), path_(std::move(path)) {
  if (file_ != descriptor.file || !value_.is_object()) return;
  if (value_.contains("is_set")) {
    only({"is_set"});
    const std::vector<std::string> names = names_under("is_set");
    value_ = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      const json* const found = value_at(descriptor.config, name);
      return found && !found->empty();
    });
  } else if (value_.contains("choose")) {
    choose();
  } else if (value_.contains("key")) {
    follow_key();
  }
}

void Value::choose() {
  only({"choose"});
  for (const Value& choice : at("choose").items()) {
    choice.only({"when", "value"});
    if (const auto when = choice.find("when"); when && !when->flag()) continue;
    const Value chosen = choice.at("value");
    *this = chosen;
    return;
  }
  fail("a list of which one holds");
}

std::vector<std::string> Value::names_under(const char* key) const {
  std::vector<std::string> names;
  for (const json& name : value_[key].is_array() ? value_[key] : json::array({value_[key]})) {
    if (!name.is_string()) fail(cat("{", key, ": NAME} or {", key, ": [NAME, ...]}"));
    names.push_back(name);
  }
  return names;
}

void Value::follow_key() {
  only({"key", "default", "is"});
  const std::vector<std::string> names = names_under("key");
  const json& config = descriptor_->config;
  for (const std::string& name : names) {
    const json* const found = value_at(config, name);
    if (!found || (found->empty() && name != names.back())) continue;
    if (value_.contains("is")) {
      const bool equal = *found == value_["is"];
      value_ = equal;
      return;
    }
    value_ = *found;
    file_ = descriptor_->config_file;
    path_ = name;
    return;
  }
  if (value_.contains("is") && !value_.contains("default")) value_["default"] = false;
  if (!value_.contains("default"))
    throw Error(
        cat(descriptor_->config_file.string(), ": the key ", joined(names), " is missing; ", origin(), " asks for it"));
  const json value = value_["default"];
  value_ = value;
}

std::string Value::origin() const { return file_.string() + (path_.empty() ? "" : ": " + path_); }

Value Value::at(std::string_view key) const {
  if (auto member = find(key)) return *member;
  throw Error(cat(origin(), ": the key ", key, " is missing"));
}

std::optional<Value> Value::find(std::string_view key) const {
  if (!value_.is_object()) fail("a map");
  const auto member = value_.find(key);
  if (member == value_.end()) return std::nullopt;
  return Value(*descriptor_, *member, file_, path_ + (path_.empty() ? "" : ".") + std::string(key));
}

Value Value::in_config(const std::vector<std::string>& keys) const {
  return {*descriptor_, {{"key", keys}, {"default", nullptr}}, descriptor_->file, path_};
}

void Value::only(std::initializer_list<std::string_view> keys, std::span<const std::string_view> more) const {
  if (!value_.is_object()) fail("a map");
  std::vector<std::string_view> known(keys);
  known.insert(known.end(), more.begin(), more.end());
  for (const auto& [key, member] : value_.items())
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw Error(cat(origin(), ": the key ", key, " is unknown; known are ", joined(known)));
}

std::vector<Value> Value::items() const {
  if (!value_.is_array()) fail("a list");
  std::vector<Value> all;
  for (size_t i = 0; i < value_.size(); ++i)
    all.push_back(Value(*descriptor_, value_[i], file_, cat(path_, "[", i, "]")));
  return all;
}

std::vector<std::pair<std::string, Value>> Value::members() const {
  if (!value_.is_object()) fail("a map");
  std::vector<std::pair<std::string, Value>> all;
  for (const auto& [key, member] : value_.items()) all.emplace_back(key, at(key));
  return all;
}

int64_t Value::integer() const {
  if (!value_.is_number_integer()) fail("an integer");
  return value_;
}

int64_t Value::positive() const {
  if (!value_.is_number_integer() || value_.get<int64_t>() <= 0) fail("an integer above 0");
  return value_;
}

double Value::number() const {
  if (!value_.is_number()) fail("a number");
  return value_;
}

bool Value::flag() const {
  if (!value_.is_boolean() && !value_.is_null()) fail("true or false");
  return value_ == true;  // null is none, as in Python
}

std::string Value::text() const {
  if (!value_.is_string()) fail("a text");
  return value_;
}

nlohmann::json Value::resolved() const {
  nlohmann::json all = value_;
  if (is_map())
    for (const auto& [key, member] : members()) all[key] = member.resolved();
  if (is_list())
    for (size_t i = 0; i < value_.size(); ++i) all[i] = items()[i].resolved();
  return all;
}

void Value::fail(const std::string& expected) const {
  throw Error(cat(origin(), " is ", shown(value_), ", but ", expected, " is expected"));
}

}  // namespace roundhouse

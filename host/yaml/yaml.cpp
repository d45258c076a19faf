// SPDX-License-Identifier: Apache-2.0
#include "host/yaml/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <charconv>
#include <map>
#include <set>
#include <sstream>

#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/suggest.h"
#include "host/base/words.h"

namespace roundhouse::yaml {
namespace {

using nlohmann::json;

// Far beyond any recipe, and soon reached by aliases of aliases.
constexpr int kMaxNodes = 100'000;
constexpr size_t kMaxDepth = 100;

std::string below(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

// The whole of `text` as a number, or nothing.
template <typename T>
std::optional<T> number_in(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A scalar without quotes by YAML 1.2's core schema, without octal, hexadecimal, infinities and NaN: those are text.
json plain_scalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  if (text.find_first_not_of("+-.0123456789eE") != std::string::npos) return text;
  if (const auto whole = number_in<int64_t>(text)) return *whole;
  if (const auto real = number_in<double>(text)) return *real;
  return text;
}

// What people write where the parser, which says something of the next line, stops; lines from 0.
std::string cause(const std::string& text, int line) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string each; std::getline(in, each);) lines.push_back(each);
  for (int at = std::min(line, static_cast<int>(lines.size()) - 1); at >= std::max(0, line - 1); --at) {
    const std::string& each = lines[static_cast<size_t>(at)];
    const auto told = [&](const char* what) { return cat(". Line ", at + 1, " ", what); };
    if (each.substr(0, each.find_first_not_of(" \t")).find('\t') != std::string::npos)
      return told("is indented with a tab: YAML takes spaces alone");
    if (each.find("\xc2\xa0") != std::string::npos) return told("has a no-break space: put an ordinary one");
    if (const size_t colon = each.find(':'); colon != std::string::npos && colon > 0 && colon + 1 < each.size() &&
                                             std::string_view(" \t\r").find(each[colon + 1]) == std::string_view::npos)
      return told("has no space behind its colon");
  }
  return "";
}

}  // namespace

// Makes the tree from yaml-cpp's events: its own nodes forget keys' places and may loop.
class Node::Builder : public YAML::EventHandler {
 public:
  explicit Builder(Source source) : source_(std::make_shared<Source>(std::move(source))) {}

  Node document(const std::string& text, const std::string& path) {
    try {
      json(text).dump();  // throws for what is not UTF-8
    } catch (const json::exception&) {
      const bool utf16 = text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff");
      throw Error(source_->name + ": is not UTF-8 text" +
                  (utf16 ? ", but UTF-16, as PowerShell's > writes it. Convert it: iconv -f UTF-16 -t UTF-8" : ""));
    }
    root_path_ = path;
    add(at(YAML::Mark(), path), 0);
    try {
      std::istringstream in(text);
      YAML::Parser parser(in);
      if (parser.HandleNextDocument(*this) && parser.HandleNextDocument(*this))
        throw Error(source_->name + ": has something after the end of its YAML document");
    } catch (const YAML::Exception& e) {
      at(e.mark, "").fail(e.msg + cause(text, e.mark.line));
    }
    check_keys(root_);
    return std::move(root_);
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(at(mark, next_path()), anchor); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) at(mark, next_path()).fail("is an alias inside its own anchor");
    Node copy = found->second;
    move_to(copy, next_path());
    add(std::move(copy), 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = at(mark, next_path());
    refuse_tag(node, tag);
    node.scalar_ = tag == kQuoted ? json(value) : plain_scalar(value);
    node.kind_ = kind_of(node.scalar_);
    if (expects_key()) {  // a key is text, whatever it looks like
      if (value == "<<" && tag != kQuoted) node.fail("<< (a merge key) is not supported: write the keys out");
      node.scalar_ = value;
      node.kind_ = Kind::kText;
    }
    add(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  static constexpr const char* kQuoted = "!";  // yaml-cpp's tag for a scalar with quotes, "?" for others

  // A list or map whose end has not come.
  struct Open {
    Node node;
    YAML::anchor_t anchor;
  };

  Node at(const YAML::Mark& mark, const std::string& path) const {
    Node node;
    node.source_ = source_;
    node.path_ = path;
    if (!mark.is_null()) {
      node.line_ = mark.line + 1;
      node.column_ = mark.column + 1;
    }
    return node;
  }

  static std::string key_text(const Node& key) { return key.is_text() ? key.scalar_.get<std::string>() : key.shown(); }

  bool expects_key() const {
    return !open_.empty() && open_.back().node.is_map() &&
           open_.back().node.keys_.size() == open_.back().node.children_.size();
  }

  // Of the node that comes now; a key has its map's.
  std::string next_path() const {
    if (open_.empty()) return root_path_;
    const Node& parent = open_.back().node;
    if (parent.is_list()) return below(parent.path_, std::to_string(parent.children_.size()));
    if (expects_key()) return parent.path_;
    return below(parent.path_, key_text(parent.keys_.back()));
  }

  void refuse_tag(const Node& node, const std::string& tag) const {
    if (!tag.empty() && tag != "?" && tag != kQuoted) node.fail(cat("has the tag ", tag, "; tags are not supported"));
  }

  void open(Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    Node node = at(mark, next_path());
    refuse_tag(node, tag);
    if (open_.size() >= kMaxDepth) node.fail("is too deep");
    node.kind_ = kind;
    open_.push_back({std::move(node), anchor});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    add(std::move(done.node), done.anchor);
  }

  void add(Node node, YAML::anchor_t anchor) {
    if (++nodes_ > kMaxNodes) node.fail("is too large");
    if (anchor) anchors_[anchor] = node;
    if (open_.empty()) {
      root_ = std::move(node);
    } else if (Node& parent = open_.back().node; !expects_key()) {
      parent.children_.push_back(std::move(node));
    } else {
      parent.keys_.push_back(std::move(node));
    }
  }

  // When all is read, so that a syntax error, which may look like a strange key at first, is told as what it is.
  void check_keys(const Node& node) const {
    std::set<std::string> seen;
    for (const Node& key : node.keys_) {
      if (!key.is_text()) key.fail("a key must be plain text");
      const std::string text = key.scalar_;
      if (!seen.insert(text).second) key.fail(cat("the key ", text, " is there twice"));
    }
    for (const Node& child : node.children_) check_keys(child);
  }

  // Gives a copied tree the path of the place where it is repeated.
  void move_to(Node& node, const std::string& path) {
    if (++nodes_ > kMaxNodes) node.fail("is too large (aliases of aliases?)");
    for (Node& key : node.keys_) key.path_ = path;
    for (size_t i = 0; i < node.children_.size(); ++i)
      move_to(node.children_[i], below(path, node.is_map() ? key_text(node.keys_[i]) : std::to_string(i)));
    node.path_ = path;
  }

  static Kind kind_of(const json& scalar) {
    switch (scalar.type()) {
      case json::value_t::null:
        return Kind::kNull;
      case json::value_t::boolean:
        return Kind::kBool;
      case json::value_t::number_integer:
        return Kind::kInt;
      case json::value_t::number_float:
        return Kind::kFloat;
      default:
        return Kind::kText;
    }
  }

  std::shared_ptr<const Source> source_;
  std::string root_path_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Node> anchors_;
  Node root_;
  int nodes_ = 0;
};

Node Node::load(const std::filesystem::path& file) {
  Source source{file.string(), std::filesystem::absolute(file).parent_path()};
  return Builder(std::move(source)).document(read_file(file), "");
}

Node Node::parse(const std::string& text, Source source, const std::string& path) {
  return Builder(std::move(source)).document(text, path);
}

int64_t Node::as_int(int64_t min, int64_t max) const {
  const bool bounded = max != std::numeric_limits<int64_t>::max();
  if (kind_ != Kind::kInt || scalar_.get<int64_t>() < min || scalar_.get<int64_t>() > max)
    fail_type(bounded ? cat("a whole number from ", min, " to ", max) : cat("a whole number, at least ", min));
  return scalar_.get<int64_t>();
}

double Node::as_number(double min) const {
  if ((kind_ != Kind::kInt && kind_ != Kind::kFloat) || !(scalar_.get<double>() >= min))
    fail_type(cat("a number, at least ", min));
  return scalar_.get<double>();
}

bool Node::as_bool() const {
  if (kind_ != Kind::kBool) fail_type("true or false");
  return scalar_.get<bool>();
}

const std::string& Node::as_text() const {
  if (kind_ == Kind::kBool || kind_ == Kind::kInt || kind_ == Kind::kFloat) fail_type("text (in quotes?)");
  if (kind_ != Kind::kText || scalar_.get_ref<const std::string&>().empty()) fail_type("text");
  return scalar_.get_ref<const std::string&>();
}

std::filesystem::path Node::as_path() const {
  std::filesystem::path path = (source_->folder / expand_home(as_text())).lexically_normal();
  return path.has_filename() ? path : path.parent_path();  // "out/" is "out"
}

const std::vector<Node>& Node::as_list() const {
  if (kind_ != Kind::kList) fail_type("a list");
  return children_;
}

json Node::as_json() const {
  if (kind_ == Kind::kList) {
    json list = json::array();
    for (const Node& item : children_) list.push_back(item.as_json());
    return list;
  }
  if (kind_ != Kind::kMap) return scalar_;
  json map = json::object();
  for (const auto& [key, value] : members()) map[key] = value->as_json();
  return map;
}

std::vector<std::pair<std::string, const Node*>> Node::members() const {
  if (kind_ != Kind::kMap && kind_ != Kind::kNull) fail_type("a mapping");
  std::vector<std::pair<std::string, const Node*>> members;
  for (size_t i = 0; i < keys_.size(); ++i) members.emplace_back(keys_[i].as_json(), &children_[i]);
  return members;
}

const Node* Node::find(std::string_view key) const {
  if (kind_ != Kind::kMap && kind_ != Kind::kNull) fail_type("a mapping");
  for (size_t i = 0; i < keys_.size(); ++i)
    if (keys_[i].scalar_ == key) return &children_[i];
  return nullptr;
}

const Node& Node::at(std::string_view key) const {
  if (const Node* value = find(key)) return *value;
  fail(cat(key, " is missing"));
}

void Node::only(const std::vector<std::string>& keys) const {
  members();
  for (const Node& key : keys_) {
    const std::string& text = key.scalar_.get_ref<const std::string&>();
    if (!contains(keys, text)) key.fail(cat("there is no key ", text, suggest(text, keys), ". Known: ", joined(keys)));
  }
}

void Node::set(std::string_view path, Node value) {
  const size_t dot = path.find('.');
  const std::string key(path.substr(0, dot));
  const auto assign = [&](Node& child) {
    if (dot == std::string_view::npos)
      child = std::move(value);
    else
      child.set(path.substr(dot + 1), std::move(value));
  };
  if (path_.empty() && kind_ != Kind::kMap && kind_ != Kind::kNull) fail_type("a mapping");  // the document
  if (kind_ == Kind::kList) {
    const auto index = number_in<size_t>(key);
    if (!index || *index >= children_.size())
      value.fail(cat(path_, " is a list of ", children_.size(), "; write its index, from 0, in place of ", key));
    return assign(children_[*index]);
  }
  if (kind_ != Kind::kMap && kind_ != Kind::kNull)
    value.fail(cat(path_, " is ", shown(), ", not a mapping; set ", path_, " as a whole"));
  kind_ = Kind::kMap;
  for (size_t i = 0; i < keys_.size(); ++i)
    if (keys_[i].scalar_ == key) return assign(children_[i]);
  Node written = value;
  written.children_.clear();
  written.keys_.clear();
  written.kind_ = Kind::kText;
  written.scalar_ = key;
  written.path_ = path_;
  Node child = written;  // for its place
  child.kind_ = Kind::kNull;
  child.scalar_ = nullptr;
  child.path_ = below(path_, key);
  assign(child);
  keys_.push_back(std::move(written));
  children_.push_back(std::move(child));
}

std::string Node::place() const {
  if (!source_->has_lines || line_ == 0) return source_->name;
  return cat(source_->name, ":", line_, ":", column_);
}

void Node::fail(const std::string& message) const {
  throw Error(cat(place(), ": ", path_, path_.empty() ? "" : ": ", message));
}

std::string Node::shown() const {
  if (kind_ == Kind::kNull) return "nothing";
  if (kind_ == Kind::kList) return "a list";
  if (kind_ == Kind::kMap) return "a mapping";
  return scalar_.dump();
}

void Node::fail_type(const std::string& expected) const { fail(cat("must be ", expected, ", not ", shown())); }

}  // namespace roundhouse::yaml

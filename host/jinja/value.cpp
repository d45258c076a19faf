// SPDX-License-Identifier: Apache-2.0
#include "host/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "host/jinja/python_text.h"

namespace roundhouse::jinja {
namespace {

// Throws TemplateError when what holds `inner` becomes too large.
void enclose(Extent& extent, const Extent& inner) {
  extent.depth = std::max(extent.depth, inner.depth + 1);
  extent.weight += inner.weight;
  if (extent.depth > kMaxValueDepth)
    throw TemplateError(cat("lists and dicts are nested deeper than ", kMaxValueDepth));
  if (extent.weight > kMaxValueWeight) throw TemplateError("a list or dict is too large");
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void write(const Value& value) {
    if (const std::string* text = value.text()) {
      write_text(*text);
    } else if (value.is_none()) {
      out += "null";
    } else if (value.is_bool()) {
      out += value.truth() ? "true" : "false";
    } else if (value.is_int()) {
      out += std::to_string(*value.as_int());
    } else if (value.is_float()) {
      out += float_text(*value.as_number());
    } else if (const auto list = value.list()) {
      write_all('[', ']', list->items, [this](const Value& item) { write(item); });
    } else if (const auto dict = value.dict()) {
      auto entries = dict->entries;
      if (style_.sort_keys)
        std::stable_sort(entries.begin(), entries.end(),
                         [](const auto& a, const auto& b) { return Value::compare(a.first, b.first) < 0; });
      write_all('{', '}', entries, [this](const auto& entry) {
        write_text(key_text(entry.first));
        out += style_.key_separator;
        write(entry.second);
      });
    } else {
      value.fail("be written as JSON");
    }
  }

  std::string out;

 private:
  static std::string float_text(double number) {
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return repr_float(number);
  }

  static std::string key_text(const Value& key) {
    if (const std::string* text = key.text()) return *text;
    if (key.is_bool()) return key.truth() ? "true" : "false";
    if (key.is_none()) return "null";
    if (key.is_int()) return std::to_string(*key.as_int());
    if (key.is_float()) return float_text(*key.as_number());
    key.fail("be a key of JSON");
  }

  template <typename Items, typename Write>
  void write_all(char open, char close, const Items& items, Write write_item) {
    out += open;
    ++level_;
    bool first = true;
    for (const auto& item : items) {
      if (!first) out += style_.indent ? without_space(style_.item_separator) : style_.item_separator;
      first = false;
      new_line();
      write_item(item);
    }
    --level_;
    if (!items.empty()) new_line();
    out += close;
  }

  // json.dumps has ", " in one line, and "," before a line's end.
  static std::string without_space(const std::string& separator) { return separator == ", " ? "," : separator; }

  void new_line() {
    if (!style_.indent) return;
    out += '\n';
    for (int i = 0; i < level_; ++i) out += *style_.indent;
  }

  void append_escape(char32_t c) {
    const char* const digits = "0123456789abcdef";
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += digits[(c >> shift) & 15];
  }

  void write_text(const std::string& text) {
    out += '"';
    for (const char32_t c : decode_utf8(text)) {
      if (c == '"' || c == '\\') {
        out += '\\';
        out += static_cast<char>(c);
      } else if (c == '\n') {
        out += "\\n";
      } else if (c == '\r') {
        out += "\\r";
      } else if (c == '\t') {
        out += "\\t";
      } else if (c == '\b') {
        out += "\\b";
      } else if (c == '\f') {
        out += "\\f";
      } else if (c < 0x20 || (style_.ascii && c >= 0x7f && c <= 0xffff)) {
        append_escape(c);
      } else if (style_.ascii && c > 0xffff) {
        append_escape(0xd800 + ((c - 0x10000) >> 10));
        append_escape(0xdc00 + ((c - 0x10000) & 0x3ff));
      } else {
        append_utf8(out, c);
      }
    }
    out += '"';
  }

  const JsonStyle& style_;
  int level_ = 0;
};

}  // namespace

const Value* Dict::find(const Value& key) const {
  for (const auto& [known, value] : entries)
    if (known == key) return &value;
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [known, value] : entries)
    if (const std::string* text = known.text(); text && *text == key) return &value;
  return nullptr;
}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [known, value] : attributes)
    if (known == name) return &value;
  return nullptr;
}

Value Value::list(std::vector<Value> items, bool tuple) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) enclose(list->extent, item.extent());
  list->items = std::move(items);
  list->tuple = tuple;
  Value value;
  value.data_ = std::shared_ptr<const List>(std::move(list));
  return value;
}

Value Value::dict(std::vector<std::pair<Value, Value>> entries) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, item] : entries) {
    enclose(dict->extent, key.extent());
    enclose(dict->extent, item.extent());
  }
  dict->entries = std::move(entries);
  Value value;
  value.data_ = std::shared_ptr<const Dict>(std::move(dict));
  return value;
}

Value Value::from_json(const nlohmann::ordered_json& json, int depth) {
  if (depth > kMaxValueDepth) throw TemplateError(cat("lists and dicts are nested deeper than ", kMaxValueDepth));
  using Type = nlohmann::ordered_json::value_t;
  switch (json.type()) {
    case Type::boolean:
      return json.get<bool>();
    case Type::number_integer:
      return json.get<int64_t>();
    case Type::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
        throw TemplateError(cat("the number ", json.dump(), " is beyond 64 bits"));
      return json.get<int64_t>();
    case Type::number_float:
      return json.get<double>();
    case Type::string:
      return json.get_ref<const std::string&>();
    case Type::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item, depth + 1));
      return list(std::move(items));
    }
    case Type::object: {
      std::vector<std::pair<Value, Value>> entries;
      entries.reserve(json.size());
      for (const auto& [key, item] : json.items()) entries.emplace_back(key, from_json(item, depth + 1));
      return dict(std::move(entries));
    }
    default:
      return none();
  }
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (const std::string* t = text()) return !t->empty();
  if (const auto l = list()) return !l->items.empty();
  if (const auto d = dict()) return !d->entries.empty();
  if (const auto number = as_number()) return *number != 0;
  return true;
}

std::optional<int64_t> Value::as_int() const {
  if (const bool* b = std::get_if<bool>(&data_)) return *b ? 1 : 0;
  if (const int64_t* i = std::get_if<int64_t>(&data_)) return *i;
  return std::nullopt;
}

std::optional<double> Value::as_number() const {
  if (const double* d = std::get_if<double>(&data_)) return *d;
  const auto whole = as_int();
  return whole ? std::optional(static_cast<double>(*whole)) : std::nullopt;
}

Extent Value::extent() const {
  if (const std::string* t = text()) return {0, 1 + t->size()};
  if (const auto l = list()) return l->extent;
  if (const auto d = dict()) return d->extent;
  return {};
}

const char* Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (text()) return "str";
  if (const auto l = list()) return l->tuple ? "tuple" : "list";
  if (dict()) return "dict";
  if (ns()) return "namespace";
  return loop() ? "loop" : "function";
}

void Value::fail(const std::string& what) const {
  if (const auto* undefined = std::get_if<Undefined>(&data_))
    throw TemplateError(undefined->why ? *undefined->why : cat("a value that is undefined cannot ", what));
  throw TemplateError(cat("a value of type ", type_name(), " cannot ", what));
}

bool operator==(const Value& a, const Value& b) {
  if (a.is_int() && b.is_int()) return *a.as_int() == *b.as_int();
  if (a.is_number() && b.is_number()) return *a.as_number() == *b.as_number();
  if (a.data_.index() != b.data_.index()) return false;
  if (a.is_undefined() || a.is_none()) return true;
  if (a.text()) return *a.text() == *b.text();
  if (const auto x = a.list(), y = b.list(); x) return x == y || (x->tuple == y->tuple && x->items == y->items);
  if (const auto x = a.dict(), y = b.dict(); x) {
    if (x == y) return true;
    if (x->entries.size() != y->entries.size()) return false;
    return std::all_of(x->entries.begin(), x->entries.end(), [&](const auto& entry) {
      const Value* other = y->find(entry.first);
      return other && *other == entry.second;
    });
  }
  return a.data_ == b.data_;
}

bool Value::same(const Value& a, const Value& b) {
  if (a.data_.index() != b.data_.index()) return false;
  if (a.is_number() || a.is_undefined() || a.text()) return a == b;
  if (a.list()) return a.list() == b.list();
  if (a.dict()) return a.dict() == b.dict();
  return a == b;
}

int Value::compare(const Value& a, const Value& b) {
  const auto order = [](const auto& x, const auto& y) { return x < y ? -1 : y < x ? 1 : 0; };
  if (a.is_undefined()) a.fail("be compared");
  if (b.is_undefined()) b.fail("be compared");
  if (const auto x = a.as_int(), y = b.as_int(); x && y) return order(*x, *y);
  if (const auto x = a.as_number(), y = b.as_number(); x && y) return order(*x, *y);
  if (a.text() && b.text()) return order(*a.text(), *b.text());  // by bytes is by characters in UTF-8
  if (const auto x = a.list(), y = b.list(); x && y && x->tuple == y->tuple) {
    for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i)
      if (!(x->items[i] == y->items[i])) return compare(x->items[i], y->items[i]);
    return order(x->items.size(), y->items.size());
  }
  throw TemplateError(cat("values of types ", a.type_name(), " and ", b.type_name(), " have no order"));
}

std::string Value::str() const {
  if (const std::string* t = text()) return *t;
  if (is_undefined()) return "";
  return repr();
}

std::string Value::repr() const {
  std::string result;
  append_repr(result);
  return result;
}

void Value::append_repr(std::string& to) const {
  if (const std::string* t = text()) {
    to += repr_text(*t);
  } else if (is_undefined()) {
    to += "Undefined";
  } else if (is_none()) {
    to += "None";
  } else if (is_bool()) {
    to += truth() ? "True" : "False";
  } else if (is_int()) {
    to += std::to_string(*as_int());
  } else if (is_float()) {
    to += repr_float(*as_number());
  } else if (const auto l = list()) {
    to += l->tuple ? '(' : '[';
    for (size_t i = 0; i < l->items.size(); ++i) {
      if (i > 0) to += ", ";
      l->items[i].append_repr(to);
    }
    if (l->tuple && l->items.size() == 1) to += ',';
    to += l->tuple ? ')' : ']';
  } else if (const auto d = dict()) {
    to += '{';
    for (size_t i = 0; i < d->entries.size(); ++i) {
      if (i > 0) to += ", ";
      d->entries[i].first.append_repr(to);
      to += ": ";
      d->entries[i].second.append_repr(to);
    }
    to += '}';
  } else {
    fail("be printed");
  }
}

std::string to_json_text(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value);
  return std::move(writer.out);
}

}  // namespace roundhouse::jinja

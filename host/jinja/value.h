// SPDX-License-Identifier: Apache-2.0
// Values of a template: those of JSON, in the manner of Python, and what templates make.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "host/base/error.h"

namespace roundhouse::jinja {

class Context;
class Value;

// What goes wrong while rendering, without its line.
class TemplateError : public Error {
 public:
  using Error::Error;
};

// What a render may still use up.
class Budget {
 public:
  Budget(int64_t steps, int64_t bytes) : steps_(steps), bytes_(bytes) {}
  void spend_steps(size_t n) {
    if ((steps_ -= static_cast<int64_t>(n)) < 0) throw TemplateError("the template takes too many steps");
  }
  void spend_bytes(size_t n) {
    if ((bytes_ -= static_cast<int64_t>(n)) < 0) throw TemplateError("the template takes too much memory");
  }

 private:
  int64_t steps_, bytes_;
};

struct Undefined {
  std::shared_ptr<const std::string> why;  // "'tools' is undefined"
  bool operator==(const Undefined&) const { return true; }
};
struct None {
  bool operator==(const None&) const { return true; }
};

// How much walking a value takes. A list may hold the same list twice, so that a few of them are endless when printed;
// and what is deep is freed by recursion. Both have a limit.
struct Extent {
  int depth = 0;
  size_t weight = 1;  // values and bytes of texts, as often as they are met
};
inline constexpr int kMaxValueDepth = 200;
inline constexpr size_t kMaxValueWeight = size_t{1} << 28;

struct List {
  std::vector<Value> items;
  bool tuple = false;
  Extent extent;
};

// The items of a list, kept alive.
class Items {
 public:
  explicit Items(std::shared_ptr<const List> list) : list_(std::move(list)) {}
  std::vector<Value>::const_iterator begin() const;
  std::vector<Value>::const_iterator end() const;
  size_t size() const;
  bool empty() const;
  const Value& operator[](size_t i) const;
  const std::shared_ptr<const List>& list() const { return list_; }

 private:
  std::shared_ptr<const List> list_;
};

// Keys are unique and in the order of their first appearance.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  Extent extent;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;

  const Value* find(std::string_view name) const;
};

// `loop` in a for.
struct Loop {
  Items items;
  size_t index = 0;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Callable {
  std::string name;
  std::function<Value(Context&, Arguments&)> call;
};

class Value {
 public:
  Value() : data_(Undefined{}) {}
  static Value undefined(std::string why) {
    Value value;
    value.data_ = Undefined{std::make_shared<const std::string>(std::move(why))};
    return value;
  }
  static Value none() {
    Value value;
    value.data_ = None{};
    return value;
  }
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::string text) : data_(std::make_shared<const std::string>(std::move(text))) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(std::shared_ptr<Namespace> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const Loop> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const Callable> value) : data_(std::move(value)) {}
  // Throws TemplateError beyond the limits of extents.
  static Value list(std::vector<Value> items, bool tuple = false);
  static Value dict(std::vector<std::pair<Value, Value>> entries);
  // Throws TemplateError for whole numbers beyond 64 bits, and beyond the limit of depth.
  static Value from_json(const nlohmann::ordered_json& json, int depth = 0);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return text() != nullptr; }

  // NULL when the value is of another type.
  const std::string* text() const {
    const auto* held = std::get_if<std::shared_ptr<const std::string>>(&data_);
    return held ? held->get() : nullptr;
  }
  std::shared_ptr<const List> list() const { return pointer<const List>(); }
  std::shared_ptr<const Dict> dict() const { return pointer<const Dict>(); }
  std::shared_ptr<Namespace> ns() const { return pointer<Namespace>(); }
  std::shared_ptr<const Loop> loop() const { return pointer<const Loop>(); }
  std::shared_ptr<const Callable> callable() const { return pointer<const Callable>(); }

  bool truth() const;
  // True and False are 1 and 0. Nothing when it is no whole number, or no number.
  std::optional<int64_t> as_int() const;
  std::optional<double> as_number() const;

  Extent extent() const;
  const char* type_name() const;  // as Python calls it
  // Throws TemplateError for what was asked of an undefined value, else that the type cannot do `what`.
  [[noreturn]] void fail(const std::string& what) const;

  friend bool operator==(const Value& a, const Value& b);
  // `is sameas`.
  static bool same(const Value& a, const Value& b);
  // Below 0, 0, above 0. Throws TemplateError when Python has no order for them.
  static int compare(const Value& a, const Value& b);

  std::string str() const;   // as it is printed
  std::string repr() const;  // as it is printed inside a list

 private:
  template <typename T>
  std::shared_ptr<T> pointer() const {
    const auto* held = std::get_if<std::shared_ptr<T>>(&data_);
    return held ? *held : nullptr;
  }
  void append_repr(std::string& to) const;

  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, std::shared_ptr<Namespace>, std::shared_ptr<const Loop>,
               std::shared_ptr<const Callable>>
      data_;
};

// After the class, which they need whole.
inline std::vector<Value>::const_iterator Items::begin() const { return list_->items.begin(); }
inline std::vector<Value>::const_iterator Items::end() const { return list_->items.end(); }
inline size_t Items::size() const { return list_->items.size(); }
inline bool Items::empty() const { return list_->items.empty(); }
inline const Value& Items::operator[](size_t i) const { return list_->items[i]; }

struct JsonStyle {
  bool ascii = false, sort_keys = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ", key_separator = ": ";
};
// As json.dumps of Python writes it.
std::string to_json_text(const Value& value, const JsonStyle& style);

}  // namespace roundhouse::jinja

// SPDX-License-Identifier: Apache-2.0
// What templates find by name.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "host/jinja/context.h"
#include "host/jinja/syntax.h"

namespace roundhouse::jinja {

// A call's arguments by the parameters of what is called.
class Bound {
 public:
  // Throws TemplateError when there are others.
  Bound(const Arguments& arguments, const std::string& function, std::initializer_list<const char*> parameters);

  const Value* operator[](size_t i) const { return values_[i]; }  // NULL: not given
  // Each throws TemplateError when the value is of another type.
  const std::string& text(size_t i) const;
  std::optional<std::string_view> optional_text(size_t i) const;  // None counts as not given
  int64_t whole(size_t i, int64_t otherwise) const;
  bool flag(size_t i, bool otherwise) const { return values_[i] ? values_[i]->truth() : otherwise; }

 private:
  std::string function_;
  std::vector<const Value*> values_;
  std::vector<std::string> names_;
};

using Function = Value (*)(Context&, const Value& value, Arguments& arguments);
// NULL: there is none.
Function find_filter(const std::string& name);
Function find_test(const std::string& name);
// A method of the value's type.
Function find_method(const Value& value, const std::string& name);
// Whether it is a method that changes the value, which the sandbox keeps from templates.
bool would_change(const Value& value, const std::string& name);

// range, namespace, dict, raise_exception, strftime_now.
std::vector<std::pair<std::string, Value>> global_functions();

// The first `limit` occurrences of a text replaced; -1: all of them.
Value replaced(Context& context, const std::string& text, const std::string& from, const std::string& to,
               int64_t limit);
Value binary(Context& context, Operator op, const Value& a, const Value& b);
bool compares(Context& context, Operator op, const Value& a, const Value& b);
// Python's "%s has %d" % arguments.
std::string percent_format(Context& context, const std::string& format, const std::vector<Value>& values,
                           const Dict* named);

}  // namespace roundhouse::jinja

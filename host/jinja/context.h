// SPDX-License-Identifier: Apache-2.0
// What filters, tests, methods and functions see of the interpreter.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/jinja/value.h"

namespace roundhouse::jinja {

class Context {
 public:
  Context(std::chrono::year_month_day date, Budget budget) : date_(date), budget_(budget) {}
  Context(const Context&) = delete;
  virtual ~Context();

  Budget& budget() { return budget_; }
  std::chrono::year_month_day date() const { return date_; }
  // What was made, counted.
  Value made(std::string text);
  Value made(std::vector<Value> items, bool tuple = false);
  Value made_dict(std::vector<std::pair<Value, Value>> entries);
  Value made_namespace(std::vector<std::pair<std::string, Value>> attributes);
  // What a for loop goes through. Throws TemplateError when there is no such thing.
  Items items(const Value& value);
  std::string text(const Value& value);  // as it is printed, counted

  // object.name and object[key].
  virtual Value attribute(const Value& object, const std::string& name) = 0;
  virtual Value item(const Value& object, const Value& key) = 0;
  virtual Value filter(const std::string& name, const Value& value, Arguments& arguments) = 0;
  virtual bool test(const std::string& name, const Value& value, Arguments& arguments) = 0;

 private:
  const std::chrono::year_month_day date_;
  Budget budget_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;  // they may hold themselves, and end empty
};

}  // namespace roundhouse::jinja

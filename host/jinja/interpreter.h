// SPDX-License-Identifier: Apache-2.0
// Runs a parsed template once.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/jinja/context.h"
#include "host/jinja/syntax.h"

namespace roundhouse::jinja {

// The names that a block sees: its own, and those around it.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<Symbol, Value>> names;

  void set(Symbol symbol, Value value);
};

class Interpreter : public Context {
 public:
  Interpreter(const Syntax& syntax, std::chrono::year_month_day date, Budget budget);
  ~Interpreter() override;

  // Throws Error with the line. REQUIRES: is called once.
  std::string run(const Dict& variables);

  Value attribute(const Value& object, const std::string& name) override;
  Value item(const Value& object, const Value& key) override;
  Value filter(const std::string& name, const Value& value, Arguments& arguments) override;
  bool test(const std::string& name, const Value& value, Arguments& arguments) override;

 private:
  enum class Flow { kNext, kBreak, kContinue };
  class Depth;

  void exec(const Block& block, Flow& flow);
  void exec(const Stmt& stmt, Flow& flow);
  void exec_for(const Stmt& stmt);
  void exec_macro(const Stmt& stmt);
  void exec_call(const Stmt& stmt);
  // The body in a scope of its own.
  void exec_scope(const Block& body, Flow& flow);
  Value captured(const Block& body, Flow& flow);
  void assign(const Target& target, const Value& value);
  void print(const std::string& text);

  Value eval(const Expr& expr);
  Value eval_name(Symbol symbol);
  Value eval_slice(const Expr& expr);
  Value eval_compare(const Expr& expr);
  Value eval_concat(const Expr& expr);
  Value eval_dict(const Expr& expr);
  Value eval_call(const Expr& expr, const Value* caller);
  Arguments eval_arguments(const Expr& expr, const Value* caller);

  Value macro(const Stmt& stmt);
  Value call_macro(const Stmt& stmt, const std::shared_ptr<Scope>& around, Arguments& arguments);

  const Syntax& syntax_;
  std::shared_ptr<Scope> scope_;
  std::vector<std::shared_ptr<Scope>> closures_;  // that macros look into: they may hold themselves, and end empty
  std::string* out_ = nullptr;
  Value captured_;  // for the filters of a block
  int depth_ = 0;
  int line_ = 1;
};

}  // namespace roundhouse::jinja

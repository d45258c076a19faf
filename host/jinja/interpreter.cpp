// SPDX-License-Identifier: Apache-2.0
#include "host/jinja/interpreter.h"

#include <algorithm>

#include "host/jinja/builtins.h"
#include "host/jinja/python_text.h"

namespace roundhouse::jinja {
namespace {

// Statements, expressions and calls in each other: what the stack of a thread can take, also with a sanitizer.
constexpr int kMaxDepth = 1000;

// Values that a step's work grows with are counted in chunks of this size.
constexpr size_t kWeightPerStep = 256;

// loop.cycle(a, b, ...): one of them in turn.
Value loop_cycle(size_t index) {
  Callable callable{"cycle", [index](Context&, Arguments& arguments) {
                      if (arguments.positional.empty()) throw TemplateError("loop.cycle: takes values");
                      return arguments.positional[index % arguments.positional.size()];
                    }};
  return std::make_shared<const Callable>(std::move(callable));
}

}  // namespace

void Scope::set(Symbol symbol, Value value) {
  for (auto& [known, held] : names) {
    if (known != symbol) continue;
    held = std::move(value);
    return;
  }
  names.emplace_back(symbol, std::move(value));
}

class Interpreter::Depth {
 public:
  explicit Depth(Interpreter& interpreter) : interpreter_(interpreter) {
    if (++interpreter_.depth_ > kMaxDepth) {
      --interpreter_.depth_;
      throw TemplateError("macros call each other too deeply");
    }
  }
  Depth(const Depth&) = delete;
  ~Depth() { --interpreter_.depth_; }

 private:
  Interpreter& interpreter_;
};

Interpreter::Interpreter(const Syntax& syntax, std::chrono::year_month_day date, Budget budget)
    : Context(date, budget), syntax_(syntax), scope_(std::make_shared<Scope>()) {}

Interpreter::~Interpreter() {
  for (const auto& scope : closures_) scope->names.clear();
}

std::string Interpreter::run(const Dict& variables) {
  std::string out;
  out_ = &out;
  const auto define = [&](const std::string& name, const Value& value) {
    const auto found = std::find(syntax_.symbols.begin(), syntax_.symbols.end(), name);
    if (found != syntax_.symbols.end()) scope_->set(static_cast<Symbol>(found - syntax_.symbols.begin()), value);
  };
  for (const auto& [name, function] : global_functions()) define(name, function);
  for (const auto& [name, value] : variables.entries) define(*name.text(), value);
  try {
    Flow flow = Flow::kNext;
    exec_scope(syntax_.body, flow);
  } catch (const TemplateError& e) {
    throw Error(cat("line ", line_, ": ", e.what()));
  }
  return out;
}

void Interpreter::print(const std::string& text) {
  budget().spend_bytes(text.size());
  *out_ += text;
}

// ---- statements ----

void Interpreter::exec(const Block& block, Flow& flow) {
  for (const Stmt& stmt : block) {
    exec(stmt, flow);
    if (flow != Flow::kNext) return;
  }
}

void Interpreter::exec(const Stmt& stmt, Flow& flow) {
  const Depth depth(*this);
  budget().spend_steps(1);
  line_ = stmt.line;
  switch (stmt.kind) {
    case Stmt::Kind::kText:
      return print(stmt.text);
    case Stmt::Kind::kPrint: {
      const Value value = eval(*stmt.expr);
      line_ = stmt.line;
      return print(text(value));
    }
    case Stmt::Kind::kIf:
      for (const auto& [condition, body] : stmt.branches)
        if (eval(*condition).truth()) return exec(body, flow);
      return exec(stmt.otherwise, flow);
    case Stmt::Kind::kFor:
      return exec_for(stmt);
    case Stmt::Kind::kSet:
      return assign(stmt.target, eval(*stmt.expr));
    case Stmt::Kind::kSetBlock: {
      Value value = captured(stmt.body, flow);
      if (stmt.expr) {
        captured_ = std::move(value);
        value = eval(*stmt.expr);
      }
      return assign(stmt.target, value);
    }
    case Stmt::Kind::kFilterBlock:
      captured_ = captured(stmt.body, flow);
      return print(text(eval(*stmt.expr)));
    case Stmt::Kind::kMacro:
      return exec_macro(stmt);
    case Stmt::Kind::kCallBlock:
      return exec_call(stmt);
    case Stmt::Kind::kWith: {
      std::vector<Value> values;
      for (const auto& [target, expr] : stmt.assignments) values.push_back(eval(*expr));
      const auto around = scope_;
      scope_ = std::make_shared<Scope>(Scope{around, {}});
      for (size_t i = 0; i < values.size(); ++i) assign(stmt.assignments[i].first, values[i]);
      exec(stmt.body, flow);
      scope_ = around;
      return;
    }
    case Stmt::Kind::kScope:
      return exec_scope(stmt.body, flow);
    case Stmt::Kind::kBreak:
      flow = Flow::kBreak;
      return;
    case Stmt::Kind::kContinue:
      flow = Flow::kContinue;
      return;
  }
}

// An Error ends the whole run, so that what is changed on the way needs no putting back then.
void Interpreter::exec_scope(const Block& body, Flow& flow) {
  const auto around = scope_;
  scope_ = std::make_shared<Scope>(Scope{around, {}});
  exec(body, flow);
  scope_ = around;
}

Value Interpreter::captured(const Block& body, Flow& flow) {
  std::string text;
  std::string* const out = std::exchange(out_, &text);
  exec_scope(body, flow);
  out_ = out;
  return made(std::move(text));
}

void Interpreter::exec_for(const Stmt& stmt) {
  auto items = this->items(eval(*stmt.expr));
  const auto around = scope_;
  const auto enter = [&](const Value& item) {
    scope_ = std::make_shared<Scope>(Scope{around, {}});
    assign(stmt.target, item);
  };
  if (stmt.filter) {
    std::vector<Value> kept;
    for (const Value& item : items) {
      enter(item);
      if (eval(*stmt.filter).truth()) kept.push_back(item);
    }
    scope_ = around;
    items = Items(made(std::move(kept)).list());
  }
  Flow flow = Flow::kNext;
  if (items.empty()) return exec_scope(stmt.otherwise, flow);
  const auto loop = std::make_shared<Loop>(Loop{items, 0});
  for (; loop->index < items.size() && flow != Flow::kBreak; ++loop->index) {
    flow = Flow::kNext;
    budget().spend_steps(1);
    line_ = stmt.line;
    enter(items[loop->index]);
    scope_->set(syntax_.known.loop, std::shared_ptr<const Loop>(loop));
    exec(stmt.body, flow);
  }
  scope_ = around;
}

void Interpreter::assign(const Target& target, const Value& value) {
  line_ = target.line;
  switch (target.kind) {
    case Target::Kind::kName:
      return scope_->set(target.symbol, value);
    case Target::Kind::kAttribute: {
      const auto held = eval_name(target.symbol).ns();
      const std::string& name = target.attribute;
      if (!held) throw TemplateError(cat("'", syntax_.symbols[target.symbol], "' is no namespace"));
      if (name.starts_with('_')) throw TemplateError(cat("a namespace keeps no name such as ", name));
      for (auto& [known, old] : held->attributes) {
        if (known != name) continue;
        old = value;
        return;
      }
      held->attributes.emplace_back(name, value);
      return;
    }
    case Target::Kind::kTuple: {
      const auto parts = items(value);
      if (parts.size() != target.parts.size())
        throw TemplateError(cat(parts.size(), " values cannot be assigned to ", target.parts.size(), " names"));
      for (size_t i = 0; i < target.parts.size(); ++i) assign(target.parts[i], parts[i]);
    }
  }
}

// ---- macros ----

Value Interpreter::macro(const Stmt& stmt) {
  closures_.push_back(scope_);
  budget().spend_bytes(sizeof(Callable) + sizeof(Scope) + scope_->names.size() * sizeof(Value));
  Callable callable{stmt.macro.name, [this, &stmt, around = scope_](Context&, Arguments& arguments) {
                      return call_macro(stmt, around, arguments);
                    }};
  return std::make_shared<const Callable>(std::move(callable));
}

void Interpreter::exec_macro(const Stmt& stmt) { assign(stmt.target, macro(stmt)); }

void Interpreter::exec_call(const Stmt& stmt) {
  const Value caller = macro(stmt);
  print(text(eval_call(*stmt.expr, &caller)));
}

Value Interpreter::call_macro(const Stmt& stmt, const std::shared_ptr<Scope>& around, Arguments& arguments) {
  const Depth depth(*this);
  const MacroSyntax& syntax = stmt.macro;
  const auto caller_scope = std::exchange(scope_, std::make_shared<Scope>(Scope{around, {}}));
  const int line = line_;
  const size_t known = syntax.parameters.size();
  if (arguments.positional.size() > known && !syntax.takes_varargs)
    throw TemplateError(cat("the macro ", syntax.name, " takes no more than ", known, " arguments"));
  std::vector<std::pair<Value, Value>> others;
  for (size_t i = 0; i < known; ++i) {
    const auto& [name, symbol] = syntax.parameters[i];
    const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&, &wanted = name](const auto& argument) { return argument.first == wanted; });
    const size_t required = known - syntax.defaults.size();
    if (i < arguments.positional.size()) {
      scope_->set(symbol, arguments.positional[i]);
    } else if (named != arguments.named.end()) {
      scope_->set(symbol, named->second);
    } else if (i >= required) {
      scope_->set(symbol, eval(*syntax.defaults[i - required]));
    } else {
      scope_->set(symbol, Value::undefined(cat("parameter '", name, "' was not provided")));
    }
  }
  for (const auto& [name, value] : arguments.named) {
    const auto same = [&, &wanted = name](const auto& parameter) { return parameter.first == wanted; };
    if (std::any_of(syntax.parameters.begin(), syntax.parameters.end(), same)) continue;
    if (name == "caller" && syntax.takes_caller) {
      scope_->set(syntax_.known.caller, value);
    } else if (syntax.takes_kwargs) {
      others.emplace_back(name, value);
    } else {
      throw TemplateError(cat("the macro ", syntax.name, " takes no argument ", name));
    }
  }
  if (syntax.takes_varargs) {
    const auto begin =
        arguments.positional.begin() + static_cast<std::ptrdiff_t>(std::min(known, arguments.positional.size()));
    scope_->set(syntax_.known.varargs, made(std::vector<Value>(begin, arguments.positional.end()), true));
  }
  if (syntax.takes_kwargs) scope_->set(syntax_.known.kwargs, made_dict(std::move(others)));
  Flow flow = Flow::kNext;
  Value result = captured(stmt.body, flow);
  scope_ = caller_scope;
  line_ = line;
  return result;
}

// ---- expressions ----

Value Interpreter::eval_name(Symbol symbol) {
  for (const Scope* scope = scope_.get(); scope; scope = scope->parent.get())
    for (const auto& [known, value] : scope->names)
      if (known == symbol) return value;
  return Value::undefined(cat("'", syntax_.symbols[static_cast<size_t>(symbol)], "' is undefined"));
}

Value Interpreter::eval(const Expr& expr) {
  const Depth depth(*this);
  budget().spend_steps(1);
  line_ = expr.line;
  switch (expr.kind) {
    case Expr::Kind::kConstant:
      return expr.constant;
    case Expr::Kind::kName:
      return eval_name(expr.symbol);
    case Expr::Kind::kCaptured:
      return captured_;
    case Expr::Kind::kAttribute:
      return attribute(eval(*expr.args[0]), expr.name);
    case Expr::Kind::kItem: {
      const Value object = eval(*expr.args[0]);
      return item(object, eval(*expr.args[1]));
    }
    case Expr::Kind::kSlice:
      return eval_slice(expr);
    case Expr::Kind::kCall:
      return eval_call(expr, nullptr);
    case Expr::Kind::kFilter: {
      const Value value = eval(*expr.args[0]);
      Arguments arguments = eval_arguments(expr, nullptr);
      line_ = expr.line;
      return filter(expr.name, value, arguments);
    }
    case Expr::Kind::kTest: {
      const Value value = eval(*expr.args[0]);
      Arguments arguments = eval_arguments(expr, nullptr);
      line_ = expr.line;
      return test(expr.name, value, arguments);
    }
    case Expr::Kind::kBinary: {
      const Value a = eval(*expr.args[0]), b = eval(*expr.args[1]);
      line_ = expr.line;
      return binary(*this, expr.operators[0], a, b);
    }
    case Expr::Kind::kCompare:
      return eval_compare(expr);
    case Expr::Kind::kConcat:
      return eval_concat(expr);
    case Expr::Kind::kAnd: {
      Value a = eval(*expr.args[0]);
      return a.truth() ? eval(*expr.args[1]) : a;
    }
    case Expr::Kind::kOr: {
      Value a = eval(*expr.args[0]);
      return a.truth() ? a : eval(*expr.args[1]);
    }
    case Expr::Kind::kNot:
      return !eval(*expr.args[0]).truth();
    case Expr::Kind::kNegative:
      return binary(*this, Operator::kSub, int64_t{0}, eval(*expr.args[0]));
    case Expr::Kind::kPositive:
      return binary(*this, Operator::kAdd, int64_t{0}, eval(*expr.args[0]));
    case Expr::Kind::kChoice:
      if (eval(*expr.args[0]).truth()) return eval(*expr.args[1]);
      if (expr.args[2]) return eval(*expr.args[2]);
      return Value::undefined("an 'if' without 'else' has no value");
    case Expr::Kind::kList:
    case Expr::Kind::kTuple: {
      std::vector<Value> items;
      for (const ExprPtr& arg : expr.args) items.push_back(eval(*arg));
      return made(std::move(items), expr.kind == Expr::Kind::kTuple);
    }
    case Expr::Kind::kDict:
      return eval_dict(expr);
  }
  return {};
}

Value Interpreter::eval_slice(const Expr& expr) {
  const Value object = eval(*expr.args[0]);
  std::optional<int64_t> parts[3];
  for (size_t i = 0; i < 3; ++i) {
    if (!expr.args[i + 1]) continue;
    const Value part = eval(*expr.args[i + 1]);
    parts[i] = part.as_int();
    if (!parts[i] && !part.is_none()) part.fail("bound a slice");
  }
  line_ = expr.line;
  const auto list = object.list();
  if (!list && !object.text()) object.fail("be sliced");
  const int64_t step = parts[2].value_or(1);
  if (step == 0) throw TemplateError("a slice's step is 0");

  const std::u32string characters = list ? std::u32string() : decode_utf8(*object.text());
  const auto size = static_cast<int64_t>(list ? list->items.size() : characters.size());
  budget().spend_steps(static_cast<size_t>(size) / 16);
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto place = [&](const std::optional<int64_t>& part, int64_t otherwise) {
    return part ? std::clamp(*part < 0 ? *part + size : *part, low, high) : otherwise;
  };
  const int64_t begin = place(parts[0], step > 0 ? low : high), end = place(parts[1], step > 0 ? high : low);
  std::vector<Value> items;
  std::u32string text;
  // Counted down rather than added up, so that a large step cannot overflow.
  int64_t left = step > 0 ? end - begin : begin - end;
  const int64_t stride = step == INT64_MIN ? INT64_MAX : std::abs(step);
  for (int64_t at = begin; left > 0; left = left > stride ? left - stride : 0) {
    if (list)
      items.push_back(list->items[static_cast<size_t>(at)]);
    else
      text += characters[static_cast<size_t>(at)];
    if (left > stride) at += step > 0 ? stride : -stride;
  }
  return list ? made(std::move(items), list->tuple) : made(encode_utf8(text));
}

Value Interpreter::eval_compare(const Expr& expr) {
  Value left = eval(*expr.args[0]);
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    Value right = eval(*expr.args[i + 1]);
    line_ = expr.line;
    budget().spend_steps((left.extent().weight + right.extent().weight) / kWeightPerStep);
    if (!compares(*this, expr.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::eval_concat(const Expr& expr) {
  std::string all;
  for (const ExprPtr& arg : expr.args) all += text(eval(*arg));
  return made(std::move(all));
}

// Later values of a key take the place of earlier ones.
Value Interpreter::eval_dict(const Expr& expr) {
  std::vector<std::pair<Value, Value>> entries;
  for (size_t i = 0; i < expr.args.size(); i += 2) {
    Value key = eval(*expr.args[i]), value = eval(*expr.args[i + 1]);
    if (key.dict() || (key.list() && !key.list()->tuple)) key.fail("be a key");
    budget().spend_steps(entries.size() / 16);
    const auto same = std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.first == key; });
    if (same != entries.end())
      same->second = std::move(value);
    else
      entries.emplace_back(std::move(key), std::move(value));
  }
  return made_dict(std::move(entries));
}

Arguments Interpreter::eval_arguments(const Expr& expr, const Value* caller) {
  Arguments arguments;
  for (size_t i = 1; i < expr.args.size(); ++i) arguments.positional.push_back(eval(*expr.args[i]));
  for (const auto& [name, value] : expr.named) arguments.named.emplace_back(name, eval(*value));
  if (expr.more_args)
    for (const Value& value : items(eval(*expr.more_args))) arguments.positional.push_back(value);
  if (expr.more_named) {
    const Value more = eval(*expr.more_named);
    const auto dict = more.dict();
    if (!dict) more.fail("be given as **kwargs");
    for (const auto& [name, value] : dict->entries) {
      if (!name.text()) name.fail("be the name of an argument");
      arguments.named.emplace_back(*name.text(), value);
    }
  }
  if (caller) arguments.named.emplace_back("caller", *caller);
  return arguments;
}

Value Interpreter::eval_call(const Expr& expr, const Value* caller) {
  const Expr& callee = *expr.args[0];
  Value object, function;
  Function method = nullptr;
  if (callee.kind == Expr::Kind::kAttribute) {
    object = eval(*callee.args[0]);
    method = find_method(object, callee.name);
    if (!method) function = attribute(object, callee.name);
  } else {
    function = eval(callee);
  }
  Arguments arguments = eval_arguments(expr, caller);
  line_ = expr.line;
  if (method) {
    budget().spend_steps(object.extent().weight / kWeightPerStep);
    return method(*this, object, arguments);
  }
  const auto callable = function.callable();
  if (!callable) function.fail("be called");
  return callable->call(*this, arguments);
}

// obj.name: in Python's attributes first, then among the items.
Value Interpreter::attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) object.fail("have attributes");
  if (would_change(object, name)) return Value::undefined(cat("a template must not change a ", object.type_name()));
  if (const auto dict = object.dict()) {
    budget().spend_steps(dict->entries.size() / 16);
    if (!find_method(object, name)) {
      const Value* value = dict->find(std::string_view(name));
      return value ? *value : Value::undefined(cat("'dict object' has no attribute '", name, "'"));
    }
  }
  if (const Function method = find_method(object, name)) {
    Callable callable{
        name, [object, method](Context& context, Arguments& arguments) { return method(context, object, arguments); }};
    return std::make_shared<const Callable>(std::move(callable));
  }
  if (const auto held = object.ns()) {
    if (const Value* value = held->find(name)) return *value;
  } else if (const auto loop = object.loop()) {
    const auto index = static_cast<int64_t>(loop->index), size = static_cast<int64_t>(loop->items.size());
    if (name == "index") return index + 1;
    if (name == "index0") return index;
    if (name == "revindex") return size - index;
    if (name == "revindex0") return size - index - 1;
    if (name == "first") return index == 0;
    if (name == "last") return index + 1 == size;
    if (name == "length") return size;
    if (name == "depth") return int64_t{1};  // recursive loops alone have others
    if (name == "depth0") return int64_t{0};
    if (name == "previtem" && index > 0) return loop->items[loop->index - 1];
    if (name == "nextitem" && index + 1 < size) return loop->items[loop->index + 1];
    if (name == "cycle") return loop_cycle(loop->index);
    if (name == "previtem" || name == "nextitem") return Value::undefined(cat("there is no ", name));
  }
  return Value::undefined(cat("'", object.type_name(), "' has no attribute '", name, "'"));
}

// obj[key]: among the items first, then, for a text, in Python's attributes.
Value Interpreter::item(const Value& object, const Value& key) {
  if (object.is_undefined()) object.fail("have items");
  if (const auto dict = object.dict()) {
    budget().spend_steps(dict->entries.size() / 16);
    if (const Value* value = dict->find(key)) return *value;
  } else if (const auto index = key.as_int(); index && (object.list() || object.text())) {
    const auto list = object.list();
    if (!list) budget().spend_steps(object.text()->size() / 16);
    const auto size = static_cast<int64_t>(list ? list->items.size() : text_length(*object.text()));
    const int64_t at = *index < 0 ? *index + size : *index;
    if (at < 0 || at >= size) return Value::undefined(cat("the ", object.type_name(), " has no item ", *index));
    if (list) return list->items[static_cast<size_t>(at)];
    std::string character;
    append_utf8(character, decode_utf8(*object.text())[static_cast<size_t>(at)]);
    return made(std::move(character));
  }
  if (const std::string* name = key.text()) return attribute(object, *name);
  return Value::undefined(cat("the ", object.type_name(), " has no such item"));
}

Value Interpreter::filter(const std::string& name, const Value& value, Arguments& arguments) {
  const Function function = find_filter(name);
  if (!function) throw TemplateError(cat("there is no filter named '", name, "', or it is not supported"));
  budget().spend_steps(value.extent().weight / kWeightPerStep);
  return function(*this, value, arguments);
}

bool Interpreter::test(const std::string& name, const Value& value, Arguments& arguments) {
  const Function function = find_test(name);
  if (!function) throw TemplateError(cat("there is no test named '", name, "', or it is not supported"));
  budget().spend_steps(1);
  return function(*this, value, arguments).truth();
}

}  // namespace roundhouse::jinja

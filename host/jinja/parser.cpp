// SPDX-License-Identifier: Apache-2.0
#include "host/jinja/parser.h"

#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <map>

#include "host/base/words.h"
#include "host/jinja/lexer.h"

namespace roundhouse::jinja {
namespace {

using Kind = Expr::Kind;

// Of brackets and blocks in each other, and of an expression's tree: what recursion can take.
constexpr int kMaxNesting = 100;
constexpr int kMaxExprDepth = 400;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Syntax syntax() {
    Syntax syntax;
    syntax.known = {symbol("loop"), symbol("caller"), symbol("varargs"), symbol("kwargs")};
    known_ = syntax.known;
    syntax.body = block({});
    syntax.symbols.resize(symbols_.size());
    for (const auto& [name, number] : symbols_) syntax.symbols[static_cast<size_t>(number)] = name;
    return syntax;
  }

 private:
  class Nesting {
   public:
    explicit Nesting(Parser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kMaxNesting) parser_.fail("the template is nested too deeply");
    }
    Nesting(const Nesting&) = delete;
    ~Nesting() { --parser_.nesting_; }

   private:
    Parser& parser_;
  };

  // ---- tokens ----

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is(Token::Kind kind, std::string_view text) const { return current().kind == kind && current().text == text; }
  bool is_op(std::string_view text) const { return is(Token::Kind::kOperator, text); }
  bool is_name(std::string_view text) const { return is(Token::Kind::kName, text); }
  bool skip_op(std::string_view text) { return is_op(text) ? (take(), true) : false; }
  bool skip_name(std::string_view text) { return is_name(text) ? (take(), true) : false; }

  static std::string shown(const Token& token) {
    switch (token.kind) {
      case Token::Kind::kEnd:
        return "the end of the template";
      case Token::Kind::kBlockEnd:
        return "'%}'";
      case Token::Kind::kVariableEnd:
        return "'}}'";
      default:
        return cat("'", token.text, "'");
    }
  }
  [[noreturn]] void fail(const std::string& message) const { fail_at(current().line, message); }
  [[noreturn]] void fail_unexpected(const std::string& wanted) const {
    fail(cat("expected ", wanted, ", not ", shown(current())));
  }
  void expect_op(const std::string& text) {
    if (!skip_op(text)) fail_unexpected(cat("'", text, "'"));
  }
  void expect_name(const std::string& text) {
    if (!skip_name(text)) fail_unexpected(cat("'", text, "'"));
  }
  std::string name() {
    if (current().kind != Token::Kind::kName) fail_unexpected("a name");
    return take().text;
  }
  void end_tag() {
    if (current().kind != Token::Kind::kBlockEnd) fail_unexpected("'%}'");
    take();
  }

  Symbol symbol(const std::string& name) {
    return symbols_.emplace(name, static_cast<Symbol>(symbols_.size())).first->second;
  }

  // ---- expressions ----

  template <typename... Args>
  ExprPtr make(Kind kind, int line, Args... args) {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = line;
    (add(*expr, std::move(args)), ...);
    return expr;
  }

  void deepen(Expr& expr, const ExprPtr& below) const {
    if (below && below->depth >= expr.depth) expr.depth = below->depth + 1;
    if (expr.depth > kMaxExprDepth) fail_at(expr.line, "the expression is too long");
  }
  void add(Expr& expr, ExprPtr arg) const {
    deepen(expr, arg);
    expr.args.push_back(std::move(arg));
  }

  ExprPtr constant(int line, Value value) {
    ExprPtr expr = make(Kind::kConstant, line);
    expr->constant = std::move(value);
    return expr;
  }

  // Whether there is a comma decides: a tuple, or the one expression.
  ExprPtr tuple(bool with_choice = true, bool in_parentheses = false) {
    ExprPtr first;
    ExprPtr all = make(Kind::kTuple, current().line);
    bool is_tuple = false;
    for (;;) {
      const bool ended = current().kind == Token::Kind::kVariableEnd || current().kind == Token::Kind::kBlockEnd ||
                         is_op(")") || (!with_choice && is_name("recursive"));
      if (ended) break;
      ExprPtr expr = expression(with_choice);
      if (!is_tuple && !is_op(",")) return expr;
      is_tuple = true;
      add(*all, std::move(expr));
      if (!skip_op(",")) break;
    }
    if (!is_tuple && !in_parentheses) fail_unexpected("an expression");
    return all;
  }

  ExprPtr expression(bool with_choice = true) {
    const Nesting nesting(*this);
    if (!with_choice) return disjunction();
    ExprPtr expr = disjunction();
    while (is_name("if")) {
      const int line = take().line;
      ExprPtr condition = disjunction();
      ExprPtr otherwise = skip_name("else") ? expression() : nullptr;
      expr = make(Kind::kChoice, line, std::move(condition), std::move(expr), std::move(otherwise));
    }
    return expr;
  }

  ExprPtr disjunction() {
    ExprPtr left = conjunction();
    while (is_name("or")) {
      const int line = take().line;
      left = make(Kind::kOr, line, std::move(left), conjunction());
    }
    return left;
  }

  ExprPtr conjunction() {
    ExprPtr left = negation();
    while (is_name("and")) {
      const int line = take().line;
      left = make(Kind::kAnd, line, std::move(left), negation());
    }
    return left;
  }

  ExprPtr negation() {
    if (!is_name("not")) return comparison();
    const Nesting nesting(*this);
    const int line = take().line;
    return make(Kind::kNot, line, negation());
  }

  ExprPtr comparison() {
    static const std::map<std::string_view, Operator> kOperators = {{"==", Operator::kEq}, {"!=", Operator::kNe},
                                                                    {"<", Operator::kLt},  {"<=", Operator::kLe},
                                                                    {">", Operator::kGt},  {">=", Operator::kGe}};
    ExprPtr left = sum();
    ExprPtr expr;
    for (;;) {
      const int line = current().line;
      Operator op = Operator::kIn;
      if (current().kind == Token::Kind::kOperator && kOperators.contains(current().text)) {
        op = kOperators.at(take().text);
      } else if (is_name("not") && ahead().kind == Token::Kind::kName && ahead().text == "in") {
        take();
        take();
        op = Operator::kNotIn;
      } else if (!skip_name("in")) {
        break;
      }
      if (!expr) expr = make(Kind::kCompare, line, std::move(left));
      expr->operators.push_back(op);
      add(*expr, sum());
    }
    return expr ? std::move(expr) : std::move(left);
  }

  ExprPtr binary(ExprPtr left, Operator op, ExprPtr right, int line) {
    ExprPtr expr = make(Kind::kBinary, line, std::move(left), std::move(right));
    expr->operators = {op};
    return expr;
  }

  ExprPtr sum() {
    ExprPtr left = concatenation();
    while (is_op("+") || is_op("-")) {
      const Token token = take();
      left = binary(std::move(left), token.text == "+" ? Operator::kAdd : Operator::kSub, concatenation(), token.line);
    }
    return left;
  }

  ExprPtr concatenation() {
    ExprPtr first = product();
    if (!is_op("~")) return first;
    ExprPtr expr = make(Kind::kConcat, current().line, std::move(first));
    while (skip_op("~")) add(*expr, product());
    return expr;
  }

  ExprPtr product() {
    static const std::map<std::string_view, Operator> kOperators = {
        {"*", Operator::kMul}, {"/", Operator::kDiv}, {"//", Operator::kFloorDiv}, {"%", Operator::kMod}};
    ExprPtr left = power();
    while (current().kind == Token::Kind::kOperator && kOperators.contains(current().text)) {
      const Token token = take();
      left = binary(std::move(left), kOperators.at(token.text), power(), token.line);
    }
    return left;
  }

  ExprPtr power() {
    ExprPtr left = unary();
    while (is_op("**")) {
      const int line = take().line;
      left = binary(std::move(left), Operator::kPow, unary(), line);
    }
    return left;
  }

  ExprPtr unary(bool with_filters = true) {
    ExprPtr expr;
    if (is_op("-") || is_op("+")) {
      const Nesting nesting(*this);
      const Token token = take();
      expr = make(token.text == "-" ? Kind::kNegative : Kind::kPositive, token.line, unary(false));
    } else {
      expr = primary();
    }
    expr = postfix(std::move(expr));
    return with_filters ? filters(std::move(expr)) : std::move(expr);
  }

  ExprPtr primary() {
    const int line = current().line;
    switch (current().kind) {
      case Token::Kind::kName: {
        const std::string text = take().text;
        if (text == "true" || text == "True") return constant(line, true);
        if (text == "false" || text == "False") return constant(line, false);
        if (text == "none" || text == "None") return constant(line, Value::none());
        ExprPtr expr = make(Kind::kName, line);
        expr->symbol = symbol(text);
        if (macro_) {
          macro_->takes_varargs |= expr->symbol == known_.varargs;
          macro_->takes_kwargs |= expr->symbol == known_.kwargs;
          macro_->takes_caller |= expr->symbol == known_.caller;
        }
        return expr;
      }
      case Token::Kind::kString: {
        std::string text = take().text;
        while (current().kind == Token::Kind::kString) text += take().text;
        return constant(line, std::move(text));
      }
      case Token::Kind::kInteger: {
        const Token token = take();
        int64_t value = 0;
        const char* const end = token.text.data() + token.text.size();
        if (std::from_chars(token.text.data(), end, value).ec != std::errc())
          fail_at(line, cat("the number ", token.text, " is beyond 64 bits"));
        return constant(line, value);
      }
      case Token::Kind::kFloat:
        return constant(line, std::strtod(take().text.c_str(), nullptr));
      default:
        break;
    }
    if (skip_op("(")) {
      ExprPtr expr = tuple(true, true);
      expect_op(")");
      return expr;
    }
    if (skip_op("[")) {
      ExprPtr list = make(Kind::kList, line);
      while (!skip_op("]")) {
        if (!list->args.empty()) {
          expect_op(",");
          if (skip_op("]")) break;
        }
        add(*list, expression());
      }
      return list;
    }
    if (skip_op("{")) {
      ExprPtr dict = make(Kind::kDict, line);
      while (!skip_op("}")) {
        if (!dict->args.empty()) {
          expect_op(",");
          if (skip_op("}")) break;
        }
        add(*dict, expression());
        expect_op(":");
        add(*dict, expression());
      }
      return dict;
    }
    fail_unexpected("an expression");
  }

  ExprPtr postfix(ExprPtr expr) {
    for (;;) {
      if (is_op(".")) {
        const int line = take().line;
        if (current().kind == Token::Kind::kInteger) {
          expr = make(Kind::kItem, line, std::move(expr), primary());
        } else {
          expr = make(Kind::kAttribute, line, std::move(expr));
          expr->name = name();
        }
      } else if (is_op("[")) {
        expr = subscript(std::move(expr));
      } else if (is_op("(")) {
        expr = call(Kind::kCall, "", std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr subscript(ExprPtr object) {
    const int line = take().line;
    const auto part = [&]() -> ExprPtr { return is_op(":") || is_op("]") ? nullptr : expression(); };
    ExprPtr first = part();
    if (!is_op(":")) {
      if (!first) fail_unexpected("an expression");
      if (is_op(",")) {
        ExprPtr all = make(Kind::kTuple, line, std::move(first));
        while (skip_op(",")) add(*all, expression());
        first = std::move(all);
      }
      expect_op("]");
      return make(Kind::kItem, line, std::move(object), std::move(first));
    }
    take();
    ExprPtr stop = part();
    ExprPtr step = skip_op(":") ? part() : nullptr;
    expect_op("]");
    return make(Kind::kSlice, line, std::move(object), std::move(first), std::move(stop), std::move(step));
  }

  // A call, a filter, or a test, with arguments in parentheses where there are any.
  ExprPtr call(Kind kind, std::string name, ExprPtr object) {
    const int line = current().line;
    ExprPtr expr = make(kind, line, std::move(object));
    expr->name = std::move(name);
    if (!skip_op("(")) return expr;
    bool first = true;
    while (!skip_op(")")) {
      if (!first) {
        expect_op(",");
        if (skip_op(")")) break;
      }
      first = false;
      if (skip_op("*")) {
        if (expr->more_args || expr->more_named) fail("there is one *args, in front of **kwargs");
        expr->more_args = expression();
        deepen(*expr, expr->more_args);
      } else if (skip_op("**")) {
        if (expr->more_named) fail("there is one **kwargs");
        expr->more_named = expression();
        deepen(*expr, expr->more_named);
      } else if (current().kind == Token::Kind::kName && ahead().kind == Token::Kind::kOperator &&
                 ahead().text == "=") {
        if (expr->more_named) fail("an argument stands behind **kwargs");
        std::string key = take().text;
        take();
        expr->named.emplace_back(std::move(key), expression());
        deepen(*expr, expr->named.back().second);
      } else {
        if (expr->more_args || expr->more_named || !expr->named.empty())
          fail("an argument without a name stands behind one with a name");
        add(*expr, expression());
      }
    }
    return expr;
  }

  std::string dotted_name() {
    std::string text = name();
    while (skip_op(".")) text += "." + name();
    return text;
  }

  ExprPtr filters(ExprPtr expr) {
    for (;;) {
      if (skip_op("|")) {
        std::string filter = dotted_name();
        expr = call(Kind::kFilter, std::move(filter), std::move(expr));
      } else if (skip_name("is")) {
        expr = test(std::move(expr));
      } else if (is_op("(")) {
        expr = call(Kind::kCall, "", std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr test(ExprPtr value) {
    const int line = current().line;
    const bool negated = skip_name("not");
    std::string test_name = dotted_name();
    const bool in_parentheses = is_op("(");
    ExprPtr expr = call(Kind::kTest, std::move(test_name), std::move(value));
    const Token::Kind next = current().kind;
    const bool is_argument = next == Token::Kind::kName     ? !is_name("else") && !is_name("or") && !is_name("and")
                             : next == Token::Kind::kString ? true
                             : next == Token::Kind::kInteger || next == Token::Kind::kFloat
                                 ? true
                                 : is_op("(") || is_op("[") || is_op("{");
    if (!in_parentheses && is_argument) {
      if (is_name("is")) fail("tests with 'is' cannot be chained");
      add(*expr, postfix(primary()));
    }
    return negated ? make(Kind::kNot, line, std::move(expr)) : std::move(expr);
  }

  // ---- statements ----

  Target target_part() {
    Target target;
    target.line = current().line;
    if (skip_op("(")) {
      target = targets();
      expect_op(")");
      return target;
    }
    target.symbol = symbol(name());
    if (skip_op(".")) {
      target.kind = Target::Kind::kAttribute;
      target.attribute = name();
    }
    return target;
  }

  Target targets() {
    const Nesting nesting(*this);
    Target first = target_part();
    if (!is_op(",")) return first;
    Target all;
    all.kind = Target::Kind::kTuple;
    all.line = first.line;
    all.parts.push_back(std::move(first));
    while (skip_op(",") && (current().kind == Token::Kind::kName || is_op("("))) all.parts.push_back(target_part());
    return all;
  }

  // Up to a tag with one of these names, which is left at its name.
  Block block(const std::vector<std::string>& ends) {
    const Nesting nesting(*this);
    Block statements;
    for (;;) {
      const int line = current().line;
      switch (current().kind) {
        case Token::Kind::kEnd:
          if (!ends.empty()) fail(cat("the template ends where {% ", joined(ends), " %} is expected"));
          return statements;
        case Token::Kind::kText:
          statements.push_back(statement(Stmt::Kind::kText, line));
          statements.back().text = take().text;
          break;
        case Token::Kind::kVariableBegin:
          take();
          statements.push_back(statement(Stmt::Kind::kPrint, line));
          statements.back().expr = tuple();
          if (current().kind != Token::Kind::kVariableEnd) fail_unexpected("'}}'");
          take();
          break;
        default:
          take();  // {%
          if (current().kind == Token::Kind::kName && contains(ends, current().text)) return statements;
          statements.push_back(tag());
      }
    }
  }

  static Stmt statement(Stmt::Kind kind, int line) {
    Stmt stmt;
    stmt.kind = kind;
    stmt.line = line;
    return stmt;
  }

  Block block_to(const std::string& end) {
    end_tag();
    Block body = block({end});
    take();
    end_tag();
    return body;
  }

  Stmt tag() {
    const int line = current().line;
    const std::string kind = name();
    if (kind == "if") return if_tag(line);
    if (kind == "for") return for_tag(line);
    if (kind == "set") return set_tag(line);
    if (kind == "macro") return macro_tag(line);
    if (kind == "call") return call_tag(line);
    if (kind == "with") return with_tag(line);
    if (kind == "filter") {
      Stmt stmt = statement(Stmt::Kind::kFilterBlock, line);
      std::string filter = dotted_name();
      stmt.expr = filters(call(Kind::kFilter, std::move(filter), make(Kind::kCaptured, line)));
      stmt.body = block_to("endfilter");
      return stmt;
    }
    if (kind == "generation") {
      Stmt stmt = statement(Stmt::Kind::kScope, line);
      stmt.body = block_to("endgeneration");
      return stmt;
    }
    if (kind == "break" || kind == "continue") {
      if (loops_ == 0) fail_at(line, cat("{% ", kind, " %} stands outside of a loop"));
      end_tag();
      return statement(kind == "break" ? Stmt::Kind::kBreak : Stmt::Kind::kContinue, line);
    }
    fail_at(line, cat("{% ", kind, " %} is unknown or not supported"));
  }

  Stmt if_tag(int line) {
    Stmt stmt = statement(Stmt::Kind::kIf, line);
    for (;;) {
      ExprPtr condition = tuple(false);
      end_tag();
      stmt.branches.emplace_back(std::move(condition), block({"elif", "else", "endif"}));
      const std::string next = take().text;
      if (next == "elif") continue;
      if (next == "else")
        stmt.otherwise = block_to("endif");
      else
        end_tag();
      return stmt;
    }
  }

  Stmt for_tag(int line) {
    Stmt stmt = statement(Stmt::Kind::kFor, line);
    stmt.target = targets();
    expect_name("in");
    stmt.expr = tuple(false);
    if (skip_name("if")) stmt.filter = expression();
    if (is_name("recursive")) fail("recursive loops are not supported");
    end_tag();
    ++loops_;
    stmt.body = block({"else", "endfor"});
    --loops_;
    if (take().text == "else")
      stmt.otherwise = block_to("endfor");
    else
      end_tag();
    return stmt;
  }

  Stmt set_tag(int line) {
    Stmt stmt = statement(Stmt::Kind::kSet, line);
    stmt.target = targets();
    if (skip_op("=")) {
      stmt.expr = tuple();
      end_tag();
      return stmt;
    }
    stmt.kind = Stmt::Kind::kSetBlock;
    if (is_op("|")) stmt.expr = filters(make(Kind::kCaptured, line));
    stmt.body = block_to("endset");
    return stmt;
  }

  void parameters(MacroSyntax& macro) {
    expect_op("(");
    while (!skip_op(")")) {
      if (!macro.parameters.empty()) {
        expect_op(",");
        if (skip_op(")")) break;
      }
      std::string parameter = name();
      const Symbol number = symbol(parameter);
      macro.parameters.emplace_back(std::move(parameter), number);
      if (skip_op("=")) {
        macro.defaults.push_back(expression());
      } else if (!macro.defaults.empty()) {
        fail("a parameter without a default stands behind one with a default");
      }
    }
  }

  // The body, in which names may ask for what a call has beyond the parameters.
  Block macro_body(MacroSyntax& macro, const std::string& end) {
    MacroSyntax* const outer = std::exchange(macro_, &macro);
    const int loops = std::exchange(loops_, 0);
    Block body = block_to(end);
    macro_ = outer;
    loops_ = loops;
    return body;
  }

  Stmt macro_tag(int line) {
    Stmt stmt = statement(Stmt::Kind::kMacro, line);
    stmt.macro.name = name();
    stmt.target.line = line;
    stmt.target.symbol = symbol(stmt.macro.name);
    parameters(stmt.macro);
    stmt.body = macro_body(stmt.macro, "endmacro");
    return stmt;
  }

  Stmt call_tag(int line) {
    Stmt stmt = statement(Stmt::Kind::kCallBlock, line);
    stmt.macro.name = "caller";
    if (is_op("(")) parameters(stmt.macro);
    stmt.expr = expression();
    if (stmt.expr->kind != Kind::kCall) fail_at(line, "{% call %} needs a call");
    stmt.body = macro_body(stmt.macro, "endcall");
    return stmt;
  }

  Stmt with_tag(int line) {
    Stmt stmt = statement(Stmt::Kind::kWith, line);
    while (current().kind != Token::Kind::kBlockEnd) {
      if (!stmt.assignments.empty()) expect_op(",");
      Target to = target_part();
      expect_op("=");
      stmt.assignments.emplace_back(std::move(to), expression());
    }
    stmt.body = block_to("endwith");
    return stmt;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::map<std::string, Symbol> symbols_;
  KnownSymbols known_{};
  MacroSyntax* macro_ = nullptr;
  int nesting_ = 0;
  int loops_ = 0;  // around the current place
};

}  // namespace

Syntax parse(std::string_view source) { return Parser(source).syntax(); }

}  // namespace roundhouse::jinja

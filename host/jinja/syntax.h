// SPDX-License-Identifier: Apache-2.0
// A parsed template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/jinja/value.h"

namespace roundhouse::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<Stmt>;

// Names that a template uses, each by its number.
using Symbol = int;

enum class Operator { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow, kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct Expr {
  enum class Kind {
    kConstant,
    kName,       // symbol
    kCaptured,   // what the block around a filter has printed
    kAttribute,  // args[0].name
    kItem,       // args[0][args[1]]
    kSlice,      // args[0][args[1]:args[2]:args[3]], any of the last three may be NULL
    kCall,       // args[0](args[1], ...)
    kFilter,     // args[0] | name(args[1], ...)
    kTest,       // args[0] is name(args[1], ...)
    kBinary,     // args[0] operators[0] args[1]
    kCompare,    // args[0] operators[0] args[1] operators[1] args[2] ...
    kConcat,     // args[0] ~ args[1] ~ ...
    kAnd,
    kOr,
    kNot,
    kNegative,
    kPositive,
    kChoice,  // args[1] if args[0] else args[2], which may be NULL
    kList,
    kTuple,
    kDict,  // args: keys and values in turn
  };
  Kind kind;
  int line = 0;
  int depth = 1;
  std::string name;
  Symbol symbol = -1;
  Value constant;
  std::vector<ExprPtr> args;
  std::vector<Operator> operators;
  // Of a call, a filter and a test:
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr more_args, more_named;  // *args, **kwargs; may be NULL
};

// What a value is assigned to.
struct Target {
  enum class Kind { kName, kAttribute, kTuple };
  Kind kind = Kind::kName;
  int line = 0;
  Symbol symbol = -1;     // of the name, or of the namespace
  std::string attribute;  // of the namespace
  std::vector<Target> parts;
};

struct MacroSyntax {
  std::string name;
  std::vector<std::pair<std::string, Symbol>> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  bool takes_varargs = false, takes_kwargs = false, takes_caller = false;
};

struct Stmt {
  enum class Kind {
    kText,
    kPrint,        // expr
    kIf,           // branches; otherwise
    kFor,          // target in expr, if filter; body; otherwise
    kSet,          // target = expr
    kSetBlock,     // target = what body prints, through expr where there is one
    kMacro,        // target, macro, body
    kCallBlock,    // expr, a call, with caller: macro and body
    kFilterBlock,  // what body prints, through expr
    kWith,         // assignments, body
    kScope,        // body in a scope of its own: {% generation %}
    kBreak,
    kContinue,
  };
  Kind kind;
  int line = 0;
  std::string text;
  ExprPtr expr, filter;
  Target target;
  std::vector<std::pair<ExprPtr, Block>> branches;
  std::vector<std::pair<Target, ExprPtr>> assignments;
  Block body, otherwise;
  MacroSyntax macro;
};

// Of names that mean something to the interpreter.
struct KnownSymbols {
  Symbol loop, caller, varargs, kwargs;
};

struct Syntax {
  Block body;
  std::vector<std::string> symbols;
  KnownSymbols known;
};

}  // namespace roundhouse::jinja

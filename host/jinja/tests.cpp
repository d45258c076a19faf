// SPDX-License-Identifier: Apache-2.0
// Jinja2's tests: what may stand behind `is`.
#include <map>

#include "host/jinja/builtins.h"
#include "host/jinja/python_text.h"

namespace roundhouse::jinja {
namespace {

const Value& other(const Arguments& arguments) {
  if (arguments.positional.size() != 1 || !arguments.named.empty())
    throw TemplateError("this test compares with one value");
  return arguments.positional[0];
}

template <Operator kOperator>
Value compare(Context& in, const Value& value, Arguments& arguments) {
  in.budget().spend_steps((value.extent().weight + other(arguments).extent().weight) / 256);
  return compares(in, kOperator, value, other(arguments));
}

Value divisible(Context& in, const Value& value, Arguments& arguments) {
  return !binary(in, Operator::kMod, value, other(arguments)).truth();
}

template <int64_t kRest>
Value parity(Context& in, const Value& value, Arguments&) {
  return binary(in, Operator::kMod, value, int64_t{2}) == Value(kRest);
}

bool is_iterable(const Value& value) { return value.is_undefined() || value.text() || value.list() || value.dict(); }

}  // namespace

Function find_test(const std::string& name) {
  using V = const Value&;
  using A = Arguments&;
  using I = Context&;
  static const std::map<std::string_view, Function> kTests = {
      {"!=", compare<Operator::kNe>},
      {"<", compare<Operator::kLt>},
      {"<=", compare<Operator::kLe>},
      {"==", compare<Operator::kEq>},
      {">", compare<Operator::kGt>},
      {">=", compare<Operator::kGe>},
      {"boolean", [](I, V v, A) -> Value { return v.is_bool(); }},
      {"callable", [](I, V v, A) -> Value { return v.callable() != nullptr; }},
      {"defined", [](I, V v, A) -> Value { return !v.is_undefined(); }},
      {"divisibleby", divisible},
      {"eq", compare<Operator::kEq>},
      {"equalto", compare<Operator::kEq>},
      {"even", parity<0>},
      {"false", [](I, V v, A) -> Value { return v.is_bool() && !v.truth(); }},
      {"filter", [](I, V v, A) -> Value { return v.text() && find_filter(*v.text()); }},
      {"float", [](I, V v, A) -> Value { return v.is_float(); }},
      {"ge", compare<Operator::kGe>},
      {"greaterthan", compare<Operator::kGt>},
      {"gt", compare<Operator::kGt>},
      {"in", compare<Operator::kIn>},
      {"integer", [](I, V v, A) -> Value { return v.is_int(); }},
      {"iterable", [](I, V v, A) -> Value { return is_iterable(v); }},
      {"le", compare<Operator::kLe>},
      {"lessthan", compare<Operator::kLt>},
      {"lower", [](I in, V v, A) -> Value { return is_lower(in.text(v)); }},
      {"lt", compare<Operator::kLt>},
      {"mapping", [](I, V v, A) -> Value { return v.dict() != nullptr; }},
      {"ne", compare<Operator::kNe>},
      {"none", [](I, V v, A) -> Value { return v.is_none(); }},
      {"number", [](I, V v, A) -> Value { return v.is_number(); }},
      {"odd", parity<1>},
      {"sameas", [](I, V v, A a) -> Value { return Value::same(v, other(a)); }},
      {"sequence", [](I, V v, A) -> Value { return is_iterable(v); }},
      {"string", [](I, V v, A) -> Value { return v.is_string(); }},
      {"test", [](I, V v, A) -> Value { return v.text() && find_test(*v.text()); }},
      {"true", [](I, V v, A) -> Value { return v.is_bool() && v.truth(); }},
      {"undefined", [](I, V v, A) -> Value { return v.is_undefined(); }},
      {"upper", [](I in, V v, A) -> Value { return is_upper(in.text(v)); }},
  };
  const auto found = kTests.find(name);
  return found == kTests.end() ? nullptr : found->second;
}

}  // namespace roundhouse::jinja

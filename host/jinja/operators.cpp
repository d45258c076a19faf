// SPDX-License-Identifier: Apache-2.0
// Arithmetic and comparisons as Python does them, on whole numbers of 64 bits.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "host/jinja/builtins.h"
#include "host/jinja/python_text.h"

namespace roundhouse::jinja {
namespace {

constexpr const char* kNames[] = {
    "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};

[[noreturn]] void refuse(Operator op, const Value& a, const Value& b) {
  const std::string name = kNames[static_cast<int>(op)];
  for (const Value* value : {&a, &b})
    if (value->is_undefined()) value->fail(cat("stand beside ", name));
  throw TemplateError(cat("values of types ", a.type_name(), " and ", b.type_name(), " have no ", name));
}

[[noreturn]] void overflow() { throw TemplateError("a whole number is beyond 64 bits"); }

int64_t floor_divide(int64_t a, int64_t b) {
  if (b == 0) throw TemplateError("division by zero");
  if (a == INT64_MIN && b == -1) overflow();
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) overflow();
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) overflow();
  }
  return result;
}

Value whole_numbers(Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case Operator::kAdd:
      if (__builtin_add_overflow(a, b, &result)) overflow();
      return result;
    case Operator::kSub:
      if (__builtin_sub_overflow(a, b, &result)) overflow();
      return result;
    case Operator::kMul:
      if (__builtin_mul_overflow(a, b, &result)) overflow();
      return result;
    case Operator::kDiv:
      if (b == 0) throw TemplateError("division by zero");
      return static_cast<double>(a) / static_cast<double>(b);
    case Operator::kFloorDiv:
      return floor_divide(a, b);
    case Operator::kMod:
      return b == -1 ? int64_t{0} : a - floor_divide(a, b) * b;
    default:
      return b >= 0 ? Value(power(a, b)) : Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
  }
}

Value numbers(Operator op, double a, double b) {
  if (b == 0 && (op == Operator::kDiv || op == Operator::kFloorDiv || op == Operator::kMod))
    throw TemplateError("division by zero");
  switch (op) {
    case Operator::kAdd:
      return a + b;
    case Operator::kSub:
      return a - b;
    case Operator::kMul:
      return a * b;
    case Operator::kDiv:
      return a / b;
    case Operator::kFloorDiv:
      return std::floor(a / b);
    case Operator::kMod: {
      const double rest = std::fmod(a, b);
      return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
    }
    default:
      return std::pow(a, b);
  }
}

Value repeated(Context& context, const Value& value, int64_t times) {
  const size_t count = static_cast<size_t>(std::max<int64_t>(times, 0));
  const size_t size = value.text() ? value.text()->size() : value.list()->items.size() * sizeof(Value);
  size_t all = 0;
  if (__builtin_mul_overflow(size, count, &all) || all > static_cast<size_t>(INT64_MAX)) overflow();
  context.budget().spend_bytes(all);  // before it is there
  if (size == 0) return value;
  if (const std::string* text = value.text()) {
    std::string result;
    for (size_t i = 0; i < count; ++i) result += *text;
    return result;
  }
  const auto list = value.list();
  std::vector<Value> items;
  for (size_t i = 0; i < count; ++i) items.insert(items.end(), list->items.begin(), list->items.end());
  return context.made(std::move(items), list->tuple);
}

bool is_in(Context& context, const Value& item, const Value& container) {
  if (const std::string* text = container.text()) {
    if (!item.text()) throw TemplateError(cat("a value of type ", item.type_name(), " cannot be looked for in a text"));
    return text->find(*item.text()) != text->npos;
  }
  if (const auto dict = container.dict()) return dict->find(item) != nullptr;
  if (!container.list() && !container.is_undefined()) container.fail("be looked into");
  const Items items = context.items(container);
  return std::find(items.begin(), items.end(), item) != items.end();
}

// One part of a format: %[(name)][flags][width][.precision]kind.
struct Part {
  std::string flags;
  int width = 0, precision = -1;
  char kind = 's';
};

std::string padded(std::string text, const Part& part) {
  const size_t length = text_length(text), width = static_cast<size_t>(part.width);
  if (length >= width) return text;
  const std::string space(width - length, ' ');
  return part.flags.find('-') != std::string::npos ? text + space : space + text;
}

std::string formatted(const Part& part, const Value& value, Context& context) {
  if (part.kind == 's' || part.kind == 'r' || part.kind == 'a') {
    std::string text = part.kind == 's' ? context.text(value) : value.repr();
    if (part.precision >= 0) text = encode_utf8(decode_utf8(text).substr(0, static_cast<size_t>(part.precision)));
    return padded(std::move(text), part);
  }
  if (part.kind == 'c' && value.text()) return padded(*value.text(), part);
  const auto number = value.as_number();
  if (!number) value.fail(cat("be formatted with %", std::string(1, part.kind)));
  std::string spec = "%" + part.flags;
  if (part.width > 0) spec += std::to_string(part.width);
  if (part.precision >= 0) spec += "." + std::to_string(part.precision);
  char buffer[1024];
  const bool whole = std::string_view("diuxXo").find(part.kind) != std::string_view::npos;
  if (whole) {
    const int64_t n = value.as_int() ? *value.as_int() : static_cast<int64_t>(*number);
    std::snprintf(buffer, sizeof buffer, (spec + "l" + (part.kind == 'u' ? 'd' : part.kind)).c_str(),
                  static_cast<long>(n));
  } else {
    std::snprintf(buffer, sizeof buffer, (spec + part.kind).c_str(), *number);
  }
  return buffer;
}

}  // namespace

std::string percent_format(Context& context, const std::string& format, const std::vector<Value>& values,
                           const Dict* named) {
  std::string result;
  size_t used = 0;
  const auto damaged = [] { throw TemplateError("a format with % is damaged"); };
  for (size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%') {
      result += format[at];
      continue;
    }
    const auto peek = [&] { return at < format.size() ? format[at] : '\0'; };
    ++at;
    const Value* value = nullptr;
    if (peek() == '(') {
      const size_t end = format.find(')', at);
      if (end == format.npos || !named) damaged();
      value = named->find(std::string_view(format).substr(at + 1, end - at - 1));
      if (!value) throw TemplateError(cat("nothing is given for ", format.substr(at, end + 1 - at)));
      at = end + 1;
    }
    Part part;
    while (std::string_view("-+ 0#").find(peek()) != std::string_view::npos && peek()) part.flags += format[at++];
    const auto digits = [&] {
      int n = 0;
      for (; peek() >= '0' && peek() <= '9'; ++at) n = std::min(n * 10 + (peek() - '0'), 1000);
      return n;
    };
    part.width = std::min(digits(), 500);
    if (peek() == '.') {
      ++at;
      part.precision = std::min(digits(), 300);
    }
    part.kind = peek();
    if (part.kind == '%') {
      result += '%';
      continue;
    }
    if (std::string_view("sradiuxXoeEfFgGc").find(part.kind) == std::string_view::npos || !part.kind) damaged();
    if (!value) {
      if (used >= values.size()) throw TemplateError("a format has more % than values");
      value = &values[used++];
    }
    context.budget().spend_bytes(value->extent().weight + static_cast<size_t>(part.width));
    result += formatted(part, *value, context);
  }
  if (used < values.size() && !named) throw TemplateError("a format has fewer % than values");
  return result;
}

Value binary(Context& context, Operator op, const Value& a, const Value& b) {
  if (const auto x = a.as_int(), y = b.as_int(); x && y) return whole_numbers(op, *x, *y);
  if (const auto x = a.as_number(), y = b.as_number(); x && y) return numbers(op, *x, *y);
  if (op == Operator::kAdd) {
    if (a.text() && b.text()) return context.made(*a.text() + *b.text());
    if (const auto x = a.list(), y = b.list(); x && y && x->tuple == y->tuple) {
      std::vector<Value> items = x->items;
      items.insert(items.end(), y->items.begin(), y->items.end());
      return context.made(std::move(items), x->tuple);
    }
  }
  if (op == Operator::kMul) {
    if ((a.text() || a.list()) && b.as_int()) return repeated(context, a, *b.as_int());
    if ((b.text() || b.list()) && a.as_int()) return repeated(context, b, *a.as_int());
  }
  if (op == Operator::kMod && a.text()) {
    const auto list = b.list();
    const auto dict = b.dict();
    const std::vector<Value> values = list && list->tuple ? list->items : std::vector<Value>{b};
    return context.made(percent_format(context, *a.text(), values, dict.get()));
  }
  refuse(op, a, b);
}

bool compares(Context& context, Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::kEq:
      return a == b;
    case Operator::kNe:
      return !(a == b);
    case Operator::kLt:
      return Value::compare(a, b) < 0;
    case Operator::kLe:
      return Value::compare(a, b) <= 0;
    case Operator::kGt:
      return Value::compare(a, b) > 0;
    case Operator::kGe:
      return Value::compare(a, b) >= 0;
    case Operator::kNotIn:
      return !is_in(context, a, b);
    default:
      return is_in(context, a, b);
  }
}

}  // namespace roundhouse::jinja

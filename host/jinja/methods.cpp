// SPDX-License-Identifier: Apache-2.0
// Methods of texts, lists and dicts, the functions that every template has, and how calls bind their arguments.
#include <algorithm>
#include <array>
#include <ctime>
#include <map>

#include "host/base/words.h"
#include "host/jinja/builtins.h"
#include "host/jinja/python_text.h"

namespace roundhouse::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as in Jinja2's sandbox

const std::string& self(const Value& value) { return *value.text(); }

// ---- of texts ----

int64_t count_of(const std::string& text, const std::string& part) {
  if (part.empty()) return static_cast<int64_t>(text_length(text)) + 1;
  int64_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++count;
  return count;
}

template <std::string (*kConvert)(std::string_view)>
Value convert(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "this method", {});
  return in.made(kConvert(self(value)));
}

template <bool (*kTest)(std::string_view)>
Value check(Context&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "this method", {});
  return kTest(self(value));
}

template <bool kLeft, bool kRight>
Value strip_method(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "strip", {"chars"});
  return in.made(std::string(strip(self(value), bound.optional_text(0), kLeft, kRight)));
}

Value strings(Context& in, std::vector<std::string> parts, bool tuple = false) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (std::string& part : parts) items.push_back(in.made(std::move(part)));
  return in.made(std::move(items), tuple);
}

template <bool kFromRight>
Value split_method(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "split", {"sep", "maxsplit"});
  const auto separator = bound.optional_text(0);
  const int64_t limit = bound.whole(1, -1);
  in.budget().spend_steps(self(value).size() / 16);
  if (!separator) return strings(in, split_space(self(value), limit, kFromRight));
  if (separator->empty()) throw TemplateError("split: the separator is empty");
  return strings(in, split_at(self(value), *separator, limit, kFromRight));
}

Value splitlines(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "splitlines", {"keepends"});
  return strings(in, split_lines(self(value), bound.flag(0, false)));
}

template <bool kFromRight>
Value partition(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "partition", {"sep"});
  const std::string& text = self(value);
  const std::string& separator = bound.text(0);
  if (separator.empty()) throw TemplateError("partition: the separator is empty");
  const size_t at = kFromRight ? text.rfind(separator) : text.find(separator);
  if (at == text.npos)
    return strings(in, kFromRight ? std::vector<std::string>{"", "", text} : std::vector<std::string>{text, "", ""},
                   true);
  return strings(in, {text.substr(0, at), separator, text.substr(at + separator.size())}, true);
}

template <bool kEnd>
Value starts_or_ends(Context&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, kEnd ? "endswith" : "startswith", {"affix"});
  const auto has = [&](const std::string& affix) {
    return kEnd ? self(value).ends_with(affix) : self(value).starts_with(affix);
  };
  const auto list = bound[0] ? bound[0]->list() : nullptr;
  if (!list || !list->tuple) return has(bound.text(0));
  return std::any_of(list->items.begin(), list->items.end(), [&](const Value& affix) {
    if (!affix.text()) affix.fail("be an affix");
    return has(*affix.text());
  });
}

Value replace_method(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "replace", {"old", "new", "count"});
  return replaced(in, self(value), bound.text(0), bound.text(1), bound.whole(2, -1));
}

template <bool kPrefix>
Value remove_affix(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, kPrefix ? "removeprefix" : "removesuffix", {"affix"});
  const std::string &text = self(value), &affix = bound.text(0);
  if (kPrefix) return in.made(text.starts_with(affix) ? text.substr(affix.size()) : text);
  return in.made(text.ends_with(affix) ? text.substr(0, text.size() - affix.size()) : text);
}

// Where `part` begins, in characters; -1: nowhere.
int64_t find_in(const std::string& text, const std::string& part, bool from_right) {
  const size_t at = from_right ? text.rfind(part) : text.find(part);
  return at == text.npos ? -1 : static_cast<int64_t>(text_length(std::string_view(text).substr(0, at)));
}

template <bool kFromRight, bool kMustBe>
Value find_method_of_text(Context&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "find", {"sub"});
  const int64_t at = find_in(self(value), bound.text(0), kFromRight);
  if (kMustBe && at < 0) throw TemplateError("index: the text is not there");
  return at;
}

Value count_in_text(Context&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "count", {"sub"});
  const std::string &text = self(value), &part = bound.text(0);
  return count_of(text, part);
}

Value join_method(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "join", {"iterable"});
  std::string result;
  bool first = true;
  for (const Value& item : in.items(bound[0] ? *bound[0] : Value())) {
    if (!item.text()) item.fail("be joined");
    in.budget().spend_bytes(item.text()->size() + self(value).size());
    if (!first) result += self(value);
    first = false;
    result += *item.text();
  }
  return result;
}

// {}, {0} and {name}, without what may stand behind a colon.
Value format_method(Context& in, const Value& value, Arguments& arguments) {
  std::string result;
  size_t next = 0;
  const std::string& format = self(value);
  for (size_t at = 0; at < format.size(); ++at) {
    const char c = format[at];
    if ((c == '{' || c == '}') && at + 1 < format.size() && format[at + 1] == c) {
      result += c;
      ++at;
      continue;
    }
    if (c != '{' && c != '}') {
      result += c;
      continue;
    }
    const size_t end = format.find('}', at);
    if (c == '}' || end == format.npos) throw TemplateError("format: a brace is alone");
    const std::string name = format.substr(at + 1, end - at - 1);
    at = end;
    const bool is_number = !name.empty() && name.size() < 7 && name.find_first_not_of("0123456789") == name.npos;
    const Value* found = nullptr;
    if (name.empty() || is_number) {
      const size_t index = name.empty() ? next++ : std::stoul(name);
      if (index < arguments.positional.size()) found = &arguments.positional[index];
    } else {
      for (const auto& [known, argument] : arguments.named)
        if (known == name) found = &argument;
    }
    if (!found) throw TemplateError(cat("format: nothing is given for {", name, "}, or it is not supported"));
    in.budget().spend_bytes(found->extent().weight);
    result += in.text(*found);
  }
  return in.made(std::move(result));
}

template <int kSide>  // -1: space behind the text, 1: in front of it, 0: around it
Value justify(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "this method", {"width", "fillchar"});
  const auto length = static_cast<int64_t>(text_length(self(value)));
  const int64_t missing = std::max<int64_t>(bound.whole(0, 0) - length, 0);
  const std::string fill = bound[1] ? bound.text(1) : " ";
  if (text_length(fill) != 1) throw TemplateError("the fill is not one character");
  in.budget().spend_bytes(static_cast<size_t>(missing));
  std::string front, back;
  const int64_t width = length + missing;
  const int64_t in_front = kSide > 0 ? missing : kSide < 0 ? 0 : missing / 2 + (missing & width & 1);
  for (int64_t i = 0; i < missing; ++i) (i < in_front ? front : back) += fill;
  return in.made(front + self(value) + back);
}

Value zfill(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "zfill", {"width"});
  const std::string& text = self(value);
  const int64_t missing = std::max<int64_t>(bound.whole(0, 0) - static_cast<int64_t>(text_length(text)), 0);
  in.budget().spend_bytes(static_cast<size_t>(missing));
  const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  return in.made(text.substr(0, sign) + std::string(static_cast<size_t>(missing), '0') + text.substr(sign));
}

// ---- of lists and dicts ----

template <bool kCount>
Value find_in_list(Context&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, kCount ? "count" : "index", {"value"});
  const auto& items = value.list()->items;
  const Value wanted = bound[0] ? *bound[0] : Value();
  if (kCount) return static_cast<int64_t>(std::count(items.begin(), items.end(), wanted));
  const auto found = std::find(items.begin(), items.end(), wanted);
  if (found == items.end()) throw TemplateError("index: the value is not in the list");
  return static_cast<int64_t>(found - items.begin());
}

Value copy(Context&, const Value& value, Arguments&) { return value; }

Value dict_get(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "get", {"key", "default"});
  if (!bound[0]) throw TemplateError("get: the key is missing");
  in.budget().spend_steps(value.dict()->entries.size() / 16);
  if (const Value* found = value.dict()->find(*bound[0])) return *found;
  return bound[1] ? *bound[1] : Value::none();
}

template <bool kKeys, bool kValues>
Value dict_parts(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "this method", {});
  std::vector<Value> parts;
  for (const auto& [key, item] : value.dict()->entries)
    parts.push_back(kKeys && kValues ? in.made({key, item}, true) : kKeys ? key : item);
  return in.made(std::move(parts));
}

// ---- functions ----

Value raise_exception(Context& in, const Value&, Arguments& arguments) {
  const Bound bound(arguments, "raise_exception", {"message"});
  throw TemplateError(bound[0] ? in.text(*bound[0]) : "the template raises an exception");
}

Value strftime_now(Context& in, const Value&, Arguments& arguments) {
  const Bound bound(arguments, "strftime_now", {"format"});
  const std::chrono::sys_days days = in.date();
  const std::chrono::weekday weekday(days);
  const std::chrono::sys_days first = in.date().year() / std::chrono::January / 1;
  std::tm time{};
  time.tm_year = static_cast<int>(in.date().year()) - 1900;
  time.tm_mon = static_cast<int>(static_cast<unsigned>(in.date().month())) - 1;
  time.tm_mday = static_cast<int>(static_cast<unsigned>(in.date().day()));
  time.tm_wday = static_cast<int>(weekday.c_encoding());
  time.tm_yday = static_cast<int>((days - first).count());
  // One directive at a time: what it gives is short.
  std::string result;
  const std::string& format = bound.text(0);
  for (size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%' || at + 1 == format.size()) {
      result += format[at];
      continue;
    }
    std::string directive = {'%', format[++at]};
    if ((format[at] == '-' || format[at] == '_' || format[at] == '0') && at + 1 < format.size())
      directive += format[++at];
    std::array<char, 128> buffer{};
    result.append(buffer.data(), std::strftime(buffer.data(), buffer.size(), directive.c_str(), &time));
  }
  return in.made(std::move(result));
}

Value range(Context& in, const Value&, Arguments& arguments) {
  const Bound bound(arguments, "range", {"start", "stop", "step"});
  const int64_t start = bound[1] ? bound.whole(0, 0) : 0, stop = bound.whole(bound[1] ? 1 : 0, 0);
  const int64_t step = bound.whole(2, 1);
  if (step == 0) throw TemplateError("range: the step is 0");
  std::vector<Value> items;
  for (int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange)
      throw TemplateError(cat("range: has more than ", kMaxRange, " numbers"));
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return in.made(std::move(items));
}

// The entries of dict(...) and namespace(...): a dict, or pairs, and named ones.
std::vector<std::pair<Value, Value>> entries_of(Context& in, const Arguments& arguments) {
  std::vector<std::pair<Value, Value>> entries;
  const auto set = [&](const Value& key, const Value& value) {
    in.budget().spend_steps(1 + entries.size() / 16);
    for (auto& [known, old] : entries) {
      if (!(known == key)) continue;
      old = value;
      return;
    }
    entries.emplace_back(key, value);
  };
  if (arguments.positional.size() > 1) throw TemplateError("dict: takes one value and named ones");
  for (const Value& value : arguments.positional) {
    if (const auto dict = value.dict()) {
      for (const auto& [key, item] : dict->entries) set(key, item);
      continue;
    }
    for (const Value& pair : in.items(value)) {
      const auto parts = in.items(pair);
      if (parts.size() != 2) throw TemplateError("dict: takes pairs");
      set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) set(name, value);
  return entries;
}

Value dict_function(Context& in, const Value&, Arguments& arguments) { return in.made_dict(entries_of(in, arguments)); }

Value namespace_function(Context& in, const Value&, Arguments& arguments) {
  std::vector<std::pair<std::string, Value>> attributes;
  for (auto& [key, value] : entries_of(in, arguments)) {
    if (!key.text()) key.fail("be a name in a namespace");
    if (key.text()->starts_with('_')) throw TemplateError(cat("a namespace keeps no name such as ", *key.text()));
    attributes.emplace_back(*key.text(), value);
  }
  return in.made_namespace(std::move(attributes));
}

}  // namespace

Bound::Bound(const Arguments& arguments, const std::string& function, std::initializer_list<const char*> parameters)
    : function_(function), values_(parameters.size()), names_(parameters.begin(), parameters.end()) {
  if (arguments.positional.size() > values_.size())
    throw TemplateError(cat(function, ": takes no more than ", values_.size(), " arguments"));
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) throw TemplateError(cat(function, ": takes no argument ", name));
    values_[static_cast<size_t>(found - names_.begin())] = &value;
  }
}

const std::string& Bound::text(size_t i) const {
  if (!values_[i]) throw TemplateError(cat(function_, ": ", names_[i], " is missing"));
  const std::string* text = values_[i]->text();
  if (!text) values_[i]->fail(cat("be ", names_[i], " of ", function_));
  return *text;
}

std::optional<std::string_view> Bound::optional_text(size_t i) const {
  if (!values_[i] || values_[i]->is_none()) return std::nullopt;
  return text(i);
}

int64_t Bound::whole(size_t i, int64_t otherwise) const {
  if (!values_[i]) return otherwise;
  const auto number = values_[i]->as_int();
  if (!number) values_[i]->fail(cat("be ", names_[i], " of ", function_));
  return *number;
}

Value replaced(Context& in, const std::string& text, const std::string& from, const std::string& to, int64_t limit) {
  const int64_t all = count_of(text, from);
  in.budget().spend_bytes(static_cast<size_t>(limit < 0 ? all : std::min(all, limit)) * to.size());
  return in.made(replace_text(text, from, to, limit));
}

Function find_method(const Value& value, const std::string& name) {
  static const std::map<std::string_view, Function> kText = {
      {"capitalize", convert<capitalize>},
      {"casefold", convert<to_lower>},
      {"center", justify<0>},
      {"count", count_in_text},
      {"endswith", starts_or_ends<true>},
      {"find", find_method_of_text<false, false>},
      {"format", format_method},
      {"index", find_method_of_text<false, true>},
      {"isalnum", check<is_alphanumeric>},
      {"isalpha", check<is_alphabetic>},
      {"isdecimal", check<is_digit>},
      {"isdigit", check<is_digit>},
      {"islower", check<is_lower>},
      {"isnumeric", check<is_numeric>},
      {"isspace",
       [](Context&, const Value& v, Arguments&) -> Value {
         return !self(v).empty() && strip(self(v), std::nullopt, true, false).empty();
       }},
      {"isupper", check<is_upper>},
      {"join", join_method},
      {"ljust", justify<-1>},
      {"lower", convert<to_lower>},
      {"lstrip", strip_method<true, false>},
      {"partition", partition<false>},
      {"removeprefix", remove_affix<true>},
      {"removesuffix", remove_affix<false>},
      {"replace", replace_method},
      {"rfind", find_method_of_text<true, false>},
      {"rindex", find_method_of_text<true, true>},
      {"rjust", justify<1>},
      {"rpartition", partition<true>},
      {"rsplit", split_method<true>},
      {"rstrip", strip_method<false, true>},
      {"split", split_method<false>},
      {"splitlines", splitlines},
      {"startswith", starts_or_ends<false>},
      {"strip", strip_method<true, true>},
      {"title", convert<to_title>},
      {"upper", convert<to_upper>},
      {"zfill", zfill},
  };
  static const std::map<std::string_view, Function> kList = {
      {"copy", copy},
      {"count", find_in_list<true>},
      {"index", find_in_list<false>},
  };
  static const std::map<std::string_view, Function> kDict = {
      {"copy", copy},
      {"get", dict_get},
      {"items", dict_parts<true, true>},
      {"keys", dict_parts<true, false>},
      {"values", dict_parts<false, true>},
  };
  const auto in = [&](const auto& methods) {
    const auto found = methods.find(name);
    return found == methods.end() ? nullptr : found->second;
  };
  if (value.text()) return in(kText);
  if (value.list()) return in(kList);
  return value.dict() ? in(kDict) : nullptr;
}

bool would_change(const Value& value, const std::string& name) {
  static const std::vector<std::string> kList = {"append", "clear",  "extend",  "insert",
                                                 "pop",    "remove", "reverse", "sort"};
  static const std::vector<std::string> kDict = {"clear", "pop", "popitem", "setdefault", "update"};
  if (const auto list = value.list()) return !list->tuple && contains(kList, name);
  return value.dict() && contains(kDict, name);
}

std::vector<std::pair<std::string, Value>> global_functions() {
  std::vector<std::pair<std::string, Value>> functions;
  const auto add = [&](const char* name, Function function) {
    Callable callable{
        name, [function](Context& context, Arguments& arguments) { return function(context, Value(), arguments); }};
    functions.emplace_back(name, std::make_shared<const Callable>(std::move(callable)));
  };
  add("dict", dict_function);
  add("namespace", namespace_function);
  add("raise_exception", raise_exception);
  add("range", range);
  add("strftime_now", strftime_now);
  return functions;
}

}  // namespace roundhouse::jinja

// SPDX-License-Identifier: Apache-2.0
// Jinja2's filters, and transformers' tojson.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "host/jinja/builtins.h"
#include "host/jinja/python_text.h"

namespace roundhouse::jinja {
namespace {

template <std::string (*kConvert)(std::string_view)>
Value convert(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "this filter", {});
  return in.made(kConvert(in.text(value)));
}

// Jinja2's own: letters behind white space, hyphens and opening brackets become large, all others small.
std::string title(std::string_view text) {
  std::string result;
  std::u32string word;
  const auto flush = [&] {
    if (word.empty()) return;
    result += to_upper(encode_utf8(word.substr(0, 1))) + to_lower(encode_utf8(word.substr(1)));
    word.clear();
  };
  for (const char32_t c : decode_utf8(text)) {
    if (!is_space(c) && std::u32string_view(U"-({[<").find(c) == std::u32string_view::npos) {
      word += c;
      continue;
    }
    flush();
    append_utf8(result, c);
  }
  flush();
  return result;
}

Value trim(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "trim", {"chars"});
  return in.made(std::string(strip(in.text(value), bound.optional_text(0), true, true)));
}

Value replace(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "replace", {"old", "new", "count"});
  const bool all = !bound[2] || bound[2]->is_none();
  if (!bound[0] || !bound[1]) throw TemplateError("replace: takes an old and a new text");
  return replaced(in, in.text(value), in.text(*bound[0]), in.text(*bound[1]), all ? -1 : bound.whole(2, -1));
}

Value tojson(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.flag(0, false);
  style.sort_keys = bound.flag(3, false);
  if (bound[1] && bound[1]->text()) {
    style.indent = *bound[1]->text();
  } else if (bound[1] && !bound[1]->is_none()) {
    style.indent = std::string(static_cast<size_t>(std::clamp<int64_t>(bound.whole(1, 0), 0, 100)), ' ');
  }
  if (bound[2] && !bound[2]->is_none()) {
    const auto parts = in.items(*bound[2]);
    if (parts.size() != 2 || !parts[0].text() || !parts[1].text())
      throw TemplateError("tojson: separators are two texts");
    style.item_separator = *parts[0].text();
    style.key_separator = *parts[1].text();
  } else if (style.indent) {
    style.item_separator = ",";
  }
  const size_t indent = style.indent ? style.indent->size() * static_cast<size_t>(value.extent().depth + 1) : 0;
  in.budget().spend_bytes(value.extent().weight *
                          (6 + indent + style.item_separator.size() + style.key_separator.size()) / 4);
  return in.made(to_json_text(value, style));
}

Value length(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "length", {});
  if (value.text()) return static_cast<int64_t>(text_length(*value.text()));
  if (value.dict()) return static_cast<int64_t>(value.dict()->entries.size());
  if (!value.list() && !value.is_undefined()) value.fail("have a length");
  return static_cast<int64_t>(in.items(value).size());
}

Value default_filter(Context&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "default", {"default_value", "boolean"});
  if (!value.is_undefined() && !(bound.flag(1, false) && !value.truth())) return value;
  return bound[0] ? *bound[0] : "";
}

Value first(Context& in, const Value& value, Arguments&) {
  const Items all = in.items(value);
  return all.empty() ? Value::undefined("there is no first item") : all[0];
}

Value last(Context& in, const Value& value, Arguments&) {
  const Items all = in.items(value);
  return all.empty() ? Value::undefined("there is no last item") : all[all.size() - 1];
}

Value list_filter(Context& in, const Value& value, Arguments&) {
  const Items all = in.items(value);
  return value.list() && !value.list()->tuple ? value : in.made(std::vector<Value>(all.begin(), all.end()));
}

Value string_filter(Context& in, const Value& value, Arguments&) {
  return value.text() ? value : in.made(in.text(value));
}

Value safe(Context&, const Value& value, Arguments&) { return value; }

Value escape(Context& in, const Value& value, Arguments&) {
  std::string result;
  for (const char c : in.text(value)) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '\'')
      result += "&#39;";
    else if (c == '"')
      result += "&#34;";
    else
      result += c;
  }
  return in.made(std::move(result));
}

Value reverse(Context& in, const Value& value, Arguments&) {
  if (const std::string* text = value.text()) {
    std::u32string characters = decode_utf8(*text);
    std::reverse(characters.begin(), characters.end());
    return in.made(encode_utf8(characters));
  }
  const Items all = in.items(value);
  return in.made(std::vector<Value>(std::make_reverse_iterator(all.end()), std::make_reverse_iterator(all.begin())));
}

Value items(Context& in, const Value& value, Arguments&) {
  std::vector<Value> pairs;
  if (const auto dict = value.dict()) {
    for (const auto& [key, item] : dict->entries) pairs.push_back(in.made({key, item}, true));
  } else if (!value.is_undefined()) {
    value.fail("have items with keys");
  }
  return in.made(std::move(pairs));
}

Value indent(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "indent", {"width", "first", "blank"});
  const bool is_text = bound[0] && bound[0]->text();
  const int64_t width = is_text ? 0 : std::clamp<int64_t>(bound.whole(0, 4), 0, 10'000);
  const std::string space = is_text ? *bound[0]->text() : std::string(static_cast<size_t>(width), ' ');
  // Jinja2 adds a line's end before it cuts, so that an empty last line is one.
  const std::vector<std::string> lines = split_lines(in.text(value) + "\n", false);
  in.budget().spend_bytes(lines.size() * space.size());
  std::string result = bound.flag(1, false) ? space : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) result += '\n';
    if (i > 0 && (bound.flag(2, false) || !lines[i].empty())) result += space;
    result += lines[i];
  }
  return in.made(std::move(result));
}

Value int_filter(Context&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "int", {"default", "base"});
  const Value otherwise = bound[0] ? *bound[0] : Value(int64_t{0});
  if (const auto whole = value.as_int()) return *whole;
  double number = 0;
  if (const std::string* text = value.text()) {
    std::string digits(strip(*text, std::nullopt, true, true));
    std::erase(digits, '_');
    const size_t sign = digits.starts_with('-') || digits.starts_with('+') ? 1 : 0;
    const int64_t base = bound.whole(1, 10);
    if (base < 2 || base > 36) throw TemplateError("int: a base from 2 to 36 is expected");
    size_t begin = sign;
    const std::string prefix = to_lower(digits.substr(sign, 2));
    if ((base == 16 && prefix == "0x") || (base == 8 && prefix == "0o") || (base == 2 && prefix == "0b")) begin += 2;
    const std::string all = (digits.starts_with('-') ? "-" : "") + digits.substr(begin);
    int64_t whole = 0;
    const char* const end = all.data() + all.size();
    if (const auto result = std::from_chars(all.data(), end, whole, static_cast<int>(base));
        result.ec == std::errc() && result.ptr == end)
      return whole;
    const char* const from = digits.data() + (digits.starts_with('+') ? 1 : 0);
    const char* const to = digits.data() + digits.size();
    const auto result = std::from_chars(from, to, number);
    if (result.ec != std::errc() || result.ptr != to) return otherwise;
  } else if (const auto held = value.as_number()) {
    number = *held;
  } else {
    return otherwise;
  }
  if (!(std::fabs(number) < 9.2e18)) return otherwise;
  return static_cast<int64_t>(number);
}

Value float_filter(Context&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "float", {"default"});
  if (const auto number = value.as_number()) return *number;
  if (const std::string* text = value.text()) {
    const std::string_view digits = strip(*text, std::nullopt, true, true);
    const char* const from = digits.data() + (digits.starts_with('+') ? 1 : 0);
    double number = 0;
    const auto result = std::from_chars(from, digits.data() + digits.size(), number);
    if (result.ec == std::errc() && result.ptr == digits.data() + digits.size()) return number;
  }
  return bound[0] ? *bound[0] : Value(0.0);
}

Value abs_filter(Context& in, const Value& value, Arguments&) {
  const auto number = value.as_number();
  if (!number) value.fail("have a size");
  return *number < 0 ? binary(in, Operator::kSub, int64_t{0}, value) : value;
}

Value round_filter(Context&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "round", {"precision", "method"});
  const std::string method = bound[1] ? bound.text(1) : "common";
  const int precision = static_cast<int>(std::clamp<int64_t>(bound.whole(0, 0), -300, 300));
  const auto number = value.as_number();
  if (!number) value.fail("be rounded");
  if (method == "common" && value.as_int()) return precision >= 0 ? value : Value(*number);
  if (method == "common" && precision >= 0) {  // to the nearest of the number as it is stored, as printf does
    char buffer[1024];
    std::snprintf(buffer, sizeof buffer, "%.*f", precision, *number);
    return std::strtod(buffer, nullptr);
  }
  const double scale = std::pow(10.0, precision);
  if (method == "common") return std::nearbyint(*number * scale) / scale;
  if (method != "ceil" && method != "floor") throw TemplateError("round: the method is common, ceil or floor");
  return (method == "ceil" ? std::ceil(*number * scale) : std::floor(*number * scale)) / scale;
}

Value format(Context& in, const Value& value, Arguments& arguments) {
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [name, item] : arguments.named) entries.emplace_back(name, item);
  if (!entries.empty() && !arguments.positional.empty())
    throw TemplateError("format: takes values either with or without names");
  const Value named = Value::dict(std::move(entries));
  return in.made(
      percent_format(in, in.text(value), arguments.positional, arguments.named.empty() ? nullptr : named.dict().get()));
}

// ---- of sequences ----

// item.a.0.b for "a.0.b".
Value by_path(Context& in, Value item, const Value& path) {
  if (!path.text()) return in.item(item, path);
  for (const std::string& part : split_at(*path.text(), ".", -1, false)) {
    const bool is_number = !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == part.npos;
    item = in.item(item, is_number ? Value(static_cast<int64_t>(std::stoll(part))) : Value(part));
  }
  return item;
}

// What filters sort, join and compare by: an attribute, in lower case unless case counts.
class Key {
 public:
  Key(Context& context, const Value* path, bool case_counts)
      : in_(context), path_(path && !path->is_none() ? path : nullptr), case_counts_(case_counts) {}

  Value operator()(const Value& item) const {
    const Value value = path_ ? by_path(in_, item, *path_) : item;
    return !case_counts_ && value.text() ? in_.made(to_lower(*value.text())) : value;
  }

 private:
  Context& in_;
  const Value* path_;
  bool case_counts_;
};

template <typename Item>
void sort_by_keys(Context& in, std::vector<std::pair<Value, Item>>& items, bool reversed) {
  std::stable_sort(items.begin(), items.end(), [&](const auto& a, const auto& b) {
    in.budget().spend_steps(1);
    return reversed ? Value::compare(b.first, a.first) < 0 : Value::compare(a.first, b.first) < 0;
  });
}

Value sort(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  const Key key(in, bound[2], bound.flag(1, false));
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : in.items(value)) keyed.emplace_back(key(item), item);
  sort_by_keys(in, keyed, bound.flag(0, false));
  std::vector<Value> sorted;
  for (const auto& [k, item] : keyed) sorted.push_back(item);
  return in.made(std::move(sorted));
}

Value dictsort(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  const std::string by = bound[1] ? bound.text(1) : "key";
  if (by != "key" && by != "value") throw TemplateError("dictsort: is by key or by value");
  const auto dict = value.dict();
  if (!dict) value.fail("be sorted by keys");
  const Key key(in, nullptr, bound.flag(0, false));
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [name, item] : dict->entries)
    keyed.emplace_back(key(by == "key" ? name : item), in.made({name, item}, true));
  sort_by_keys(in, keyed, bound.flag(2, false));
  std::vector<Value> sorted;
  for (const auto& [k, pair] : keyed) sorted.push_back(pair);
  return in.made(std::move(sorted));
}

Value unique(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "unique", {"case_sensitive", "attribute"});
  const Key key(in, bound[1], bound.flag(0, false));
  std::vector<Value> seen, kept;
  for (const Value& item : in.items(value)) {
    Value k = key(item);
    in.budget().spend_steps(seen.size());
    if (std::find(seen.begin(), seen.end(), k) != seen.end()) continue;
    seen.push_back(std::move(k));
    kept.push_back(item);
  }
  return in.made(std::move(kept));
}

template <int kSign>
Value extreme(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, kSign < 0 ? "min" : "max", {"case_sensitive", "attribute"});
  const Key key(in, bound[1], bound.flag(0, false));
  Value best = Value::undefined("an empty list has no smallest or largest item"), best_key;
  bool any = false;
  for (const Value& item : in.items(value)) {
    Value k = key(item);
    if (any && Value::compare(k, best_key) * kSign <= 0) continue;
    any = true;
    best = item;
    best_key = std::move(k);
  }
  return best;
}

Value sum(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "sum", {"attribute", "start"});
  const Key key(in, bound[0], true);
  Value total = bound[1] ? *bound[1] : Value(int64_t{0});
  for (const Value& item : in.items(value)) total = binary(in, Operator::kAdd, total, key(item));
  return total;
}

Value join(Context& in, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "join", {"d", "attribute"});
  const Key key(in, bound[1], true);
  const std::string separator = bound[0] ? in.text(*bound[0]) : "";
  std::string result;
  bool is_first = true;
  for (const Value& item : in.items(value)) {
    const std::string text = in.text(key(item));
    in.budget().spend_bytes(text.size() + separator.size());
    if (!is_first) result += separator;
    is_first = false;
    result += text;
  }
  return result;
}

// The rest of a call that names a filter or test as its argument number `at`.
Arguments rest_of(const Arguments& arguments, size_t at) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(at + 1));
  return rest;
}

const std::string& name_in(const Arguments& arguments, size_t at, const char* function) {
  if (arguments.positional.size() <= at || !arguments.positional[at].text())
    throw TemplateError(cat(function, ": a name is missing"));
  return *arguments.positional[at].text();
}

Value map(Context& in, const Value& value, Arguments& arguments) {
  std::vector<Value> mapped;
  const Items all = in.items(value.truth() ? value : Value());  // none is empty here
  if (arguments.positional.empty()) {
    const Bound bound(arguments, "map", {"attribute", "default"});
    if (!bound[0]) throw TemplateError("map: a filter or an attribute is missing");
    for (const Value& item : all) {
      Value found = by_path(in, item, *bound[0]);
      if (found.is_undefined() && bound[1]) found = *bound[1];
      mapped.push_back(std::move(found));
    }
    return in.made(std::move(mapped));
  }
  const std::string& name = name_in(arguments, 0, "map");
  for (const Value& item : all) {
    Arguments rest = rest_of(arguments, 0);
    mapped.push_back(in.filter(name, item, rest));
  }
  return in.made(std::move(mapped));
}

// select, reject, selectattr, rejectattr.
template <bool kKeeps, bool kByAttribute>
Value select(Context& in, const Value& value, Arguments& arguments) {
  const size_t at = kByAttribute ? 1 : 0;
  if (kByAttribute && arguments.positional.empty()) throw TemplateError("selectattr: an attribute is missing");
  const bool has_test = arguments.positional.size() > at;
  const std::string name = has_test ? name_in(arguments, at, "select") : "";
  std::vector<Value> kept;
  for (const Value& item : in.items(value.truth() ? value : Value())) {
    in.budget().spend_steps(1);
    const Value subject = kByAttribute ? by_path(in, item, arguments.positional[0]) : item;
    Arguments rest = has_test ? rest_of(arguments, at) : Arguments();
    if ((has_test ? in.test(name, subject, rest) : subject.truth()) == kKeeps) kept.push_back(item);
  }
  return in.made(std::move(kept));
}

}  // namespace

Function find_filter(const std::string& name) {
  static const std::map<std::string_view, Function> kFilters = {
      {"abs", abs_filter},
      {"capitalize", convert<capitalize>},
      {"count", length},
      {"d", default_filter},
      {"default", default_filter},
      {"dictsort", dictsort},
      {"e", escape},
      {"escape", escape},
      {"first", first},
      {"float", float_filter},
      {"format", format},
      {"indent", indent},
      {"int", int_filter},
      {"items", items},
      {"join", join},
      {"last", last},
      {"length", length},
      {"list", list_filter},
      {"lower", convert<to_lower>},
      {"map", map},
      {"max", extreme<1>},
      {"min", extreme<-1>},
      {"reject", select<false, false>},
      {"rejectattr", select<false, true>},
      {"replace", replace},
      {"reverse", reverse},
      {"round", round_filter},
      {"safe", safe},
      {"select", select<true, false>},
      {"selectattr", select<true, true>},
      {"sort", sort},
      {"string", string_filter},
      {"sum", sum},
      {"title", convert<title>},
      {"tojson", tojson},
      {"trim", trim},
      {"unique", unique},
      {"upper", convert<to_upper>},
  };
  const auto found = kFilters.find(name);
  return found == kFilters.end() ? nullptr : found->second;
}

}  // namespace roundhouse::jinja

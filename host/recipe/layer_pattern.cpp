// SPDX-License-Identifier: Apache-2.0
#include "host/recipe/layer_pattern.h"

#include <oniguruma.h>

#include "host/base/error.h"

namespace roundhouse {
namespace {

constexpr const char* kRegexPrefix = "re:";

const OnigUChar* uchars(const char* text) { return reinterpret_cast<const OnigUChar*>(text); }

std::string reason(int code, OnigErrorInfo* info = nullptr) {
  OnigUChar buffer[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = onig_error_code_to_str(buffer, code, info);
  return {reinterpret_cast<const char*>(buffer), static_cast<size_t>(length)};
}

}  // namespace

struct LayerPattern::Regex {
  regex_t* program = nullptr;

  explicit Regex(const std::string& expression) {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
    compile(expression);  // alone first, so that an error is about what was written
    onig_free(program);
    compile("(?:" + expression + ")\\Z");
  }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex() { onig_free(program); }

  void compile(const std::string& expression) {
    program = nullptr;
    OnigErrorInfo info{};
    const char* text = expression.data();
    const int code = onig_new(&program, uchars(text), uchars(text + expression.size()), ONIG_OPTION_NONE,
                              ONIG_ENCODING_UTF8, ONIG_SYNTAX_PYTHON, &info);
    if (code != ONIG_NORMAL) throw Error(cat("is not a regular expression: ", reason(code, &info)));
  }
};

LayerPattern::LayerPattern(std::string text) : text_(std::move(text)) {
  if (text_.starts_with(kRegexPrefix)) regex_ = std::make_shared<Regex>(text_.substr(std::string(kRegexPrefix).size()));
}

bool LayerPattern::matches(const std::string& layer) const {
  if (!regex_) return layer == text_;
  const OnigUChar* begin = uchars(layer.data());
  const OnigUChar* end = begin + layer.size();
  const int matched = onig_match(regex_->program, begin, end, begin, nullptr, ONIG_OPTION_NONE);
  if (matched < 0 && matched != ONIG_MISMATCH)
    throw Error(cat("the pattern \"", text_, "\" failed on ", layer, ": ", reason(matched)));
  return matched >= 0;
}

std::string LayerPattern::quoted(const std::string& text) {
  std::string expression;
  for (const char c : text) {
    if (std::string_view("\\.^$|?*+()[]{}").find(c) != std::string_view::npos) expression += '\\';
    expression += c;
  }
  return expression;
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/pattern.h"

#include <oniguruma.h>

#include <mutex>
#include <roundhouse/error.hpp>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

const OnigUChar* uchars(const char* text) { return reinterpret_cast<const OnigUChar*>(text); }

std::string reason(int code, OnigErrorInfo* info = nullptr) {
  OnigUChar buffer[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = onig_error_code_to_str(buffer, code, info);
  return {reinterpret_cast<const char*>(buffer), static_cast<size_t>(length)};
}

}  // namespace

Pattern::Pattern(const std::string& expression) : expression_(expression) {
  static std::once_flag initialized;
  std::call_once(initialized, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  });
  regex_t* program = nullptr;
  OnigErrorInfo info{};
  const char* text = expression.data();
  const int code = onig_new(&program, uchars(text), uchars(text + expression.size()), ONIG_OPTION_NONE,
                            ONIG_ENCODING_UTF8, ONIG_SYNTAX_PYTHON, &info);
  if (code != ONIG_NORMAL)
    throw rh::Error(RH_DATA_LOSS, cat("\"", expression, "\" is not a regular expression: ", reason(code, &info)));
  program_ = {program, [](void* made) { onig_free(static_cast<regex_t*>(made)); }};
}

bool Pattern::matched(const std::string& text, bool from_the_beginning) const {
  auto* program = static_cast<regex_t*>(program_.get());
  const OnigUChar *begin = uchars(text.data()), *end = begin + text.size();
  const int at = from_the_beginning ? onig_match(program, begin, end, begin, nullptr, ONIG_OPTION_NONE)
                                    : onig_search(program, begin, end, begin, end, nullptr, ONIG_OPTION_NONE);
  if (at < 0 && at != ONIG_MISMATCH)
    throw rh::Error(RH_DATA_LOSS,
                    cat("the regular expression \"", expression_, "\" failed on ", text, ": ", reason(at)));
  return at >= 0;
}

}  // namespace roundhouse::formats

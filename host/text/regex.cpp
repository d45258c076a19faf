// SPDX-License-Identifier: Apache-2.0
#include "host/text/regex.h"

#include <oniguruma.h>

#include <optional>

#include "host/base/error.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

const OnigUChar* uchars(const char* text) { return reinterpret_cast<const OnigUChar*>(text); }

template <typename... Info>
std::string message_of(int code, Info... info) {
  OnigUChar buffer[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = onig_error_code_to_str(buffer, code, info...);
  return std::string(reinterpret_cast<const char*>(buffer), static_cast<size_t>(length));
}

void initialize_engine() {
  static const int code = [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    return onig_initialize(encodings, 1);
  }();
  if (code != ONIG_NORMAL) throw Error(cat("Oniguruma cannot start: ", message_of(code)));
}

}  // namespace

struct Regex::Program {
  regex_t* regex = nullptr;
  ~Program() { onig_free(regex); }
};

Regex::Regex(const std::string& expression) {
  initialize_engine();
  auto program = std::make_shared<Program>();
  OnigErrorInfo info;
  const char* begin = expression.data();
  const int code = onig_new(&program->regex, uchars(begin), uchars(begin + expression.size()), ONIG_OPTION_NONE,
                            ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
  if (code != ONIG_NORMAL) throw Error(cat("bad regular expression \"", expression, "\": ", message_of(code, &info)));
  program_ = std::move(program);
}

std::vector<Span> Regex::spans(std::string_view text) const {
  const std::unique_ptr<OnigRegion, void (*)(OnigRegion*)> region(onig_region_new(),
                                                                  [](OnigRegion* r) { onig_region_free(r, 1); });
  const OnigUChar* begin = uchars(text.data());
  const OnigUChar* end = begin + text.size();
  std::vector<Span> spans;
  std::optional<size_t> last_end;  // of the last match
  for (size_t at = 0; at <= text.size();) {
    const int found = onig_search(program_->regex, begin, end, begin + at, end, region.get(), ONIG_OPTION_NONE);
    if (found == ONIG_MISMATCH) break;
    if (found < 0) {
      throw Error(cat("a regular expression failed on a text of ", text.size(), " bytes: ", message_of(found)));
    }
    const auto match_begin = static_cast<size_t>(region->beg[0]);
    const auto match_end = static_cast<size_t>(region->end[0]);
    if (match_begin == match_end && last_end == match_end) {
      if (at == text.size()) break;
      unicode::next(text, at);
      continue;
    }
    const size_t covered = last_end.value_or(0);
    if (covered < match_begin) spans.push_back({covered, match_begin, false});
    spans.push_back({match_begin, match_end, true});
    last_end = at = match_end;
  }
  const size_t covered = last_end.value_or(0);
  if (covered < text.size()) spans.push_back({covered, text.size(), false});
  return spans;
}

}  // namespace roundhouse

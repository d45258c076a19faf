// SPDX-License-Identifier: Apache-2.0
// The tokens of a template.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace roundhouse::jinja {

struct Token {
  enum class Kind {
    kText,           // what stands outside of tags, white space control applied
    kBlockBegin,     // {%
    kBlockEnd,       // %}
    kVariableBegin,  // {{
    kVariableEnd,    // }}
    kName,
    kString,  // its value
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 1;
};

// With trim_blocks and lstrip_blocks. The last token is of kind kEnd. Throws Error "line N: ...".
std::vector<Token> tokenize(std::string_view source);

[[noreturn]] void fail_at(int line, const std::string& message);

}  // namespace roundhouse::jinja

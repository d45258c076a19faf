// SPDX-License-Identifier: Apache-2.0
#include "host/text/model.h"

#include <cstdio>
#include <limits>

#include "host/base/error.h"

namespace roundhouse {
Vocabulary read_vocabulary(const Component& model) {
  const auto entries = model.json().find("vocab");
  if (entries == model.json().end() || !entries->is_object()) model.fail("has no \"vocab\" object");
  Vocabulary vocabulary;
  vocabulary.reserve(entries->size());
  for (const auto& [token, id] : entries->items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > std::numeric_limits<int32_t>::max()) {
      model.fail(cat("the id of \"", token, "\" is not an integer of 31 bits"));
    }
    vocabulary.emplace(token, id.get<int32_t>());
  }
  return vocabulary;
}

std::string optional_text(const Component& model, const char* key) {
  const auto found = model.json().find(key);
  return found == model.json().end() || found->is_null() ? "" : model.text(key);
}

std::vector<std::optional<int32_t>> byte_tokens(const Vocabulary& vocabulary) {
  std::vector<std::optional<int32_t>> ids;
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", byte);
    const auto found = vocabulary.find(std::string_view(name));
    ids.push_back(found == vocabulary.end() ? std::nullopt : std::optional(found->second));
  }
  return ids;
}

void fail_unknown(std::string_view text, const std::string& unknown) {
  const std::string begin(text.substr(0, 40));
  throw Error(cat("the tokenizer has no token for \"", begin, text.size() > begin.size() ? "..." : "", "\", and ",
                  unknown.empty() ? "none for what is unknown"
                                  : cat("its token for what is unknown, ", unknown, ", is not in its vocabulary"),
                  "; leave the text out, or add the token to the tokenizer's files"));
}

}  // namespace roundhouse

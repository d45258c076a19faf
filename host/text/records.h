// SPDX-License-Identifier: Apache-2.0
// Texts from files as people have them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "host/text/chat_template.h"

namespace roundhouse {

struct Text {
  std::string text;
  bool templated = false;  // a chat template has put the special tokens

  bool operator==(const Text&) const = default;
};

struct ReadOptions {
  std::optional<std::string> field;     // the key of a record's text or conversation; nothing: the usual keys
  const ChatTemplates* chat = nullptr;  // for conversations; NULL: they are refused
  bool paragraphs = false;              // texts of a .txt are parted by blank lines rather than by every line's end
};

// The texts of a file, in its order and as they stand there, by its extension in any case:
//   .txt         one text a line (blank lines are skipped);
//   .jsonl       one JSON record a line (blank lines are skipped);
//   .json        a list of records, an object whose values are the records, one that has the list under "data", or
//                lines as in .jsonl;
//   .csv, .tsv   a header, then a record a row.
// A record is a string or an object. Of its keys count, in this order: "text"; "messages", "conversations" (of "role"
// and "content", or "from" and "value"), "prompt" with "response" and what is called so elsewhere, all of which go
// through the chat template; "content"; an only key of any name, unless that names no text, as "id" does.
// Bytes of .txt, .csv and .tsv that are not UTF-8 are replaced with a warning. Throws Error when the file is missing,
// is of another type, binary or UTF-16, holds no text, or has a record without text (naming its line or place, and how
// many others there are).
std::vector<Text> read_texts(const std::filesystem::path& path, const ReadOptions& options = {});

// A .txt as one text, with the same errors and warnings.
std::string read_plain_text(const std::filesystem::path& path);
bool is_plain_text(const std::filesystem::path& path);

}  // namespace roundhouse

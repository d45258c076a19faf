// SPDX-License-Identifier: Apache-2.0
#include "host/text/csv.h"

#include <algorithm>

#include "host/base/error.h"

namespace roundhouse {

std::vector<CsvRow> parse_csv(std::string_view content, char separator) {
  std::vector<CsvRow> rows;
  int line = 1;
  const auto ends_row = [&](size_t at) { return at >= content.size() || content[at] == '\n' || content[at] == '\r'; };
  for (size_t at = 0; at < content.size();) {
    CsvRow row{{}, line};
    for (;;) {
      std::string& field = row.fields.emplace_back();
      if (at < content.size() && content[at] == '"') {
        for (++at;; ++at) {
          if (at >= content.size()) throw Error(cat(row.line, ": a quotation that begins in this row has no end"));
          if (content[at] == '\n') ++line;
          if (content[at] != '"') {
            field += content[at];
          } else if (at + 1 < content.size() && content[at + 1] == '"') {
            field += content[at++];
          } else {
            break;
          }
        }
        if (++at < content.size() && content[at] != separator && !ends_row(at))
          throw Error(cat(line, ": text stands behind a quotation; quotes within one are doubled"));
      } else {
        while (!ends_row(at) && content[at] != separator) field += content[at++];
      }
      if (ends_row(at)) break;
      ++at;  // the separator
    }
    if (at < content.size() && content[at] == '\r') ++at;
    if (at < content.size() && content[at] == '\n') ++at;
    ++line;
    if (row.fields.size() > 1 || !row.fields[0].empty()) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Tables in text: .csv and .tsv.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace roundhouse {

struct CsvRow {
  std::vector<std::string> fields;
  int line = 0;  // where it begins, from 1
};

// The rows as RFC 4180 has them: a field in double quotes may hold separators, line ends and doubled quotes. Empty
// lines are skipped. Throws Error "LINE: ..." for a quotation without an end, or text behind one.
std::vector<CsvRow> parse_csv(std::string_view content, char separator);

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/report/table.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

namespace roundhouse {
namespace {

template <typename... Args>
std::string print(const char* format, Args... args) {
  char text[64];
  std::snprintf(text, sizeof text, format, args...);
  return text;
}

// Characters, not bytes: continuation bytes of UTF-8 take no column.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  std::vector<bool> numeric;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    numeric.resize(widths.size(), true);
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width_of(row[i]));
      const bool header = &row == &rows.front();
      if (!header && !row[i].empty() && !std::isdigit(static_cast<unsigned char>(row[i][0]))) numeric[i] = false;
    }
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - width_of(row[i]), ' ');
      line += (i ? "  " : "") + (numeric[i] ? pad + row[i] : row[i] + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (&row == &rows.front()) {
      size_t total = 2 * (widths.size() - 1);
      for (size_t w : widths) total += w;
      for (size_t i = 0; i < total; ++i) out += "─";
      out += "\n";
    }
  }
  return out;
}

std::string format_bytes(uint64_t bytes) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 999.5 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? print("%.0f B", value) : print(value < 10 ? "%.2f %s" : "%.1f %s", value, units[unit]);
}

std::string format_seconds(double seconds) {
  if (seconds < 60) return print("%.1f s", seconds);
  const long whole = std::lround(seconds);
  if (whole < 3600) return print("%ld min %02ld s", whole / 60, whole % 60);
  return print("%ld h %02ld min", whole / 3600, whole % 3600 / 60);
}

std::string format_number(double value, int decimals) { return print("%.*f", decimals, value); }

}  // namespace roundhouse

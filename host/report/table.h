// SPDX-License-Identifier: Apache-2.0
// A plain table for the terminal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace roundhouse {

// The first row is the header. A column whose other cells begin with a digit (or are empty) is aligned to the right.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

std::string format_bytes(uint64_t bytes);    // "2.63 MB" (powers of 1000)
std::string format_seconds(double seconds);  // "0.8 s", "3 min 20 s", "1 h 05 min"
std::string format_number(double value, int decimals);

}  // namespace roundhouse

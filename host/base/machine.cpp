// SPDX-License-Identifier: Apache-2.0
#include "host/base/machine.h"

#include <cstdlib>
#include <fstream>

namespace roundhouse {

std::string value_in(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const size_t value = line.find_first_not_of(" \t:=\"", key.size());
    return value == std::string::npos ? "" : line.substr(value, line.find_last_not_of(" \t\"") + 1 - value);
  }
  return "";
}

uint64_t available_memory() {
  return std::strtoull(value_in("/proc/meminfo", "MemAvailable:").c_str(), nullptr, 10) * 1024;
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/weight_bytes.h"

#include <set>
#include <string>

#include "host/checkpoint/safetensors.h"

namespace roundhouse {

uint64_t weight_bytes(const std::filesystem::path& checkpoint) {
  static const std::set<std::string> kOther{".json", ".jsonl", ".txt", ".md", ".model", ".jinja", ".yaml", ".html"};
  if (std::filesystem::is_regular_file(checkpoint)) return std::filesystem::file_size(checkpoint);
  uint64_t bytes = 0;
  if (holds_safetensors(checkpoint)) {
    for (const auto& file : SafetensorsFolder(checkpoint).files()) bytes += std::filesystem::file_size(file);
    return bytes;
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(checkpoint))
    if (entry.is_regular_file() && !kOther.contains(entry.path().extension())) bytes += entry.file_size();
  return bytes;
}

}  // namespace roundhouse

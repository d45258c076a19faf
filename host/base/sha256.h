// SPDX-License-Identifier: Apache-2.0
// SHA-256, as lower-case hex.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace roundhouse {

class Sha256 {
 public:
  Sha256();
  void add(const void* data, size_t bytes);
  // Of what was added so far.
  std::string hex() const;

 private:
  std::shared_ptr<void> context_;
};

std::string sha256(std::string_view bytes);
// The digest of bytes [offset, offset + bytes) of a file, or of those of them that it has. Throws Error.
std::string sha256_of_file(const std::filesystem::path& file, uint64_t offset = 0, uint64_t bytes = UINT64_MAX);

}  // namespace roundhouse

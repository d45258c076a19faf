// SPDX-License-Identifier: Apache-2.0
#include "host/base/shared_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "host/base/error.h"

namespace roundhouse {

void write_shared_file(const std::filesystem::path& path, const std::string& contents) {
  std::string temporary = path.string() + ".XXXXXX";
  const int file = ::mkostemp(temporary.data(), O_CLOEXEC);
  bool written = file >= 0;
  for (size_t done = 0; written && done < contents.size();) {
    const ssize_t bytes = ::write(file, contents.data() + done, contents.size() - done);
    written = bytes > 0;
    if (written) done += static_cast<size_t>(bytes);
  }
  if (file >= 0) written = ::close(file) == 0 && written;
  if (written && std::rename(temporary.c_str(), path.c_str()) == 0) return;
  const std::string why = std::strerror(errno);
  if (file >= 0) std::remove(temporary.c_str());
  throw Error(cat("cannot write ", path.string(), ": ", why));
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// One test in a child process: the plugin may crash, hang or corrupt memory there.
#pragma once

#include "validator/test.h"

namespace roundhouse::validator {

// Starts this program again for the test and waits for it, at most `time_limit` seconds. A child that ends without an
// answer has crashed; the result says how, and in which call.
Result run_in_child(const Test& test, const std::filesystem::path& plugin, double time_limit);

// What the child does. `shared` is the descriptor that run_in_child passed. Does not return.
[[noreturn]] void child_main(int shared, const std::string& test, const std::filesystem::path& plugin);

// A fresh folder under the system's temporary one; it goes with the object.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace roundhouse::validator

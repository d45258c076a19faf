// SPDX-License-Identifier: Apache-2.0
// Errors that a user can meet, and a small string builder for their messages.
#pragma once

#include <cerrno>
#include <filesystem>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

namespace roundhouse {

// What failed, for callers that need a code and not a text: a plugin gets the code that fits.
enum class Failure {
  kInvalid,       // what was asked for cannot be
  kNotFound,      // a file or a tensor is not there
  kExhausted,     // no memory, no room on the disk, too many open files
  kDataLoss,      // a file is damaged, or cut off
  kPrecondition,  // not at this point of the work
  kUnavailable,   // the system refuses
  kCancelled,
};

// Thrown for everything that a user can cause. The message says what, where (file, layer, plugin path) and what to do.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, Failure failure = Failure::kInvalid)
      : std::runtime_error(message), failure_(failure) {}
  Failure failure() const { return failure_; }

 private:
  Failure failure_;
};

// An exception's message; those of std::bad_alloc and filesystem_error would say little.
inline std::string message_of(const std::exception& e) {
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&e))
    return "cannot use " + file->path1().string() + ": " + file->code().message();
  if (!dynamic_cast<const std::bad_alloc*>(&e)) return e.what();
  return "no memory is left. Free memory that other programs hold, or raise the limit of this one (ulimit -v, a "
         "container's).";
}

// What an errno means.
inline Failure failure_of(int code) {
  switch (code) {
    case ENOENT:
    case ENOTDIR:
      return Failure::kNotFound;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return Failure::kExhausted;
    case EIO:
      return Failure::kDataLoss;
    default:
      return Failure::kUnavailable;
  }
}

// What an exception means; kInvalid for one that does not say.
inline Failure failure_of(const std::exception& e) {
  if (dynamic_cast<const std::bad_alloc*>(&e)) return Failure::kExhausted;
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&e))
    return failure_of(file->code().value());
  const auto* error = dynamic_cast<const Error*>(&e);
  return error ? error->failure() : Failure::kInvalid;
}

// Whether it says nothing of what was looked at: there was no memory, or somebody stopped the work.
inline bool says_nothing(const std::exception& e) {
  return failure_of(e) == Failure::kExhausted || failure_of(e) == Failure::kCancelled;
}

// Joins its arguments as text: cat("layer ", name, " has ", n, " rows").
template <typename... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

}  // namespace roundhouse

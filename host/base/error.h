// Errors that a user can meet, and a small string builder for their messages.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace roundhouse {

// Thrown for everything that a user can cause. The message says what, where (file, layer, plugin path) and what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Joins its arguments as text: cat("layer ", name, " has ", n, " rows").
template <typename... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

}  // namespace roundhouse

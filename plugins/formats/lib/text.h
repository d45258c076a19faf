// SPDX-License-Identifier: Apache-2.0
// Building messages.
#pragma once

#include <roundhouse/tensor.h>

#include <sstream>
#include <string>

namespace roundhouse::formats {

// Joins its arguments as text: cat("layer ", name, " has ", n, " rows").
template <typename... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

inline std::string shape_text(const rh_tensor& tensor) {
  std::string text;
  for (int32_t i = 0; i < tensor.ndim; ++i) text += cat(i ? ", " : "[", tensor.shape[i]);
  return text + "]";
}

}  // namespace roundhouse::formats

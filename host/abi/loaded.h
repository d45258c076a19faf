// SPDX-License-Identifier: Apache-2.0
// A data type or a format of a loaded plugin, as everything that calls it takes it.
#pragma once

#include <roundhouse/dtype.h>
#include <roundhouse/format.h>

#include <string>

namespace roundhouse {

// Valid as long as the plugin stays loaded.
struct LoadedDtype {
  const rh_dtype* table;
  std::string label;  // for messages: "plugin int (/usr/lib/.../librh_dtype_int.so)"
};

struct LoadedFormat {
  const rh_format* table;
  std::string label;
};

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "host/jinja/syntax.h"

namespace roundhouse::jinja {

// Throws Error "line N: ...".
Syntax parse(std::string_view source);

}  // namespace roundhouse::jinja

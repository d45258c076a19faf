// SPDX-License-Identifier: Apache-2.0
// roundhouse sdk [--cmake-dir]
#include <iostream>
#include <memory>

#include "host/base/error.h"
#include "host/cli/context.h"

namespace roundhouse::cli {

void add_sdk(Command program, Context&) {
  const auto cmake = std::make_shared<bool>(false);
  Command command = program.add_command("sdk", "Where the SDK lies, for -DCMAKE_PREFIX_PATH=");
  command.add_flag("--cmake-dir", *cmake, "The folder of its CMake package, for -DRoundhouse_DIR=");
  command.set_action([cmake] {
    const std::filesystem::path package = Context::prefix() / "lib/cmake/Roundhouse";
    if (!std::filesystem::is_directory(package))
      throw Error(cat("there is no SDK in ", Context::prefix().string(),
                      ": install it under the same prefix (cmake --install, roundhouse-sdk's package, or the wheel)"));
    std::cout << (*cmake ? package : Context::prefix()).string() << "\n";
  });
}

}  // namespace roundhouse::cli

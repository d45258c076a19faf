// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "host/discovery/scan.h"

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == roundhouse::kScanArgument) roundhouse::scan_main(argv[2]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

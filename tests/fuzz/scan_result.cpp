// SPDX-License-Identifier: Apache-2.0
// What a plugin's scan has told, as its child process writes it and as the cache keeps it.
#include "host/discovery/records.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  return fuzz::expect_result_or_exception(
      [&] { to_json(plugin_record_from_json(nlohmann::json::parse(fuzz::text(data, size)), "librh_x.so")).dump(); });
}

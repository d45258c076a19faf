// SPDX-License-Identifier: Apache-2.0
// Looking at a plugin without risk: a child process loads it, and only its report comes back.
#pragma once

#include <chrono>
#include <filesystem>

#include "host/discovery/records.h"

namespace roundhouse {

// argv[1] of the child: `/proc/self/exe __scan-plugin FILE`. Each program that discovers plugins must hand such a call
// to scan_main before it does anything else.
inline constexpr const char* kScanArgument = "__scan-plugin";

// The child's side: loads the plugin and writes lines of JSON to descriptor 3: {"stage": name} before each step, then
// {"record": {...}} or {"reason": text}. Does not return.
[[noreturn]] void scan_main(const char* plugin);

struct ScanResult {
  PluginRecord record;
  // False when the reason may go away without a change of the file, as a missing library does.
  bool cacheable = true;
};

// The parent's side. A child that crashes, exits or takes longer than `time_limit` gives a blocked record that says so,
// with the step that it had reached. Throws Error when no child could be started.
ScanResult scan_plugin(const std::filesystem::path& plugin, std::chrono::milliseconds time_limit);

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// What every command shares: the global options, and how a command is added.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "host/cli/command.h"
#include "host/discovery/catalogue.h"

namespace roundhouse::cli {

struct Context {
  DiscoveryOptions discovery;
  std::string log_file;
  bool verbose = false;
  int threads = 0;

  Catalogue catalogue() const { return Catalogue::discover(discovery); }
  // schemes and architectures in the folders of $ROUNDHOUSE_CONFIG_PATH, in roundhouse of the user's XDG config folder,
  // and among the data that ship with the program, relative to the executable; best first.
  static std::vector<std::filesystem::path> scheme_folders();
  static std::vector<std::filesystem::path> architecture_folders();
  static std::filesystem::path template_folder();
  // A file of the configs, from the first of these folders that has it.
  static std::filesystem::path config_file(const char* name);
  // Texts for calibration, of short stories.
  static std::filesystem::path example_texts();
  // The folder into which the program is installed: bin, lib and share lie in it.
  static std::filesystem::path prefix();
};

// The device that an option names as recipes do, as resolve_device() gives it.
std::string device_of(const std::string& option);

// Each adds its command to the program.
void add_compare(Command program, Context& context);
void add_convert(Command program, Context& context);
void add_doctor(Command program, Context& context);
void add_eval(Command program, Context& context);
void add_init(Command program, Context& context);
void add_lists(Command program, Context& context);  // architectures, schemes, dtypes, formats
void add_logits(Command program, Context& context);
void add_new_plugin(Command program, Context& context);
void add_plan(Command program, Context& context);
void add_plugins(Command program, Context& context);
void add_qdq(Command program, Context& context);
void add_run(Command program, Context& context);
void add_schema(Command program, Context& context);
void add_sdk(Command program, Context& context);
void add_tokenize(Command program, Context& context);
void add_verify(Command program, Context& context);
// completions, man: from all commands that are there by the time they run.
void add_shell_help(CLI::App* app);

}  // namespace roundhouse::cli

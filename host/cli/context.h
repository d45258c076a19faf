// What every command shares: the global options, and how a command is added.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "host/discovery/catalogue.h"

namespace roundhouse::cli {

struct Context {
  DiscoveryOptions discovery;
  std::string log_file;
  bool verbose = false;
  int threads = 0;

  Catalogue catalogue() const { return Catalogue::discover(discovery); }
  // Folders of data that ship with the program, relative to the executable.
  static std::vector<std::filesystem::path> scheme_folders();
  static std::vector<std::filesystem::path> architecture_folders();
  static std::filesystem::path template_folder();
};

// Each adds its subcommand to `app`; the subcommand's callback does the work and throws Error.
void add_convert(CLI::App& app, Context& context);
void add_eval(CLI::App& app, Context& context);
void add_lists(CLI::App& app, Context& context);  // schemes, dtypes, formats
void add_logits(CLI::App& app, Context& context);
void add_new_plugin(CLI::App& app, Context& context);
void add_plan(CLI::App& app, Context& context);
void add_plugins(CLI::App& app, Context& context);
void add_qdq(CLI::App& app, Context& context);
void add_run(CLI::App& app, Context& context);
void add_tokenize(CLI::App& app, Context& context);
void add_verify(CLI::App& app, Context& context);

}  // namespace roundhouse::cli

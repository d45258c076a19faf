// SPDX-License-Identifier: Apache-2.0
// roundhouse-validate FILE.so: does a plugin keep the rules of the SDK's headers?
#include <fnmatch.h>
#include <roundhouse/abi.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "host/base/elf_check.h"
#include "host/base/error.h"
#include "host/base/log.h"
#include "validator/process.h"
#include "validator/report.h"

namespace roundhouse::validator {
namespace {

enum { kAllFine = 0, kFailures = 1, kBadUsage = 2 };

struct Arguments {
  std::string plugin;
  std::vector<std::string> include, exclude;
  bool json = false, list = false, in_process = false;
  double time_limit = 120;
};

bool matches(const std::vector<std::string>& patterns, const std::string& id) {
  for (const std::string& pattern : patterns)
    if (::fnmatch(pattern.c_str(), id.c_str(), 0) == 0) return true;
  return false;
}

std::vector<const Test*> chosen_tests(const Arguments& arguments) {
  std::vector<const Test*> chosen;
  for (const Test& test : all_tests())
    if ((arguments.include.empty() || matches(arguments.include, test.id)) && !matches(arguments.exclude, test.id))
      chosen.push_back(&test);
  if (chosen.empty()) throw Error("no test has such a name; --list shows them");
  return chosen;
}

// The first tests load the plugin; where that fails, the others have nothing to test.
bool cannot_load(const TestResult& result) {
  return result.first->id == "library.load" && result.second.status != "passed";
}

Result run(const Test& test, const Arguments& arguments, const std::filesystem::path& plugin) {
  if (!arguments.in_process) return run_in_child(test, plugin, arguments.time_limit);
  const ScratchFolder scratch;
  Context context{plugin, scratch.path(), {}};
  return run_here(test, context);
}

int validate(const Arguments& arguments) {
  const std::vector<const Test*> tests = chosen_tests(arguments);
  if (arguments.list) {
    print_tests(tests, arguments.json);
    return kAllFine;
  }
  if (arguments.plugin.empty()) throw Error("name the plugin: roundhouse-validate FILE.so");
  try {
    check_shared_object(arguments.plugin);
  } catch (const Error& e) {
    throw Error(cat(arguments.plugin, " ", e.what()));
  }
  const std::filesystem::path plugin = std::filesystem::absolute(arguments.plugin);
  std::vector<TestResult> results;
  bool failed = false, loads = true;
  for (const Test* test : tests) {
    results.emplace_back(test, run(*test, arguments, plugin));
    const std::string& status = results.back().second.status;
    failed |= status == "failed" || status == "crashed";
    loads &= !cannot_load(results.back());
    if (!arguments.json) {
      print_result(results.back());
      std::fflush(stdout);
    }
    if (!loads) break;
  }
  if (arguments.json)
    std::printf("%s\n", to_json(plugin, results).dump(1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  else
    print_summary(results);
  return !loads ? kBadUsage : failed ? kFailures : kAllFine;
}

int run_program(int argc, char** argv) {
  CLI::App app("Does a plugin keep the rules of the Roundhouse SDK? Each test runs in a process of its own.");
  Arguments arguments;
  app.add_option("plugin", arguments.plugin, "The plugin, a shared object")->type_name("FILE.so");
  app.add_option("--include", arguments.include, "Only tests of this name (may have * and ?; may be repeated)")
      ->type_name("TEST");
  app.add_option("--exclude", arguments.exclude, "No tests of this name")->type_name("TEST");
  app.add_option("--timeout", arguments.time_limit, "Seconds that a test may take")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--list", arguments.list, "List the tests with their rules, and run none");
  app.add_flag("--json", arguments.json, "Print JSON");
  app.add_flag("--in-process", arguments.in_process, "Run the tests in this process, for a debugger");
  app.footer("Exit code: 0, all is fine; 1, a test failed or crashed; 2, bad usage, or no plugin that loads.");
  app.set_version_flag("--version", ROUNDHOUSE_VERSION ", SDK " RH_SDK_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kAllFine : kBadUsage;
  }
  return validate(arguments);
}

}  // namespace
}  // namespace roundhouse::validator

int main(int argc, char** argv) {
  using namespace roundhouse::validator;
  // Messages of the host's own parts have no reader here.
  roundhouse::log::set_sink([](roundhouse::log::Level, const std::string&) {});
  try {
    if (argc == 5 && std::string(argv[1]) == "--child") child_main(std::atoi(argv[2]), argv[3], argv[4]);
    return run_program(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return kBadUsage;
  }
}

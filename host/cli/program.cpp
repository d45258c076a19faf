// SPDX-License-Identifier: Apache-2.0
// roundhouse: quantizes large language models; every number format and file format is a plugin.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>

#include "host/base/cancel.h"
#include "host/base/crash.h"
#include "host/base/error.h"
#include "host/base/log.h"
#include "host/base/parallel.h"
#include "host/base/suggest.h"
#include "host/cli/context.h"
#include "host/discovery/scan.h"
#include "host/ranks/ranks.h"

namespace {

constexpr int kBySignal =
    128;  // and the signal's number: the exit code of a program that ended by it, as shells give it

// The first Ctrl-C or SIGTERM ends the work at the next call of a plugin, or within it; a second one ends the program at
// once.
void end_at_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int signal) {
    roundhouse::request_cancel(signal);
    for (const int other : {SIGINT, SIGTERM}) std::signal(other, SIG_DFL);
  };
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

// A file that takes the number of a closed standard stream would get what is printed.
void open_closed_streams() {
  int fd = 0;
  while ((fd = ::open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO) {
  }
  if (fd >= 0) ::close(fd);
}

// `status`, or 1 when what was printed has not arrived, as on a full disk.
int after_output(int status) {
  errno = 0;
  if (std::cout.flush() && std::fflush(stdout) == 0) return status;
  roundhouse::log::error(
      roundhouse::cat("cannot write to standard output: ", errno == 0 ? "is its disk full?" : std::strerror(errno)));
  return status == 0 ? 1 : status;
}

// Says that `word` is neither an option nor a command of what was called.
void say_unknown(const CLI::App* app, const std::string& word) {
  std::vector<std::string> known;
  std::string help;
  for (const CLI::App* next = app; next != nullptr;) {
    app = next;
    help += app->get_name() + " ";
    for (const CLI::Option* option : app->get_options())
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    const std::vector<CLI::App*> called = app->get_subcommands();
    next = called.empty() ? nullptr : called.front();
  }
  for (const CLI::App* command : app->get_subcommands([](const CLI::App*) { return true; }))
    known.push_back(command->get_name());
  roundhouse::log::error(roundhouse::cat("\"", word, "\" is no command or option here",
                                         roundhouse::suggest(word.substr(0, word.find('=')), known), ". ", help,
                                         "--help lists them."));
}

}  // namespace

// Called by main.cpp when _exit() or _Exit() is.
extern "C" void roundhouse_report_end(const char* function) { roundhouse::report_end(function); }

// Called by main.cpp, which has loaded this library.
extern "C" int roundhouse_main(int argc, char** argv) {
  using namespace roundhouse;
  // The child process that looks at one plugin: nothing else of this program may run in it.
  if (argc == 3 && std::strcmp(argv[1], kScanArgument) == 0) scan_main(argv[2]);

  open_closed_streams();
  // A write beyond the file size limit (ulimit -f) then fails like one to a full disk, with a message and a clean-up.
  std::signal(SIGXFSZ, SIG_IGN);
  report_crashes();
  CrashNote limit;
  if (rlimit memory{}; ::getrlimit(RLIMIT_AS, &memory) == 0 && memory.rlim_cur != RLIM_INFINITY)
    limit.set(cat("The limit of its memory (ulimit -v) is ", memory.rlim_cur >> 10,
                  " KiB: libraries that find none may crash so. Raise it."));
  end_at_signals();

  CLI::App app{"Quantizes large language models. Every number format and file format is a plugin.", "roundhouse"};
  cli::Context context;
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", "roundhouse " ROUNDHOUSE_VERSION);
  app.add_option("--plugin", context.discovery.files, "Load this plugin file first (may be repeated)")
      ->type_name("FILE");
  app.add_option("--plugin-path", context.discovery.directories, "Look for plugins in this folder (may be repeated)")
      ->type_name("DIR");
  app.add_flag_callback(
      "--no-cache", [&] { context.discovery.use_cache = false; }, "Scan the plugins anew");
  app.add_option("--log-file", context.log_file, "Also write messages and progress to this file")->type_name("FILE");
  app.add_option("--threads", context.threads, "Threads to use (default: all processors)")->check(CLI::Range(1, 4096));
  app.add_flag("-v,--verbose", context.verbose, "Show more");
  log::to_console();
  app.parse_complete_callback([&] {
    if (context.verbose) log::set_level(log::Level::kDebug);
    // The other processes of a run say nothing there.
    if (!context.log_file.empty() && (!app.got_subcommand("run") || launched_rank().value_or(0) == 0))
      log::set_file(context.log_file);
    set_threads(context.threads);
  });
  for (auto* add : {&cli::add_run, &cli::add_plan, &cli::add_eval, &cli::add_plugins, &cli::add_lists, &cli::add_qdq,
                    &cli::add_tokenize, &cli::add_logits, &cli::add_verify, &cli::add_convert, &cli::add_new_plugin,
                    &cli::add_schema, &cli::add_compare, &cli::add_init, &cli::add_sdk, &cli::add_doctor})
    add(cli::Command(&app), context);
  cli::add_shell_help(&app);

  try {
    app.parse(argc, argv);
    return after_output(0);
  } catch (const CLI::ParseError& error) {
    // A word that is misspelt says more than what is missing because of it.
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    const auto code = static_cast<CLI::ExitCodes>(error.get_exit_code());
    if (unknown.empty() || (code != CLI::ExitCodes::RequiredError && code != CLI::ExitCodes::ExtrasError))
      return after_output(app.exit(error));
    say_unknown(&app, unknown.front());
    return 1;
  } catch (const std::exception& error) {
    log::error(message_of(error));
    return *cancellation_flag() ? kBySignal + *cancellation_flag() : 1;
  }
}

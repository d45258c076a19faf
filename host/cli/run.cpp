// SPDX-License-Identifier: Apache-2.0
// roundhouse run RECIPE: plan, quantize, export, evaluate, report.
#include "host/run/run.h"

#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <thread>

#include "host/base/cancel.h"
#include "host/base/log.h"
#include "host/base/parallel.h"
#include "host/cli/context.h"
#include "host/ranks/ranks.h"
#include "host/report/progress.h"

namespace roundhouse::cli {
namespace {

struct Options {
  std::string recipe, progress = "auto";
  std::vector<std::string> overrides;
  bool overwrite = false, restart = false;
};

RunReport run_recipe(Context& context, const Options& o) {
  const Recipe recipe = load_recipe(o.recipe, o.overrides, Context::scheme_folders());
  send_progress({{"event", "begin"},
                 {"version", ROUNDHOUSE_VERSION},
                 {"model", recipe.model.string()},
                 {"output", recipe.output.string()}});
  if (context.threads == 0)
    set_threads(recipe.threads > 0 || !ranks() ? static_cast<int>(recipe.threads) : ranks()->threads());
  Catalogue catalogue = context.catalogue();
  return run({recipe, Context::architecture_folders(), Context::example_texts(), o.overwrite, o.restart}, catalogue);
}

void print_event(const nlohmann::json& event) {
  std::cout << event.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace) << std::endl;
}

// With an object for the end, whatever it is, as a program reads it.
void run_for_program(Context& context, const Options& o) {
  set_progress_sink(&print_event);
  try {
    const RunReport report = run_recipe(context, o);
    require_verified(report);
    send_progress({{"event", "end"}, {"status", "done"}, {"report", (report.notes() / "report.json").string()}});
  } catch (const std::exception& e) {
    send_progress(
        {{"event", "end"}, {"status", *cancellation_flag() ? "cancelled" : "failed"}, {"error", message_of(e)}});
    throw;
  }
}

void run_as_asked(Context& context, const Options& o) {
  if (o.progress == "json" && this_rank() == 0) return run_for_program(context, o);
  const RunReport report = run_recipe(context, o);
  if (this_rank() > 0) return;
  std::cout << summary(report);
  require_verified(report);
}

// Ends the run for all its processes: the first one does, with the words of whichever has failed, when it has kept what is
// done. What all of them find, or are told by a signal, it says too.
void end_all(const std::exception& e) {
  constexpr int kBySignal = 128;
  const int signal = *cancellation_flag();
  if (this_rank() > 0) {
    if (signal == 0) ranks()->tell_failure(message_of(e));
    std::this_thread::sleep_for(std::chrono::minutes(1));
  }
  log::error(this_rank() > 0 ? cat("rank ", this_rank(), ": ", message_of(e)) : message_of(e));
  std::cout.flush();
  std::fflush(nullptr);
  ranks()->end_all(signal != 0 ? kBySignal + signal : 1);
}

}  // namespace

void add_run(Command program, Context& context) {
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("run", "Quantize a model as a recipe says");
  command.add_option("RECIPE", o->recipe, "The recipe's YAML file").required();
  command.add_option("--set", o->overrides, "Override a key: --set tuning.iters=0 (may be repeated)");
  command.add_flag("--overwrite", o->overwrite, "Replace an output that exists");
  command.add_flag("--restart", o->restart, "Begin anew where a run that was broken off would go on");
  command
      .add_option("--progress", o->progress,
                  "json: an object a line on standard output, for programs; auto: a line on standard error")
      .type_name("HOW")
      .show_default();
  command.set_action([&context, o] {
    if (o->progress != "json" && o->progress != "auto")
      throw Error(cat("--progress takes auto or json, not \"", o->progress, "\""));
    join_ranks();
    if (!ranks()) return run_as_asked(context, *o);
    if (this_rank() > 0) log::set_level(log::Level::kError);
    try {
      run_as_asked(context, *o);
      ranks()->from_first("");  // the first one is the last to end
      leave_ranks();
    } catch (const std::exception& e) {
      end_all(e);
    }
  });
}

}  // namespace roundhouse::cli

// SPDX-License-Identifier: Apache-2.0
// roundhouse run RECIPE: plan, quantize, export, evaluate, report.
#include "host/run/run.h"

#include <iostream>
#include <memory>

#include "host/base/parallel.h"
#include "host/cli/context.h"

namespace roundhouse::cli {

void add_run(Command program, Context& context) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    bool overwrite = false, restart = false;
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("run", "Quantize a model as a recipe says");
  command.add_option("RECIPE", o->recipe, "The recipe's YAML file").required();
  command.add_option("--set", o->overrides, "Override a key: --set tuning.iters=0 (may be repeated)");
  command.add_flag("--overwrite", o->overwrite, "Replace an output that exists");
  command.add_flag("--restart", o->restart, "Begin anew where a run that was broken off would go on");
  command.set_action([&context, o] {
    const Recipe recipe = load_recipe(o->recipe, o->overrides, Context::scheme_folders());
    if (context.threads == 0) set_threads(static_cast<int>(recipe.threads));
    Catalogue catalogue = context.catalogue();
    const RunReport report = run({recipe, Context::architecture_folders(), o->overwrite, o->restart}, catalogue);
    std::cout << summary(report);
    require_verified(report);
  });
}

}  // namespace roundhouse::cli

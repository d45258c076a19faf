// SPDX-License-Identifier: Apache-2.0
// roundhouse plan RECIPE: the recipe resolved against its model and the loaded plugins, and its texts read; with --deep
// its weights too. Nothing is computed.
#include <iostream>
#include <memory>

#include "host/base/error.h"
#include "host/cli/context.h"
#include "host/export/exporter.h"
#include "host/plan/mix.h"
#include "host/plan/plan_text.h"
#include "host/run/card.h"
#include "host/run/mix_cache.h"
#include "host/run/run.h"
#include "host/run/texts.h"
#include "host/tuning/device.h"

namespace roundhouse::cli {

namespace {

// For a machine that lacks the recipe's device: "".
std::string card_line(const Plan& plan) {
  try {
    const std::string device = resolve_device(plan.recipe.device);
    return device == "cpu" ? "" : card_text(card_of(device), plan);
  } catch (const Error&) {
    return "";
  }
}

}  // namespace

void add_plan(Command program, Context& context) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    bool json = false, deep = false;
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("plan", "Show what a recipe would do, and stop");
  command.add_option("RECIPE", o->recipe, "The recipe's YAML file").required();
  command.add_option("--set", o->overrides, "Override a key: --set tuning.iters=0 (may be repeated)");
  command.add_flag("--json", o->json, "Print JSON");
  command.add_flag("--deep", o->deep, "Read every weight too: NaN, and scales that cannot be stored");
  command.set_action([&context, o] {
    const Recipe recipe = load_recipe(o->recipe, o->overrides, Context::scheme_folders());
    Catalogue catalogue = context.catalogue();
    const Original original = open_original(catalogue, recipe, Context::architecture_folders());
    Plan plan = plan_recipe(recipe, original, catalogue, Context::example_texts());
    const Texts texts = load_texts(plan, original);
    if (plan.mix)
      if (auto settled = settle_mix(plan, original, catalogue, texts, resolve_device(recipe.device), Measuring::kNever))
        plan = *std::move(settled);
    rehearse(catalogue, plan, original.architecture, original.files.folder());
    if (o->deep) read_weights(plan, original, catalogue);
    const std::string on_card = card_line(plan);
    if (o->json) {
      nlohmann::json text = to_json(plan);
      if (!on_card.empty()) text["card"] = on_card;
      std::cout << text.dump(2) << "\n";
    } else {
      std::cout << (on_card.empty() ? "" : cat("card         ", on_card, "\n")) << describe(plan);
    }
  });
}

}  // namespace roundhouse::cli

// SPDX-License-Identifier: Apache-2.0
#include "host/run/mix_cache.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/log.h"
#include "host/base/sha256.h"
#include "host/base/shared_file.h"
#include "host/export/exporter.h"
#include "host/plan/mix.h"
#include "host/ranks/ranks.h"
#include "host/report/progress.h"
#include "host/run/card.h"
#include "host/run/identity.h"
#include "host/tuning/sensitivity.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kVersion = 2;  // of how sensitivities are measured: raise it when that changes

// A file for all that the sensitivities depend on; "": there is no cache folder.
fs::path cache_file(const MixPlan& mix, const Original& original, const Catalogue& catalogue, const Texts& texts,
                    const std::string& device) {
  const fs::path folder = xdg_folder("XDG_CACHE_HOME", ".cache");
  if (folder.empty()) return {};
  json identity{kVersion};
  for (const auto& plan : mix.plans) {
    Plan measured = *plan;
    measured.formats.clear();
    Recipe& recipe = measured.recipe;
    const Recipe usual;
    recipe.formats.clear();
    recipe.max_shard_size = usual.max_shard_size;
    const bool tuned = recipe.tuning.iters > 0, search = recipe.tuning.search;
    recipe.tuning = usual.tuning;  // but for what says how weights are rounded
    recipe.tuning.iters = tuned;
    recipe.tuning.search = search;
    identity.push_back(run_identity(measured, original, catalogue, device, texts));
    // What a format of the recipe may have chosen.
    for (const MixGroup& group : mix.groups)
      for (const size_t layer : group.layers) {
        const Scheme& scheme = plan->layers[layer].scheme;
        identity.push_back({to_json(scheme), scheme.weight ? static_cast<int>(scheme.weight->rounding) : -1});
      }
  }
  return folder / "roundhouse/sensitivities" / (sha256(identity.dump()) + ".json");
}

std::optional<Sensitivities> read(const fs::path& file, const MixPlan& mix) {
  std::error_code code;
  if (file.empty() || !fs::exists(file, code)) return std::nullopt;
  try {
    auto sensitivities = json::parse(read_file(file)).get<Sensitivities>();
    for (const MixGroup& group : mix.groups)
      for (const size_t layer : group.layers)
        if (const std::string& name = mix.plans[0]->layers[layer].info.name;
            sensitivities.at(name).size() != mix.plans.size())
          throw Error(cat("it does not fit ", name));
    return sensitivities;
  } catch (const std::exception& e) {
    log::warning(cat("what is kept of an earlier measurement is of no use: ", file.string(), ": ", message_of(e)));
    return std::nullopt;
  }
}

void keep(const fs::path& file, const Sensitivities& sensitivities) {
  if (file.empty()) return;
  try {
    fs::create_directories(file.parent_path());
    write_shared_file(file, json(sensitivities).dump());
  } catch (const std::exception& e) {
    log::warning(cat("what the schemes cost is not kept for another target: ", message_of(e)));
  }
}

// Of the largest export, as the formats lay them out.
uint64_t exported_bytes(const Plan& plan, const Original& original, Catalogue& catalogue) {
  uint64_t largest = 0;
  rehearse(catalogue, plan, original.architecture, original.files.folder(), [&](const Exporter& exporter) {
    const auto laid_out = exporter.laid_out();
    for (const std::string& format : plan.mix->packing) largest = std::max(largest, laid_out.at(format));
  });
  return largest;
}

}  // namespace

std::optional<Plan> settle_mix(const Plan& open, const Original& original, Catalogue& catalogue, const Texts& texts,
                               const std::string& device, Measuring measuring) {
  const MixPlan& mix = *open.mix;
  const fs::path file = cache_file(mix, original, catalogue, texts, device);
  std::optional<Sensitivities> sensitivities;
  if (this_rank() > 0)
    sensitivities = json::parse(ranks()->from_first("")).get<Sensitivities>();
  else if (measuring != Measuring::kAnew)
    sensitivities = read(file, mix);
  if (!sensitivities) {
    if (measuring == Measuring::kNever) return std::nullopt;
    const std::optional<int64_t> memory =
        device == "cpu" ? open.recipe.memory : fitted_memory_of_measuring(card_of(device), open);
    Progress progress("measuring", 2 * original.architecture.blocks());
    sensitivities = measure_sensitivities(
        {mix, original.architecture, *original.tensors, catalogue, texts.calibration, texts.pad_id, device, memory,
         [&](int64_t step, int64_t) { progress.update(step, 0, "what each scheme of the mix costs"); }});
    progress.clear();
    keep(file, *sensitivities);
  }
  if (ranks() && this_rank() == 0) ranks()->from_first(json(*sensitivities).dump());
  if (!mix.of_bytes) return choose_schemes(open, *sensitivities, original, catalogue);
  // What the estimate leaves out: headers, and what a format stores beside an encoding.
  for (uint64_t beyond = 0;;) {
    Plan plan = choose_schemes(open, *sensitivities, original, catalogue, beyond);
    const uint64_t estimated = plan.mix->chosen->bytes - beyond, bytes = exported_bytes(plan, original, catalogue);
    if (bytes <= estimated + beyond) return plan;
    beyond = bytes - estimated;
  }
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/plan/recipe_check.h"

#include <algorithm>
#include <string>

#include "host/base/error.h"
#include "host/base/words.h"
#include "host/plan/passes.h"

namespace roundhouse {

void check_calibration(Plan& plan, const Architecture& architecture) {
  const Recipe& recipe = plan.recipe;
  const Passes needed = passes(plan);
  if (!needed.any()) return;
  const char* const why = needed.tuned        ? "tuning needs"
                          : needed.importance ? "an importance matrix (for searched rounding, or imatrix.save) needs"
                                              : "calibrated activation ranges need";
  const Calibration& calibration = recipe.calibration;
  const int64_t least = recipe.tuning.least_tokens;
  if (plan.experts > 0 && needed.tuned && tokens_an_expert(plan) < least)
    plan.warn(cat("calibration gives each of the ", plan.experts, " experts of a block about ", tokens_an_expert(plan),
                  " tokens, and one with fewer than ", least,
                  " (tuning.least_tokens) is not tuned: raise calibration.samples or ", "calibration.seqlen"));
  if (calibration.data.empty()) {
    plan.problems.push_back(cat("calibration.data is missing: ", why, " texts (.txt, .json, .jsonl or .csv)"));
  } else {
    check_seqlen(plan, architecture);
  }
}

void check_seqlen(Plan& plan, const Architecture& architecture) {
  const DecoderInfo& info = architecture.info();
  const int64_t seqlen = plan.recipe.calibration.seqlen;
  if (seqlen <= info.positions) return;
  const std::string longer =
      cat("calibration.seqlen ", seqlen, " is beyond the ", info.positions, " positions that the model knows");
  if (info.learned_positions)
    plan.problems.push_back(longer);
  else
    plan.warn(longer);
}

void check_rounding_alone(Plan& plan, const Architecture& architecture) {
  const Recipe& recipe = plan.recipe;
  const std::string alone = cat("the architecture ", architecture.family(), " rounds weights and computes no blocks");
  const std::string describe =
      "describe the family (configs/architectures/README.md says how), and leave out `architecture`";
  if (plan.layers.empty())
    plan.problems.push_back("no weight of the checkpoint is a linear layer by its name and shape");
  if (recipe.tuning.iters > 0) plan.problems.push_back(cat("tuning.iters: ", alone, ": set it to 0, or ", describe));
  if (recipe.imatrix.save)
    plan.problems.push_back(
        cat("imatrix.save: ", alone, ", so that no importance is collected: leave it out, or ", describe));
  for (LayerPlan& layer : plan.layers)
    if (layer.calibrated_input)
      layer.problems.push_back(cat("its input has a calibrated range, but ", alone,
                                   ": take ranges from each input (act_dynamic: true), leave inputs as they are "
                                   "(act_bits: 16), or ",
                                   describe));
  if (recipe.evaluation) plan.warn(cat("evaluation.data is not used: ", alone));
}

// A format that packs the weight's encoding also asks what is done to inputs; one that lets the data type decode writes
// plain weights.
void note_weights_only(Plan& plan, const Catalogue& catalogue) {
  for (const FormatChoice& format : plan.recipe.formats) {
    const FormatRecord* record = catalogue.find_format(format.id);
    const auto drops = [&](const LayerPlan& layer) {
      return record && layer.activation_encoding && layer.encoding &&
             !contains(record->encodings, layer.encoding->id());
    };
    if (std::any_of(plan.layers.begin(), plan.layers.end(), drops))
      plan.warn(cat("the format ", format.id,
                    " keeps weights alone: an engine that loads it does not quantize activations, ",
                    "as this run and its perplexity do"));
  }
}

}  // namespace roundhouse

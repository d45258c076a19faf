// SPDX-License-Identifier: Apache-2.0
#include "host/run/run.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <unordered_set>
#include <utility>

#include "host/abi/format_reader.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/log.h"
#include "host/base/words.h"
#include "host/checkpoint/output.h"
#include "host/checkpoint/weight_bytes.h"
#include "host/export/exporter.h"
#include "host/export/verify.h"
#include "host/model/finite.h"
#include "host/plan/imatrix.h"
#include "host/plan/passes.h"
#include "host/plan/plan_text.h"
#include "host/plan/planner.h"
#include "host/report/progress.h"
#include "host/report/table.h"
#include "host/run/evaluation.h"
#include "host/run/report_page.h"
#include "host/run/texts.h"
#include "host/tuning/device.h"
#include "host/tuning/input_quantization.h"
#include "host/tuning/quantize.h"
#include "host/tuning/round.h"
#include "host/tuning/rounded_source.h"
#include "host/tuning/weight_check.h"

namespace roundhouse {
namespace {

class Clock {
 public:
  // Seconds since the last call, or since the start.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Shows the work, hands its results to the formats, and keeps what the report needs.
class RunSink : public QuantizeSink {
 public:
  RunSink(Exporter& exporter, const Plan& plan)
      : exporter_(exporter),
        iters_(plan.recipe.tuning.iters),
        layers_alone_(plan.rounds_only),
        progress_(layers_alone_ ? "layer" : "block",
                  layers_alone_ ? std::count_if(plan.layers.begin(), plan.layers.end(),
                                                [](const LayerPlan& layer) { return layer.encoding != nullptr; })
                                : plan.blocks) {}

  void layer(const EncodedLayer& layer) override {
    exporter_.layer(layer);
    if (layers_alone_) progress_.update(layers_++, 1, layer.plan.info.name);
  }
  void tensor(const std::string& name, const Tensor& tensor) override { exporter_.tensor(name, tensor); }
  void iteration(int64_t block, int64_t iteration, double loss) override {
    progress_.update(block, static_cast<double>(iteration + 1) / static_cast<double>(iters_),
                     cat("iteration ", iteration + 1, "/", iters_, "  loss ", loss));
  }
  void block_done(const BlockReport& report) override {
    const std::string loss = report.first_loss > 0 ? cat("loss ", report.first_loss, " -> ", report.best_loss,
                                                         " (iteration ", report.best_iteration, ")  ")
                                                   : "";
    progress_.line(report.block, cat(loss, format_seconds(report.seconds)));
    blocks_.push_back(report);
  }
  std::vector<BlockReport> take_blocks() { return std::move(blocks_); }

 private:
  Exporter& exporter_;
  int64_t iters_;
  bool layers_alone_;   // they come without blocks
  int64_t layers_ = 0;  // finished so far
  Progress progress_;
  std::vector<BlockReport> blocks_;
};

// Throws Error when the disk is known to have less room than the plan expects to need.
void check_room(const Plan& plan) {
  uint64_t needed = 0;
  for (const FormatPlan& format : plan.formats) needed += format.bytes_estimate;
  const std::filesystem::path folder = std::filesystem::weakly_canonical(plan.recipe.output).parent_path();
  std::error_code unknown;
  const std::filesystem::space_info space = std::filesystem::space(folder, unknown);
  if (unknown || space.available >= needed) return;
  throw Error(cat("the output needs about ", format_bytes(needed), ", but the disk of ", folder.string(), " has only ",
                  format_bytes(space.available), " left. Make room, or choose an output on another disk."));
}

// The original alone, before anything is evaluated.
ModelRow original_row(const Recipe& recipe) {
  ModelRow row;
  row.name = "original";
  row.folder = recipe.model;
  row.bytes = weight_bytes(recipe.model);
  return row;
}

// What evaluate() compares.
struct Made {
  const Plan& plan;
  const Architecture& architecture;
  TensorSource& source;
  Catalogue& catalogue;
  const Observations& seen;
  const Fingerprints& fingerprints;
};

// The original, plain rounding, and each export, read back by its format and compared with what the run made; all but
// the original with their activations quantized as the plan says.
std::vector<ModelRow> evaluate(const Made& made, const std::vector<std::vector<int32_t>>& sequences) {
  const Recipe& recipe = made.plan.recipe;
  const InputHook activations =
      sequences.empty() ? InputHook() : activation_hook(made.plan.layers, made.catalogue, made.seen.ranges);
  const auto score = [&](ModelRow& row, TensorSource& tensors, const InputHook& hook) {
    if (!sequences.empty()) row.perplexity = measure(row.name, made.architecture, tensors, sequences, hook);
  };
  const std::vector<ExportTarget> targets = export_targets(recipe);
  const bool tuned = passes(made.plan).tuned;
  std::vector<ModelRow> rows;
  ModelRow& original = rows.emplace_back(original_row(recipe));
  score(original, made.source, {});
  if (tuned && !sequences.empty()) {
    ModelRow& rounded = rows.emplace_back();
    rounded.name = "plain rounding";
    rounded.bytes = weight_bytes(targets.front().folder);
    score(rounded, *rounded_source(made.plan, made.source, made.catalogue, made.seen.importance), activations);
  }
  for (const ExportTarget& target : targets) {
    ModelRow& row = rows.emplace_back();
    row.name = (tuned ? "tuned, " : "rounded, ") + target.format;
    row.format = target.format;
    row.folder = target.folder;
    row.bytes = weight_bytes(target.folder);
    const LoadedFormat format = made.catalogue.format(target.format);
    const std::unique_ptr<TensorSource> exported = with_matrices(
        made.architecture, std::make_unique<ExportedCheckpoint>(format, target.folder, made.architecture.facts()));
    const Verification verification = verify(made.architecture, *exported, made.fingerprints);
    row.verified = verification_text(verification);
    row.problems = verification.problems;
    row.notes = verification.notes;
    for (std::string& note : finding_notes(format, target.folder, made.architecture.facts()))
      row.notes.push_back(std::move(note));
    score(row, *exported, activations);
  }
  return rows;
}

// How to serve each export, where its format says so.
std::vector<ServeCommand> serve_commands(const Plan& plan) {
  const std::string placeholder = "{folder}";
  const std::vector<ExportTarget> targets = export_targets(plan.recipe);
  std::vector<ServeCommand> commands;
  for (size_t i = 0; i < targets.size(); ++i) {
    std::set<std::string> known;
    for (const nlohmann::json& backend : plan.formats[i].backends) {
      std::string command = backend.value("command", "");
      if (const size_t at = command.find(placeholder); at != std::string::npos)
        command.replace(at, placeholder.size(), shell_quoted(targets[i].folder.string()));
      if (!command.empty() && known.insert(command).second) commands.push_back({backend.value("engine", ""), command});
    }
  }
  return commands;
}

// The largest resident memory of this process so far.
uint64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

// The files that a run leaves beside its exports, by their names.
std::map<std::string, std::string> notes(const RunReport& report) {
  return {{"recipe.yaml", report.recipe},
          {"report.json", to_json(report).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"},
          {"report.html", report_page(report)}};
}

}  // namespace

void read_weights(const Plan& plan, const Original& original, Catalogue& catalogue) {
  Progress progress("reading", static_cast<int64_t>(original.tensors->names().size()));
  const std::vector<std::string> warnings =
      check_weights({plan, original.architecture, *original.tensors, catalogue, original.files.folder(),
                     resolve_device(plan.recipe.device),
                     [&](int64_t index, const std::string& name) { progress.update(index, 0, name); }});
  progress.clear();
  for (const std::string& warning : warnings) log::warning(warning);
}

RunReport run(const RunRequest& request, Catalogue& catalogue) {
  Clock total, clock;
  const Recipe& recipe = request.recipe;
  const Original original = open_original(catalogue, recipe, request.architecture_folders);
  const Architecture& architecture = original.architecture;
  const Plan plan = make_plan(recipe, original, catalogue);
  for (const std::string& warning : plan.warnings) log::warning(warning);

  RunReport report;
  report.model = recipe.model;
  report.output = recipe.output;
  report.recipe = to_yaml(plan.recipe);
  report.device = resolve_device(recipe.device);
  for (const LayerPlan& layer : plan.layers) report.layers.push_back({layer.info.name, scheme_text(layer.scheme)});
  report.commands = serve_commands(plan);
  if (const auto& save = recipe.imatrix.save; save && std::filesystem::exists(*save) && !request.overwrite)
    throw Error(cat(save->string(), " already exists; --overwrite replaces it"));

  // What can be known before the long work: the texts, the weights, the output.
  Texts texts = load_texts(plan, original);
  std::unordered_set<std::string> checked;  // or never computed with
  for (const TensorPlan& tensor : plan.tensors)
    if (tensor.extra || !plan.rounds_only) checked.insert(tensor.name);
  FiniteSource source(*original.tensors, std::move(checked));
  Fingerprints fingerprints;
  Observations seen;
  {
    Exporter exporter(catalogue, plan, architecture, original.files.folder(), request.overwrite);
    check_room(plan);
    if (!plan.rounds_only) read_weights(plan, original, catalogue);  // else each layer when its turn comes
    report.seconds.prepare = clock.lap();
    RunSink sink(exporter, plan);
    const QuantizeInput input{plan,         architecture,
                              source,       exported_checkpoint(*original.tensors),
                              catalogue,    std::move(texts.calibration),
                              texts.pad_id, report.device};
    if (plan.rounds_only)
      round_layers(input, sink);
    else
      seen = quantize(input, sink);
    report.blocks = sink.take_blocks();
    report.spill = seen.spill;
    report.models = {original_row(recipe)};
    report.seconds.quantize = clock.lap();
    report.peak_memory_bytes = peak_memory_bytes();
    fingerprints = exporter.finish(notes(report));
  }
  if (recipe.imatrix.save) save_importance(plan, architecture, seen.importance, seen.tokens);
  try {
    report.models = evaluate({plan, architecture, source, catalogue, seen, fingerprints}, texts.evaluation);
  } catch (const std::exception& e) {
    throw Error(
        cat(e.what(), "\nOnly the evaluation failed. The exports in ", report.output.string(),
            " are complete, with their report and recipe; `roundhouse eval` and `roundhouse verify` take them."));
  }
  report.seconds.evaluate = clock.lap();
  report.seconds.total = total.lap();
  report.peak_memory_bytes = peak_memory_bytes();
  for (const auto& [name, text] : notes(report)) write_file(report.notes() / name, text);
  return report;
}

}  // namespace roundhouse

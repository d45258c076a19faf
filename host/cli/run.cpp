// roundhouse run RECIPE: plan, quantize, export, evaluate, report.
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <set>

#include "host/abi/format_reader.h"
#include "host/base/error.h"
#include "host/base/log.h"
#include "host/base/parallel.h"
#include "host/checkpoint/output.h"
#include "host/checkpoint/safetensors.h"
#include "host/cli/context.h"
#include "host/cli/evaluation.h"
#include "host/export/exporter.h"
#include "host/export/verify.h"
#include "host/model/decoder.h"
#include "host/plan/imatrix.h"
#include "host/plan/plan.h"
#include "host/report/progress.h"
#include "host/report/report.h"
#include "host/report/table.h"
#include "host/text/calibration.h"
#include "host/tuning/activation_quantizer.h"
#include "host/tuning/device.h"
#include "host/tuning/quantize.h"

namespace roundhouse::cli {
namespace {

using nlohmann::json;

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

// Shows the run, hands its results to the formats, and notes what the report needs.
class RunSink : public QuantizeSink {
 public:
  RunSink(Exporter& exporter, const Recipe& recipe, int64_t blocks)
      : exporter_(exporter), iters_(recipe.tuning.iters), progress_("block", blocks) {}

  void layer(const EncodedLayer& layer) override { exporter_.layer(layer); }
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
    blocks_.push_back({{"block", report.block},
                       {"first_loss", report.first_loss},
                       {"best_loss", report.best_loss},
                       {"best_iteration", report.best_iteration},
                       {"seconds", report.seconds}});
  }
  const json& blocks() const { return blocks_; }

 private:
  Exporter& exporter_;
  int64_t iters_;
  Progress progress_;
  json blocks_ = json::array();
};

CalibrationSet calibrate(const Recipe& recipe, const Tokenizer& tokenizer) {
  const Calibration& wanted = recipe.calibration;
  const CalibrationRequest request{*wanted.data, static_cast<int>(wanted.samples), static_cast<int>(wanted.seqlen),
                                   static_cast<uint64_t>(wanted.seed)};
  CalibrationSet set = load_calibration(request, tokenizer);
  if (static_cast<int>(set.samples.size()) < request.samples) log::warning(summary(set, request));
  return set;
}

struct Texts {
  std::vector<std::vector<int32_t>> calibration, evaluation;  // token ids of each sample or sequence
  std::optional<int32_t> pad_id;
};

// All texts of the recipe. Where no pass needs calibration data, but what the recipe names must be readable.
Texts load_texts(const Plan& plan) {
  const Recipe& recipe = plan.recipe;
  Texts texts;
  if (!recipe.calibration.data && !recipe.evaluation) return texts;
  const Tokenizer tokenizer = Tokenizer::load(recipe.model);
  texts.pad_id = tokenizer.pad_id();
  if (passes(plan).any())
    texts.calibration = calibrate(recipe, tokenizer).samples;
  else if (recipe.calibration.data)
    read_texts(*recipe.calibration.data);
  if (recipe.evaluation)
    texts.evaluation = evaluation_sequences(recipe.evaluation->data, tokenizer, recipe.evaluation->seqlen);
  return texts;
}

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

// One row of the closing table.
json model_row(const std::string& name, const json& format, const json& folder, uint64_t bytes) {
  return {{"name", name},   {"format", format},      {"folder", folder},
          {"bytes", bytes}, {"perplexity", nullptr}, {"tokens", 0}};
}

// The original, plain rounding, and each export, read back by its format and compared with what the run made; all but
// the original with their activations quantized as the plan says.
json evaluate(const Plan& plan, const Architecture& architecture, TensorSource& source, Catalogue& catalogue,
              const Observations& seen, const Fingerprints& fingerprints,
              const std::vector<std::vector<int32_t>>& sequences) {
  const Recipe& recipe = plan.recipe;
  const InputHook activations = activation_hook(plan.layers, catalogue, seen.ranges);
  const auto score = [&](json& row, TensorSource& tensors, const InputHook& hook) {
    if (sequences.empty()) return;
    const Perplexity result = measure(row["name"], architecture, tensors, sequences, hook);
    row["perplexity"] = result.value;
    row["tokens"] = result.tokens;
  };
  json rows = json::array();
  rows.push_back(model_row("original", nullptr, recipe.model.string(), weight_bytes(recipe.model)));
  score(rows.back(), source, {});
  const uint64_t quantized_bytes = weight_bytes(export_targets(recipe).front().folder);
  const bool tuned = passes(plan).tuned;
  if (tuned && !sequences.empty()) {
    rows.push_back(model_row("plain rounding", nullptr, nullptr, quantized_bytes));
    score(rows.back(), *rounded_source(plan, source, catalogue, seen.importance), activations);
  }
  for (const ExportTarget& target : export_targets(recipe)) {
    const std::string how = tuned ? "tuned, " : "rounded, ";
    rows.push_back(model_row(how + target.format, target.format, target.folder.string(), weight_bytes(target.folder)));
    ExportedCheckpoint exported(catalogue.format(target.format), target.folder, architecture.facts());
    const Verification verification = verify(architecture, exported, fingerprints);
    rows.back()["verified"] = verification_text(verification);
    rows.back()["problems"] = verification.problems;
    score(rows.back(), exported, activations);
  }
  return rows;
}

// How to serve each export, where its format says so.
void print_commands(const Plan& plan) {
  const std::vector<ExportTarget> targets = export_targets(plan.recipe);
  for (size_t i = 0; i < targets.size(); ++i) {
    std::set<std::string> shown;
    for (const json& backend : plan.formats[i].backends) {
      std::string command = backend.value("command", "");
      const std::string placeholder = "{folder}";
      if (const size_t at = command.find(placeholder); at != std::string::npos)
        command.replace(at, placeholder.size(), targets[i].folder.string());
      if (!command.empty() && shown.insert(command).second)
        std::cout << "Serve with " << backend.value("engine", "") << ": " << command << "\n";
    }
  }
}

void print_table(const json& models) {
  std::vector<std::vector<std::string>> rows{{"model", "perplexity", "bytes", "ratio", "folder"}};
  const double original = models[0]["bytes"];
  for (const json& m : models) {
    rows.push_back({m["name"], m["perplexity"].is_number() ? format_number(m["perplexity"], 4) : "",
                    format_bytes(m["bytes"]), format_number(m["bytes"].get<double>() / original, 3),
                    m["folder"].is_string() ? m["folder"].get<std::string>() : ""});
  }
  std::cout << format_table(rows);
}

// "" when everything stayed in memory.
std::string spill_text(const Spill& spill) {
  if (spill.bytes == 0) return "";
  return cat("Spilled ", format_bytes(static_cast<uint64_t>(spill.bytes)), " of activations to disk; reading ",
             format_bytes(static_cast<uint64_t>(spill.read)), " and writing ",
             format_bytes(static_cast<uint64_t>(spill.written)), " took ", format_seconds(spill.seconds), ".\n");
}

// After all notes are written: they are what helps to find out why.
void require_verified(const json& models) {
  for (const json& m : models) {
    if (m.value("problems", json::array()).empty()) continue;
    std::string text;
    for (const std::string problem : m["problems"]) text += "\n  " + problem;
    throw Error(cat(m["folder"].get<std::string>(), " does not read back as what the run made; do not use it:", text));
  }
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) throw Error(cat("cannot write ", path.string()));
}

void run(Context& context, const std::string& recipe_file, const std::vector<std::string>& overrides, bool overwrite) {
  Clock total, clock;
  const Recipe recipe = load_recipe(recipe_file, overrides, Context::scheme_folders());
  if (context.threads == 0) set_threads(static_cast<int>(recipe.threads));
  Catalogue catalogue = context.catalogue();
  const Architecture architecture = Architecture::load(recipe.model, Context::architecture_folders());
  SafetensorsFolder source(recipe.model);
  const Plan plan = make_plan(recipe, architecture, source, catalogue);
  for (const std::string& warning : plan.warnings) log::warning(warning);
  const std::string device = resolve_device(recipe.device);
  if (const auto& save = recipe.imatrix.save; save && std::filesystem::exists(*save) && !overwrite)
    throw Error(cat(save->string(), " already exists; --overwrite replaces it"));

  json report{{"model", recipe.model.string()}, {"recipe", to_yaml(plan.recipe)}, {"device", device}};
  const std::filesystem::path notes = recipe.output / "roundhouse";
  // What can be known before the long work: the texts, the weights, the output.
  Texts texts = load_texts(plan);
  check_finite(architecture, source);
  Fingerprints fingerprints;
  Observations seen;
  {
    Exporter exporter(catalogue, plan, architecture, recipe.model, overwrite);
    check_room(plan);
    report["seconds"]["calibrate"] = clock.lap();
    RunSink sink(exporter, recipe, architecture.blocks());
    seen = quantize({plan, architecture, source, catalogue, std::move(texts.calibration), texts.pad_id, device}, sink);
    fingerprints = exporter.finish();
    if (recipe.imatrix.save) save_importance(plan, architecture, seen.importance, seen.tokens);
    report["blocks"] = sink.blocks();
  }
  report["seconds"]["quantize"] = clock.lap();
  report["spill"] = {{"bytes", seen.spill.bytes},
                     {"read", seen.spill.read},
                     {"written", seen.spill.written},
                     {"seconds", seen.spill.seconds}};
  report["models"] = evaluate(plan, architecture, source, catalogue, seen, fingerprints, texts.evaluation);
  report["seconds"]["evaluate"] = clock.lap();
  report["seconds"]["total"] = total.lap();
  report["peak_memory_bytes"] = peak_memory_bytes();
  report["layers"] = json::array();
  for (const LayerPlan& layer : plan.layers)
    report["layers"].push_back({{"name", layer.info.name}, {"scheme", scheme_text(layer.scheme)}});

  std::filesystem::create_directories(notes);
  write_file(recipe.output / kOutputMarker, "");  // the folder above several formats is ours too
  write_file(notes / "recipe.yaml", to_yaml(plan.recipe));
  write_file(notes / "report.json", report.dump(2) + "\n");
  write_file(notes / "report.html", report_page(report));
  fingerprints.write(fingerprint_file(recipe.output));
  print_table(report["models"]);
  std::cout << "\nQuantized in " << format_seconds(report["seconds"]["quantize"]) << " on " << device << ", "
            << format_seconds(report["seconds"]["total"]) << " in all; peak memory "
            << format_bytes(report["peak_memory_bytes"]) << ".\n"
            << spill_text(seen.spill) << "Report: " << (notes / "report.html").string() << "\n";
  print_commands(plan);
  require_verified(report["models"]);
}

}  // namespace

void add_run(Command program, Context& context) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    bool overwrite = false;
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("run", "Quantize a model as a recipe says");
  command.add_option("RECIPE", o->recipe, "The recipe's YAML file").required();
  command.add_option("--set", o->overrides, "Override a key: --set tuning.iters=0 (may be repeated)");
  command.add_flag("--overwrite", o->overwrite, "Replace an output that is there");
  command.set_action([&context, o] { run(context, o->recipe, o->overrides, o->overwrite); });
}

}  // namespace roundhouse::cli

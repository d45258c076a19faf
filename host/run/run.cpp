// SPDX-License-Identifier: Apache-2.0
#include "host/run/run.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_set>
#include <utility>

#include "host/abi/format_reader.h"
#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/log.h"
#include "host/base/words.h"
#include "host/checkpoint/output.h"
#include "host/checkpoint/weight_bytes.h"
#include "host/export/exporter.h"
#include "host/export/journal.h"
#include "host/export/verify.h"
#include "host/model/finite.h"
#include "host/plan/imatrix.h"
#include "host/plan/passes.h"
#include "host/plan/plan_text.h"
#include "host/plan/planner.h"
#include "host/report/progress.h"
#include "host/report/table.h"
#include "host/run/evaluation.h"
#include "host/run/identity.h"
#include "host/run/mix_cache.h"
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
  // Seconds since the last lap, or since the start.
  double now() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - last_).count(); }
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

constexpr const char* kUnfinished = "unfinished";  // in the notes: the record by which an evaluation is done later

// A run that ends within this time of a record loses nothing else; recording costs a few seconds.
constexpr double kSecondsBetweenRecords = 30;
constexpr double kIntervalPerCost = 30;  // so that records take no more than about 3 % of a run

double seconds_between_records() {
  const std::string text = environment_variable("ROUNDHOUSE_JOURNAL_SECONDS");
  return text.empty() ? kSecondsBetweenRecords : std::strtod(text.c_str(), nullptr);
}

nlohmann::json blocks_to_record(const std::vector<BlockReport>& blocks) {
  nlohmann::json record = nlohmann::json::array();
  const auto error = [](const std::optional<double>& e) { return e ? nlohmann::json(*e) : nlohmann::json(); };
  for (const BlockReport& b : blocks)
    record.push_back({b.block, b.first_loss, b.best_loss, b.best_iteration, error(b.error_alone),
                      error(b.error_in_chain), b.seconds, b.expert_tokens, b.few});
  return record;
}

std::vector<BlockReport> blocks_of_record(const nlohmann::json& record) {
  std::vector<BlockReport> blocks;
  const auto error = [](const nlohmann::json& e) { return e.is_null() ? std::nullopt : std::optional<double>(e); };
  for (const nlohmann::json& b : record)
    blocks.push_back({b[0], b[1], b[2], b[3], error(b[4]), error(b[5]), b[6], b[7], b[8]});
  return blocks;
}

// Shows the work, hands its results to the formats, keeps what the report needs, and writes the journal.
class RunSink : public QuantizeSink {
 public:
  // `from`: the record to go on from; nullptr: there is none.
  RunSink(Exporter& exporter, const Plan& plan, OutputFolder& output, Journal& journal, const JournalRecord* from)
      : exporter_(exporter),
        output_(output),
        journal_(journal),
        interval_(seconds_between_records()),
        iters_(plan.recipe.tuning.iters),
        layers_alone_(plan.rounds_only),
        steps_(layers_alone_ ? std::count_if(plan.layers.begin(), plan.layers.end(),
                                             [](const LayerPlan& layer) { return layer.encoding != nullptr; })
                             : plan.blocks),
        done_(from ? from->state().at("done_steps").get<int64_t>() : 0),
        earlier_(from ? from->state().at("seconds").get<double>() : 0),
        progress_(unit(), steps_, done_) {
    if (!from) return;
    blocks_ = blocks_of_record(from->state().at("blocks"));
    log::info(cat("resuming ",
                  done_ < steps_ ? cat("at ", unit(), " ", done_ + 1, " of ", steps_) : "after the last block", ", ",
                  format_seconds(earlier_), " saved"));
    note_kept();
  }

  void layer(const EncodedLayer& layer) override {
    exporter_.layer(layer);
    if (layers_alone_) progress_.update(done_++, 1, layer.plan.info.name);
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
    done_ = report.block + 1;
  }
  void pause(const std::function<void(RecordWriter& record)>& write) override {
    if (since_record_.now() < std::max(interval_, kIntervalPerCost * cost_)) return;
    const Clock cost;
    exporter_.save();
    try {
      journal_.add([&](RecordWriter& record) {
        write(record);
        exporter_.add_to(record);
        record.state.update({{"done_steps", done_}, {"seconds", seconds()}, {"blocks", blocks_to_record(blocks_)}});
      });
      note_kept();
    } catch (const Error& e) {  // as on a full disk, which need not be the exports' end
      log::warning(cat("what is done is not recorded for a later run: ", e.what()));
    }
    cost_ = interval_ > 0 ? cost.now() : 0;
    since_record_.lap();
  }
  const std::vector<BlockReport>& blocks() const { return blocks_; }
  // With those of the runs before that were broken off.
  double seconds() const { return earlier_ + start_.now(); }
  // What a later run need not do again; "": it has to do all.
  const std::string& kept() const { return kept_; }

 private:
  const char* unit() const { return layers_alone_ ? "layer" : "block"; }
  void note_kept() {
    kept_ = cat("The work up to ", unit(), " ", done_, " of ", steps_, " is kept in ", output_.partial().string(),
                ": the same command goes on from there.");
    output_.say_at_crash(kept_);
  }

  Exporter& exporter_;
  OutputFolder& output_;
  Journal& journal_;
  double interval_;  // seconds between records, at least
  double cost_ = 0;  // seconds that the last one took
  int64_t iters_;
  bool layers_alone_;  // they come without blocks
  int64_t steps_, done_;
  Clock start_, since_record_;
  double earlier_;  // seconds of the runs that were broken off
  std::string kept_;
  Progress progress_;
  std::vector<BlockReport> blocks_;
};

uint64_t bytes_in(const std::filesystem::path& folder) {
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) bytes += entry.file_size();
  return bytes;
}

// Throws Error when the disk is known to have less room than the plan expects to need, with the original's logits.
void check_room(const Plan& plan, const std::filesystem::path& partial, uint64_t logits) {
  uint64_t needed = journal_bytes(plan) + logits;
  for (const FormatPlan& format : plan.formats) needed += format.bytes_estimate;
  needed -= std::min(needed, bytes_in(partial));
  std::error_code unknown;
  const std::filesystem::space_info space = std::filesystem::space(partial, unknown);
  if (unknown || space.available >= needed) return;
  throw Error(cat("the output needs about ", format_bytes(needed), ", but the disk of ", partial.parent_path().string(),
                  " has only ", format_bytes(space.available),
                  " left. Make room, or choose an output on another disk."));
}

// Held while the exports are evaluated.
class EvaluationLock {
 public:
  // Throws Error when another process holds it. A file system without locks lets both pass.
  EvaluationLock(const std::filesystem::path& folder, const std::filesystem::path& output)
      : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ < 0 || ::flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    ::close(fd_);
    throw Error(cat("another run is evaluating ", output.string(), " now"));
  }
  ~EvaluationLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  EvaluationLock(const EvaluationLock&) = delete;
  EvaluationLock& operator=(const EvaluationLock&) = delete;

 private:
  int fd_;
};

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
std::vector<ModelRow> evaluate(const Made& made, const Sequences& sequences) {
  const Recipe& recipe = made.plan.recipe;
  const InputHook activations =
      sequences.empty() ? InputHook() : activation_hook(made.plan.layers, made.catalogue, made.seen.ranges);
  std::optional<DivergenceMeter> meter;
  const auto score = [&](ModelRow& row, TensorSource& tensors, const InputHook& hook) {
    if (sequences.empty()) return;
    if (meter) {
      row.score = measure(row.name, made.architecture, tensors, sequences, hook, nullptr, &*meter);
      return;
    }
    const std::filesystem::path logits = recipe.output / kNotesFolder / kUnfinished / "logits";
    LogProbsWriter save(logits, sequences, made.architecture.vocab_size());
    row.score = measure(row.name, made.architecture, tensors, sequences, hook, &save);
    meter.emplace(logits, sequences, made.architecture.vocab_size());
    std::filesystem::remove(logits);  // it stays mapped
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
    const Importance& importance = recipe.imatrix.file ? made.plan.importance : made.seen.importance;
    score(rounded, *rounded_source(made.plan, made.source, made.catalogue, importance), activations);
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

// What the evaluation needs of the work before it, in a record.
void record_for_evaluation(const std::filesystem::path& folder, const nlohmann::json& identity,
                           const Observations& seen, const RunReport& report) {
  Journal(folder, identity).add([&](RecordWriter& record) {
    record.state = {{"tokens", seen.tokens},
                    {"prepare", report.seconds.prepare},
                    {"quantize", report.seconds.quantize},
                    {"peak_memory_bytes", report.peak_memory_bytes},
                    {"spill", {report.spill.bytes, report.spill.read, report.spill.written, report.spill.seconds}},
                    {"blocks", blocks_to_record(report.blocks)}};
    for (const auto& [layer, range] : seen.ranges) record.add("range/" + layer, range);
    for (const auto& [layer, weights] : seen.importance) record.add("importance/" + layer, weights);
  });
}

// Takes back what record_for_evaluation() has written for a run of this identity. False: there is no such record.
bool take_evaluation_record(const std::filesystem::path& folder, const nlohmann::json& identity, Observations& seen,
                            RunReport& report) {
  const Journal journal(folder, identity);
  for (const int64_t number : journal.records()) {
    try {
      const JournalRecord record = journal.open(number);
      if (!difference(record.identity(), identity).empty()) return false;
      const nlohmann::json& state = record.state();
      seen.tokens = state.at("tokens");
      seen.ranges = record.tensors("range/");
      seen.importance = record.tensors("importance/");
      report.seconds.prepare = state.at("prepare");
      report.seconds.quantize = state.at("quantize");
      report.peak_memory_bytes = state.at("peak_memory_bytes");
      const nlohmann::json& spill = state.at("spill");
      report.spill = {spill[0], spill[1], spill[2], spill[3]};
      report.blocks = blocks_of_record(state.at("blocks"));
      return true;
    } catch (const Error& e) {
      log::warning(e.what());
    }
  }
  return false;
}

// Begins the exports, or goes on with them from the newest record of the journal that is whole; `from` is that record.
void open_exports(const std::function<void(const JournalRecord*)>& begin, const Journal& journal, OutputFolder& output,
                  const nlohmann::json& identity, std::optional<JournalRecord>& from) {
  const std::vector<int64_t> records = journal.records();
  for (const int64_t number : records) {
    try {
      from = journal.open(number);
      if (const std::string other = difference(from->identity(), identity); !other.empty())
        throw Error(cat(output.partial().string(), " holds a run that was broken off, but ", other,
                        ". Run it as it was to go on, or pass --restart to begin anew."));
      return begin(&*from);
    } catch (const Error& e) {
      if (e.failure() != Failure::kDataLoss && e.failure() != Failure::kNotFound) throw;
      from.reset();
      journal.remove(number);  // the next one counts as the newest
      log::warning(cat("a record of the run that was broken off is of no use: ", e.what()));
    }
  }
  if (!records.empty()) log::warning("nothing is left to go on from: starting over");
  output.clear();
  begin(nullptr);
}

}  // namespace

void read_weights(const Plan& plan, const Original& original, Catalogue& catalogue) {
  Progress progress("reading", static_cast<int64_t>(original.tensors->names().size()));
  const std::vector<std::string> warnings =
      check_weights({plan, original.architecture, *original.tensors, catalogue, original.files.folder(),
                     [&](int64_t index, const std::string& name) { progress.update(index, 0, name); }});
  progress.clear();
  for (const std::string& warning : warnings) log::warning(warning);
}

RunReport run(const RunRequest& request, Catalogue& catalogue) {
  Clock total, clock;
  const Recipe& recipe = request.recipe;
  const Original original = open_original(catalogue, recipe, request.architecture_folders);
  const Architecture& architecture = original.architecture;
  Plan plan = make_plan(recipe, original, catalogue);
  for (const std::string& warning : plan.warnings) log::warning(warning);

  RunReport report;
  report.model = recipe.model;
  report.output = recipe.output;
  report.device = resolve_device(recipe.device);
  Texts texts = load_texts(plan, original);
  if (plan.mix) {
    Plan settled = *settle_mix(plan, original, catalogue, texts, report.device,
                               request.restart ? Measuring::kAnew : Measuring::kOnce);
    for (const std::string& warning : settled.warnings)
      if (!contains(plan.warnings, warning)) log::warning(warning);
    plan = std::move(settled);
  }
  report.recipe = to_yaml(plan.recipe);
  report.mix = plan.mix;
  for (const LayerPlan& layer : plan.layers) report.layers.push_back({layer.info.name, scheme_text(layer.scheme)});
  report.commands = serve_commands(plan);

  // What can be known before the long work: the weights, the output.
  const nlohmann::json identity = run_identity(plan, original, catalogue, report.device, texts);
  std::unordered_set<std::string> checked;  // or never computed with
  for (const TensorPlan& tensor : plan.tensors)
    if (tensor.extra || !plan.rounds_only) checked.insert(tensor.name);
  FiniteSource source(*original.tensors, std::move(checked));
  Fingerprints fingerprints;
  Observations seen;
  const std::filesystem::path unfinished = report.notes() / kUnfinished;
  if (!request.restart && take_evaluation_record(unfinished, identity, seen, report)) {
    log::info(cat("the exports in ", report.output.string(), " are complete: only their evaluation is left"));
    fingerprints = Fingerprints::read(fingerprint_file(report.output));
    OutputFolder::remove_leftovers_of(report.output);
    clock.lap();
  } else {
    if (const auto& save = recipe.imatrix.save; save && std::filesystem::exists(*save) && !request.overwrite)
      throw Error(cat(save->string(), " already exists; --overwrite replaces it"));
    const bool left =
        !request.restart && std::filesystem::exists(OutputFolder::partial_of(recipe.output) / kJournalFolder);
    OutputFolder output(recipe.output, request.overwrite, left ? Partial::kTakeUp : Partial::kKeep);
    Journal journal(output.partial() / kJournalFolder, identity);
    std::string kept;
    try {
      std::optional<Exporter> exporter;
      std::optional<JournalRecord> from;
      open_exports(
          [&](const JournalRecord* record) {
            exporter.emplace(catalogue, plan, architecture, original.files.folder(), output, record);
          },
          journal, output, identity, from);
      check_room(plan, output.partial(), LogProbsWriter::bytes(texts.evaluation, architecture.vocab_size()));
      if (!plan.rounds_only && !from) read_weights(plan, original, catalogue);  // else each layer when its turn comes
      report.seconds.prepare = clock.lap();
      exporter->start_saving();
      RunSink sink(*exporter, plan, output, journal, from ? &*from : nullptr);
      try {
        const QuantizeInput input{plan,
                                  architecture,
                                  source,
                                  exported_checkpoint(*original.tensors),
                                  catalogue,
                                  std::move(texts.calibration),
                                  texts.pad_id,
                                  report.device,
                                  from ? &*from : nullptr};
        if (plan.rounds_only)
          round_layers(input, sink);
        else
          seen = quantize(input, sink);
        report.blocks = sink.blocks();
        report.spill = seen.spill;
        report.models = {original_row(recipe)};
        report.seconds.quantize = sink.seconds();
        report.peak_memory_bytes = peak_memory_bytes();
        record_for_evaluation(output.partial() / kNotesFolder / kUnfinished, identity, seen, report);
        fingerprints = exporter->finish(notes(report));
      } catch (...) {
        kept = sink.kept();
        throw;
      }
    } catch (const std::exception& e) {
      if (journal.records().empty()) output.remove_unfinished();
      if (kept.empty()) throw;
      throw Error(cat(e.what(), "\n", kept));
    }
    clock.lap();
  }
  const EvaluationLock lock(unfinished, report.output);
  try {
    if (recipe.imatrix.save) save_importance(plan, architecture, seen.importance, seen.tokens);
    report.models = evaluate({plan, architecture, source, catalogue, seen, fingerprints}, texts.evaluation);
  } catch (const std::exception& e) {
    throw Error(cat(e.what(), "\nOnly the evaluation is missing. The exports in ", report.output.string(),
                    " are complete, with their report and recipe: the same command evaluates them."));
  }
  report.seconds.evaluate = clock.lap();
  report.seconds.total = report.seconds.prepare + report.seconds.quantize + report.seconds.evaluate;
  report.peak_memory_bytes = std::max(report.peak_memory_bytes, peak_memory_bytes());
  for (const auto& [name, text] : notes(report)) write_file(report.notes() / name, text);
  std::error_code ignored;
  std::filesystem::remove_all(unfinished, ignored);
  return report;
}

}  // namespace roundhouse

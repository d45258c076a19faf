// SPDX-License-Identifier: Apache-2.0
#include "host/run/run.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_set>
#include <utility>

#include "host/abi/format_reader.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/log.h"
#include "host/base/machine.h"
#include "host/base/parallel.h"
#include "host/base/words.h"
#include "host/checkpoint/output.h"
#include "host/checkpoint/weight_bytes.h"
#include "host/export/digests.h"
#include "host/export/exporter.h"
#include "host/export/journal.h"
#include "host/export/verify.h"
#include "host/model/finite.h"
#include "host/plan/imatrix.h"
#include "host/plan/mix.h"
#include "host/plan/passes.h"
#include "host/plan/plan_text.h"
#include "host/ranks/ranks.h"
#include "host/report/progress.h"
#include "host/report/table.h"
#include "host/run/card.h"
#include "host/run/evaluation.h"
#include "host/run/identity.h"
#include "host/run/mix_cache.h"
#include "host/run/report_page.h"
#include "host/run/run_sink.h"
#include "host/run/texts.h"
#include "host/tuning/device.h"
#include "host/tuning/input_quantization.h"
#include "host/tuning/quantize.h"
#include "host/tuning/round.h"
#include "host/tuning/rounded_source.h"
#include "host/tuning/weight_check.h"

namespace roundhouse {
namespace {

constexpr const char* kEvaluationAlone = "evaluation";  // what the first rank tells the others when that is left

// That its files take on the disk: one that is laid out ahead has holes.
uint64_t bytes_in(const std::filesystem::path& folder) {
  uint64_t bytes = 0;
  struct stat file {};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && ::stat(entry.path().c_str(), &file) == 0)
      bytes += static_cast<uint64_t>(file.st_blocks) * 512;
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
          {"report.json", readable(to_json(report)) + "\n"},
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
    add_observations(record, seen);
  });
}

// Takes back what record_for_evaluation() has written for a run of this identity. False: there is no such record. What
// is left of one when a run is killed in its last step, when it is no longer needed, is removed.
bool take_evaluation_record(const std::filesystem::path& folder, const nlohmann::json& identity, Observations& seen,
                            RunReport& report) {
  const Journal journal(folder, identity);
  for (const int64_t number : journal.records()) {
    try {
      const JournalRecord record = journal.open(number);
      if (!difference(without_device(record.identity()), without_device(identity)).empty()) return false;
      const nlohmann::json& state = record.state();
      seen.tokens = state.at("tokens");
      take_observations(record, seen);
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
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
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

// What is known before the long work, and what comes of it.
class Run {
 public:
  Run(const RunRequest& request, Catalogue& catalogue)
      : request_(request),
        recipe_(request.recipe),
        catalogue_(catalogue),
        files_(recipe_.model),
        original_(open_original(catalogue, recipe_, request.architecture_folders)),
        plan_(plan_recipe(recipe_, original_, catalogue, request.default_texts)),
        source_(*original_.tensors, checked_tensors(plan_)) {
    for (const std::string& warning : plan_.warnings) log::warning(warning);
    report_.model = recipe_.model;
    report_.output = recipe_.output;
    report_.device = device_of(recipe_.device);
    texts_ = load_texts(plan_, original_);
    if (plan_.mix) settle_mix();
    report_.recipe = to_yaml(plan_.recipe);
    report_.mix = plan_.mix;
    for (const LayerPlan& layer : plan_.layers)
      report_.layers.push_back({layer.info.name, scheme_text(layer.scheme), layer.encoded_bytes});
    report_.warnings = plan_.warnings;
    report_.commands = serve_commands(plan_);
    identity_ = run_identity(plan_, original_, catalogue, report_.device, texts_);
    if (report_.device != "cpu") fit_to(card_of(report_.device));
  }

  RunReport run() {
    const std::filesystem::path unfinished = report_.notes() / kJournalFolder;
    if (!request_.restart && take_evaluation_record(unfinished, identity_, seen_, report_)) {
      log::info(cat("the exports in ", report_.output.string(), " are complete: only their evaluation is left"));
      if (ranks()) ranks()->from_first(kEvaluationAlone);
      fingerprints_ = Fingerprints::read(fingerprint_file(report_.output));
      OutputFolder::remove_leftovers(report_.output);
    } else {
      make_exports();
    }
    clock_.lap();
    if (ranks() && recipe_.threads == 0 && threads() == ranks()->threads()) set_threads(0);  // the others only wait now
    const EvaluationLock lock(unfinished, report_.output);
    try {
      if (recipe_.imatrix.save) save_importance(plan_, original_.architecture, seen_.importance, seen_.tokens);
      report_.models = evaluate();
    } catch (const std::exception& e) {
      throw Error(cat(message_of(e), "\nOnly the evaluation is missing. The exports in ", report_.output.string(),
                      " are complete, with their report and recipe: the same command evaluates them."),
                  failure_of(e));
    }
    report_.seconds.evaluate = clock_.lap();
    report_.seconds.total = report_.seconds.prepare + report_.seconds.quantize + report_.seconds.evaluate;
    report_.peak_memory_bytes = std::max(report_.peak_memory_bytes, peak_memory_bytes());
    for (const auto& [name, text] : notes(report_)) write_file(report_.notes() / name, text);
    write_file(report_.notes() / kDigestFile, Digests::of(report_.notes(), {}).text());
    std::error_code ignored;
    std::filesystem::remove_all(unfinished, ignored);
    return std::move(report_);
  }

  // What ranks other than the first do.
  void help() {
    const std::string start = ranks()->from_first("");
    if (start == kEvaluationAlone) return;
    const nlohmann::json told = nlohmann::json::parse(start);
    std::optional<JournalRecord> from;
    std::string fault = difference(told.at("identity"), identity_of_rank());
    try {
      if (const int64_t record = told.at("record"); fault.empty() && record > 0)
        from = Journal(OutputFolder::partial_of(recipe_.output) / kJournalFolder, identity_).open(record);
    } catch (const Error& e) {
      fault = e.what();
    }
    require_no_fault(ranks()->from_all(fault));
    NoSink sink;
    quantize_into(sink, from);
  }

 private:
  // Of a rank whose layers the first one hands to the formats.
  class NoSink : public QuantizeSink {
    void layer(const EncodedLayer&) override {}
    void tensor(const std::string&, const Tensor&) override {}
    void iteration(int64_t, int64_t, double) override {}
    void block_done(const BlockReport&) override {}
  };

  static std::string device_of(const DeviceChoice& choice) {
    if (!ranks()) return resolve_device(choice);
    if (choice.kind == DeviceChoice::Kind::kCuda)
      throw Error("several processes of a run compute on CPUs alone so far: set device to cpu, or start one process");
    return "cpu";
  }

  // With what libtorch's results may depend on, beyond what a run that goes on has to have kept.
  nlohmann::json identity_of_rank() const {
    nlohmann::json identity = identity_;
    identity["the processor"] = value_in("/proc/cpuinfo", "model name");
    return identity;
  }

  // Every rank's, by which all of them end with the same words before the work.
  static void require_no_fault(const std::vector<std::string>& faults) {
    for (size_t rank = 0; rank < faults.size(); ++rank)
      if (!faults[rank].empty())
        throw Error(cat("rank ", rank, " would not do the same as the first: ", faults[rank]), Failure::kPrecondition);
  }

  // Throws Error when an iteration's batch is too small for so many ranks.
  void require_work_for_all() const {
    if (!passes(plan_).tuned) return;
    const Calibration& calibration = recipe_.calibration;
    const auto samples = static_cast<int64_t>(texts_.calibration.size());
    const int64_t batch = std::min(samples, calibration.batch_size * recipe_.tuning.gradient_accumulation);
    const int64_t busy = busy_ranks(batch, calibration.seqlen, ranks()->size());
    if (busy < ranks()->size())
      throw Error(cat(ranks()->size(), " processes were started, but the ", batch,
                      " samples of an iteration, divided in units of ", "at least 1,024 tokens, give work to ", busy,
                      " of them. Start so many, or raise calibration.batch_size or tuning.gradient_accumulation."));
  }

  // Gives each layer of a mix its scheme. What is measured for it may lie beside the output for a while.
  void settle_mix() {
    if (this_rank() == 0 && !std::filesystem::exists(report_.notes() / kJournalFolder)) {
      OutputFolder::check_target(recipe_.output, request_.overwrite);
      require_own_files(recipe_.output, catalogue_);
    }
    std::error_code ignored;
    std::filesystem::create_directories(recipe_.output.parent_path(), ignored);
    Plan settled = *roundhouse::settle_mix(plan_, original_, catalogue_, texts_, report_.device,
                                           request_.restart ? Measuring::kAnew : Measuring::kOnce);
    for (const std::string& warning : settled.warnings)
      if (!contains(plan_.warnings, warning)) log::warning(warning);
    plan_ = std::move(settled);
  }

  // Says what the run will ask of the card, and has the activations stay in host memory where they do not fit.
  void fit_to(const CudaCard& card) {
    if (const std::string text = card_text(card, plan_); !text.empty()) log::info(text);
    plan_.recipe.memory = fitted_memory(card, plan_);
  }

  // Those that are checked before the work, or that nothing computes with.
  static std::unordered_set<std::string> checked_tensors(const Plan& plan) {
    std::unordered_set<std::string> checked;
    for (const TensorPlan& tensor : plan.tensors)
      if (tensor.extra || !plan.rounds_only) checked.insert(tensor.name);
    return checked;
  }

  // From the beginning, or from where an earlier run was broken off.
  void make_exports() {
    if (ranks()) require_work_for_all();
    if (const auto& save = recipe_.imatrix.save; save && std::filesystem::exists(*save) && !request_.overwrite)
      throw Error(cat(save->string(), " already exists; --overwrite replaces it"));
    const bool left =
        !request_.restart && std::filesystem::exists(OutputFolder::partial_of(recipe_.output) / kJournalFolder);
    OutputFolder output(recipe_.output, request_.overwrite, left ? Partial::kTakeUp : Partial::kKeep);
    Journal journal(output.partial() / kJournalFolder, identity_);
    std::string kept;
    try {
      std::optional<Exporter> exporter;
      std::optional<JournalRecord> from;
      open_exports(
          [&](const JournalRecord* record) {
            exporter.emplace(catalogue_, plan_, original_.architecture, original_.files.folder(), output, record);
          },
          journal, output, identity_, from);
      check_room(plan_, output.partial(),
                 LogProbsWriter::bytes(texts_.evaluation, original_.architecture.vocab_size()));
      if (!plan_.rounds_only && !from) read_weights(plan_, original_, catalogue_);  // else each layer in its turn
      report_.seconds.prepare = clock_.lap();
      exporter->start_saving();
      if (ranks()) {
        ranks()->from_first(
            nlohmann::json{{"identity", identity_of_rank()}, {"record", from ? from->number() : 0}}.dump());
        require_no_fault(ranks()->from_all(""));
      }
      RunSink sink(*exporter, plan_, output, journal, from ? &*from : nullptr);
      try {
        quantize_into(sink, from);
        report_.blocks = sink.blocks();
        report_.seconds.quantize = sink.seconds();
        sink.settle();
        require_unchanged(journal);
        record_for_evaluation(output.partial() / kNotesFolder / kJournalFolder, identity_, seen_, report_);
        fingerprints_ = exporter->finish(notes(report_));
      } catch (...) {
        sink.settle();
        kept = sink.kept();
        throw;
      }
    } catch (const std::exception& e) {
      if (journal.records().empty()) {
        output.remove_unfinished();
        kept.clear();
      }
      if (kept.empty()) throw;
      throw Error(cat(message_of(e), "\n", kept), failure_of(e));
    }
  }

  // Else the records are of no use either.
  void require_unchanged(const Journal& journal) const {
    try {
      files_.require_unchanged();
    } catch (const Error&) {
      for (const int64_t record : journal.records()) journal.remove(record);
      throw;
    }
  }

  void quantize_into(QuantizeSink& sink, std::optional<JournalRecord>& from) {
    const QuantizeInput input{plan_,
                              original_.architecture,
                              source_,
                              exported_checkpoint(*original_.tensors),
                              catalogue_,
                              std::move(texts_.calibration),
                              texts_.pad_id,
                              report_.device,
                              from ? &from : nullptr};
    if (plan_.rounds_only)
      round_layers(input, sink);
    else
      seen_ = quantize(input, sink);
    report_.spill = seen_.spill;
    report_.models = {original_row(recipe_)};
    report_.peak_memory_bytes = peak_memory_bytes();
  }

  // The original, plain rounding, and each export, read back by its format and compared with what the run made; all but
  // the original with their activations quantized as the plan says.
  std::vector<ModelRow> evaluate() {
    const Sequences& sequences = texts_.evaluation;
    const InputHook activations =
        sequences.empty() ? InputHook() : activation_hook(plan_.layers, catalogue_, seen_.ranges, report_.device);
    std::optional<DivergenceMeter> meter;
    const auto score = [&](ModelRow& row, TensorSource& tensors, const InputHook& hook) {
      if (sequences.empty()) return;
      if (meter) {
        row.score =
            measure(row.name, report_.device, original_.architecture, tensors, sequences, hook, nullptr, &*meter);
        return;
      }
      const std::filesystem::path logits = recipe_.output / kNotesFolder / kJournalFolder / "logits";
      LogProbsWriter save(logits, sequences, original_.architecture.vocab_size());
      row.score = measure(row.name, report_.device, original_.architecture, tensors, sequences, hook, &save);
      meter.emplace(logits, sequences, original_.architecture.vocab_size());
      std::filesystem::remove(logits);  // it stays mapped
    };
    const std::vector<ExportTarget> targets = export_targets(recipe_);
    const bool tuned = passes(plan_).tuned;
    std::vector<ModelRow> rows;
    ModelRow& original = rows.emplace_back(original_row(recipe_));
    score(original, source_, {});
    if (tuned && !sequences.empty()) {
      ModelRow& rounded = rows.emplace_back();
      rounded.name = "plain rounding";
      rounded.bytes = weight_bytes(targets.front().folder);
      const Importance& importance = recipe_.imatrix.file ? plan_.importance : seen_.importance;
      score(rounded, *rounded_source(plan_, source_, catalogue_, importance, report_.device), activations);
    }
    for (const ExportTarget& target : targets) {
      ModelRow& row = rows.emplace_back();
      row.name = (tuned ? "tuned, " : "rounded, ") + target.format;
      row.format = target.format;
      row.folder = target.folder;
      row.bytes = weight_bytes(target.folder);
      const LoadedFormat format = catalogue_.format(target.format);
      const std::unique_ptr<TensorSource> exported =
          with_matrices(original_.architecture,
                        std::make_unique<ExportedCheckpoint>(format, target.folder, original_.architecture.facts()));
      const Verification verification = verify(original_.architecture, *exported, fingerprints_);
      row.verified = verification_text(verification);
      row.problems = verification.problems;
      row.notes = verification.notes;
      for (std::string& note : finding_notes(format, target.folder, original_.architecture.facts()))
        row.notes.push_back(std::move(note));
      score(row, *exported, activations);
    }
    return rows;
  }

  const RunRequest& request_;
  const Recipe& recipe_;
  Catalogue& catalogue_;
  Clock clock_;
  const FilesInUse files_;
  const Original original_;
  Plan plan_;
  FiniteSource source_;
  RunReport report_;
  Texts texts_;
  nlohmann::json identity_;
  Observations seen_;
  Fingerprints fingerprints_;
};

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
  Run run(request, catalogue);
  if (this_rank() == 0) return run.run();
  run.help();
  return {};
}

}  // namespace roundhouse

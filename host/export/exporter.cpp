// SPDX-License-Identifier: Apache-2.0
#include "host/export/exporter.h"

#include <malloc.h>

#include <algorithm>
#include <cstring>

#include "host/abi/export_session.h"
#include "host/abi/format_reader.h"
#include "host/abi/format_writer.h"
#include "host/base/cancel.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/log.h"
#include "host/base/scratch_folder.h"
#include "host/base/words.h"
#include "host/checkpoint/output.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/weight_bytes.h"
#include "host/export/digests.h"
#include "host/export/journal.h"
#include "host/export/replay_log.h"
#include "host/plan/format_facts.h"
#include "host/text/tokenizer.h"

namespace roundhouse {

namespace {

constexpr const char* kReplayFile = "replay";  // in the journal

// What names of a record's tensors begin with.
const std::string kWriter = "writer/", kFingerprint = "fingerprint/";

// Bytes of decoded weights. With 64 MiB many small layers, as experts, were rounded 15 % more slowly.
constexpr uint64_t kPackedBetweenTrims = 256 << 20;

// Tensors as a plugin takes them. Borrows them.
class TensorViews {
 public:
  explicit TensorViews(const std::vector<Tensor>& tensors) {
    for (const Tensor& t : tensors) views_.push_back(t.view());
    for (const rh_tensor& view : views_) pointers_.push_back(&view);
  }
  const rh_tensor* const* data() const { return pointers_.data(); }

 private:
  std::vector<rh_tensor> views_;
  std::vector<const rh_tensor*> pointers_;
};

}  // namespace

struct Exporter::Target {
  std::string id;
  LoadedFormat format;
  std::unique_ptr<PlanView> plan;
  std::unique_ptr<OutputFolder> part;  // where the output holds several formats
  OutputFolder& folder;
  ExportSession session;
  FormatWriter writer;
  std::string saved;  // by writer.save(), last

  // Whether its format cannot save: a later process gives it all again.
  bool replayed() const { return !FormatWriter::resumes(format); }

  Target(std::string id, const LoadedFormat& format, std::unique_ptr<PlanView> view, OutputFolder& output,
         std::unique_ptr<OutputFolder> inside, const ExportSession::Facts& facts, uint64_t max_shard_bytes,
         ExportSession::Decode decode, const std::string* from)
      : id(std::move(id)),
        format(format),
        plan(std::move(view)),
        part(std::move(inside)),
        folder(part ? *part : output),
        session(folder, facts, *plan->get(), max_shard_bytes, std::move(decode)),
        writer(format, session, from) {}

  // Where the files that are no safetensors have their tensors, as the format's reader says.
  std::vector<StoredRange> stored(const nlohmann::json& about) const {
    std::vector<StoredRange> ranges;
    if (holds_safetensors(folder.partial())) return ranges;
    std::optional<ExportedCheckpoint> written;
    try {
      written.emplace(format, folder.partial(), about);
    } catch (const Error& e) {  // reading it back, later, says more
      log::warning(cat("its tensors have no digests: ", e.what()));
      return ranges;
    }
    for (const std::string& name : written->names()) {
      const ExportedCheckpoint::Item& item = written->item(name);
      const std::filesystem::path file = item.file;
      const std::string relative = (file.has_parent_path() ? file.lexically_relative(folder.partial()) : file).string();
      if (item.bytes > 0) ranges.push_back({name, relative, item.offset, item.bytes});
    }
    return ranges;
  }
};

namespace {

// The files of an output that no run has put there, as far as its digests tell: without digests none.
std::vector<std::string> others_in(const std::filesystem::path& output, const Catalogue& catalogue) {
  std::vector<std::string> others;
  const auto add = [&](const std::filesystem::path& folder, const std::string& shown) {
    const std::optional<Digests> digests = Digests::read(folder);
    if (!digests) return false;
    for (const std::string& file : digests->unknown(folder)) others.push_back(shown + file);
    return true;
  };
  add(output / kNotesFolder, cat(kNotesFolder, "/"));
  if (!add(output, "")) {  // several formats, each in its folder
    std::vector<std::string> beside;
    bool told = false;
    for (const auto& entry : std::filesystem::directory_iterator(output)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_directory() && catalogue.find_format(name))
        told |= add(entry.path(), cat(name, "/"));
      else if (name != kNotesFolder && name != kJournalFolder && name != kOutputMarker)
        beside.push_back(name);
    }
    if (told) others.insert(others.end(), beside.begin(), beside.end());
  }
  std::sort(others.begin(), others.end());
  return others;
}

}  // namespace

void require_own_files(const std::filesystem::path& output, const Catalogue& catalogue) {
  constexpr size_t kNamed = 10;
  if (!std::filesystem::is_directory(output)) return;
  for (const auto& entry : std::filesystem::directory_iterator(output)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || name == kNotesFolder || catalogue.find_format(name)) continue;
    if (std::filesystem::exists(entry.path() / kOutputMarker) || std::filesystem::exists(entry.path() / "config.json"))
      throw Error(cat("the output folder ", output.string(), " would be replaced, and ", entry.path().string(),
                      " is a model that this run does not write. Move it, or choose another output."));
  }
  std::vector<std::string> others;
  try {
    others = others_in(output, catalogue);
  } catch (const Error& e) {
    if (says_nothing(e)) throw;
    throw Error(cat("the output folder ", output.string(),
                    " would be replaced, and what in it is not a run's cannot be "
                    "told: ",
                    e.what(), ". Remove the folder, or choose another output."));
  }
  if (!others.empty())
    throw Error(cat("the output folder ", output.string(),
                    " would be replaced, and no run has written what it holds "
                    "beside its export: ",
                    joined(others, kNamed), ". Move that, or choose another output."));
}

std::vector<ExportTarget> export_targets(const Recipe& recipe) {
  std::vector<ExportTarget> targets;
  for (const FormatChoice& format : recipe.formats)
    targets.push_back(
        {format.id, format.options, recipe.formats.size() == 1 ? recipe.output : recipe.output / format.id});
  return targets;
}

Exporter::Exporter(Catalogue& catalogue, const Plan& plan, const Architecture& architecture,
                   const std::filesystem::path& model_folder, OutputFolder& output, const JournalRecord* from)
    : catalogue_(catalogue), output_(output) {
  nlohmann::json config = architecture.config();
  // Of a checkpoint that is repacked: the format writes its own. The second is compressed-tensors' older key.
  for (const char* key : {"quantization_config", "compression_config"}) {
    config.erase(key);
    if (const auto text = config.find("text_config"); text != config.end() && text->is_object()) text->erase(key);
  }
  about_ = architecture.facts();
  const ExportSession::Facts facts{.json = {{"config", std::move(config)},
                                            {"architecture", about_},
                                            {"plan", plan_facts(plan)},
                                            {"tuning", tuning_facts(plan.recipe)}},
                                   .paths = {{"model", model_folder.string()}},
                                   .large = {{"tokenizer", [model_folder] { return Tokenizer::facts(model_folder); }}}};
  const auto decode = [this](const rh_encoded_layer& layer, rh_tensor& output) {
    if (!current_ || layer.layer->name != current_->plan.info.name)
      throw Error(cat("decode is only for the layer that is being added, not for ", layer.layer->name));
    current_->decode(layer.tensors, output);
    if (!replay_) return;
    Tensor copy(from_rh(output.dtype), {current_->plan.info.out_features, current_->plan.info.in_features});
    std::memcpy(copy.data(), static_cast<const char*>(output.data) + output.byte_offset, copy.bytes());
    decoded_.push_back(std::move(copy));
  };
  for (const FormatPlan& format : plan.formats)
    for (const auto& [name, why] : format.omitted) omitted_.insert(name);
  fingerprints_.family = plan.recipe.architecture;
  require_own_files(output.path(), catalogue);
  const std::vector<ExportTarget> targets = export_targets(plan.recipe);
  for (const ExportTarget& target : targets) {
    const bool restored = from && FormatWriter::resumes(catalogue.format(target.format));
    const std::string saved = restored ? from->bytes(kWriter + target.format) : "";
    targets_.push_back(std::make_unique<Target>(
        target.format, catalogue.format(target.format), plan_view(plan, target.options, about_), output_,
        targets.size() == 1 ? nullptr : std::make_unique<OutputFolder>(output_, target.format), facts,
        static_cast<uint64_t>(plan.recipe.max_shard_size), decode, restored ? &saved : nullptr));
  }
  if (!from) return;
  if (const nlohmann::json& replay = from->state().at("replay"); !replay.is_null()) {
    replay_ = std::make_unique<ReplayLog>(output_.partial() / kJournalFolder / kReplayFile, replay);
    replay_->replay(
        plan, [&](const EncodedLayer& layer) { give(layer, To::kReplayed); },
        [&](const std::string& name, const Tensor& tensor) { give(name, tensor, To::kReplayed); });
  }
  for (const auto& [name, rows] : from->tensors(kFingerprint))
    fingerprints_.set(name, {rows.as<float>(), rows.as<float>() + rows.elements()});
}

Exporter::~Exporter() = default;

void Exporter::give(const EncodedLayer& layer, To to) {
  const TensorViews tensors(layer.tensors), activation_tensors(layer.activation_tensors);
  const bool has_bias = layer.bias.elements() > 0;
  const rh_tensor bias = layer.bias.view();
  const LinearInfo& info = layer.plan.info;

  rh_format_layer about{};
  about.struct_size = sizeof about;
  about.dtype = to_rh(layer.plan.dtype);
  about.name = info.name.c_str();
  about.role = info.role.c_str();
  about.rows = info.out_features;
  about.cols = info.in_features;
  about.encoding = &layer.encoding;
  about.activation_encoding = layer.activation_encoding;
  const rh_stack stack = info.stack ? info.stack->view() : rh_stack{};
  if (info.stack) about.stack = &stack;
  rh_encoded_layer record{};
  record.layer = &about;
  record.tensors = tensors.data();
  record.bias = has_bias ? &bias : nullptr;
  record.activation_tensors = layer.activation_encoding ? activation_tensors.data() : nullptr;
  current_ = &layer;
  decoded_.clear();
  for (auto& target : targets_)
    if (to == To::kAll || target->replayed()) target->writer.add_layer(record);
  current_ = nullptr;
}

void Exporter::layer(const EncodedLayer& layer) {
  give(layer, To::kAll);
  if (replay_) replay_->layer(layer, decoded_);

  const LinearInfo& info = layer.plan.info;
  const Tensor decoded(layer.plan.dtype, {info.out_features, info.in_features});
  // What packing freed would otherwise stay with the process, a checkpoint's worth of it in the end. Trimming walks
  // through the whole heap.
  packed_since_trim_ += decoded.bytes();
  if (packed_since_trim_ >= kPackedBetweenTrims) {
    malloc_trim(0);
    packed_since_trim_ = 0;
  }
  rh_tensor output = decoded.view();
  layer.decode(TensorViews(layer.tensors).data(), output);
  fingerprints_.add(info.name + ".weight", decoded);
  if (layer.bias.elements() > 0) fingerprints_.add(info.name + ".bias", layer.bias);
}

void Exporter::give(const std::string& name, const Tensor& tensor, To to) {
  const rh_tensor view = tensor.view();
  for (auto& target : targets_)
    if (to == To::kAll || target->replayed()) target->writer.add_tensor(name, view);
}

void Exporter::tensor(const std::string& name, const Tensor& tensor) {
  give(name, tensor, To::kAll);
  if (replay_) replay_->tensor(name, tensor);
  if (!omitted_.contains(name)) fingerprints_.add(name, tensor);
}

std::map<std::string, uint64_t> Exporter::laid_out() const {
  std::map<std::string, uint64_t> bytes;
  for (const auto& target : targets_) {
    const uint64_t announced = target->session.announced();
    bytes[target->id] = announced > 0 ? announced : weight_bytes(target->folder.partial());
  }
  return bytes;
}

void Exporter::start_saving() {
  if (!replay_ && std::any_of(targets_.begin(), targets_.end(), [](const auto& t) { return t->replayed(); }))
    replay_ = std::make_unique<ReplayLog>(output_.partial() / kJournalFolder / kReplayFile, nullptr);
}

void Exporter::save() {
  for (auto& target : targets_)
    if (!target->replayed()) target->saved = target->writer.save();
  if (replay_) saved_replay_ = replay_->save();
}

void Exporter::add_to(RecordWriter& record) const {
  for (const auto& target : targets_)
    if (!target->replayed()) record.add(kWriter + target->id, target->saved);
  record.state["replay"] = saved_replay_;
  for (const auto& [name, rows] : fingerprints_.all()) {
    Tensor copy(DType::kF32, {static_cast<int64_t>(rows.size())});
    std::copy(rows.begin(), rows.end(), copy.as<float>());
    record.add(kFingerprint + name, copy);
  }
}

Fingerprints Exporter::finish(const std::map<std::string, std::string>& notes) {
  require_own_files(output_.path(), catalogue_);  // hours later
  for (auto& target : targets_) target->writer.finish();
  for (auto& target : targets_)
    target->folder.write_text(kDigestFile, Digests::of(target->folder.partial(), target->stored(about_)).text());
  for (const auto& [name, text] : notes) output_.write_text(cat(kNotesFolder, "/", name), text);
  const std::filesystem::path folder = output_.partial() / kNotesFolder;
  std::filesystem::create_directories(folder);
  fingerprints_.write(fingerprint_file(output_.partial()));
  output_.write_text(cat(kNotesFolder, "/", kDigestFile), Digests::of(folder, {}).text());
  output_.finish();
  return std::move(fingerprints_);
}

void rehearse(Catalogue& catalogue, const Plan& plan, const Architecture& architecture,
              const std::filesystem::path& model_folder, const std::function<void(Exporter&)>& body) {
  const ScratchFolder scratch;
  Plan elsewhere = plan;
  elsewhere.recipe.output = scratch.path() / "out";
  try {
    OutputFolder output(elsewhere.recipe.output, /*overwrite=*/false);
    Exporter exporter(catalogue, elsewhere, architecture, model_folder, output);
    if (body) body(exporter);
  } catch (const Cancelled&) {
    throw;
  } catch (const Error& e) {  // nobody knows that folder
    std::string message = e.what();
    const std::string folder = elsewhere.recipe.output.string(), output = plan.recipe.output.string();
    for (size_t at = 0; (at = message.find(folder, at)) != std::string::npos; at += output.size())
      message.replace(at, folder.size(), output);
    throw Error(message);
  }
}

}  // namespace roundhouse

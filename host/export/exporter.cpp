// SPDX-License-Identifier: Apache-2.0
#include "host/export/exporter.h"

#include <malloc.h>

#include "host/abi/export_session.h"
#include "host/abi/format_writer.h"
#include "host/base/cancel.h"
#include "host/base/error.h"
#include "host/base/scratch_folder.h"
#include "host/checkpoint/output.h"
#include "host/plan/format_facts.h"
#include "host/text/tokenizer.h"

namespace roundhouse {

namespace {

constexpr uint64_t kPackedBetweenTrims = 64 << 20;  // bytes of decoded weights

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
  std::unique_ptr<PlanView> plan;
  OutputFolder folder;
  ExportSession session;
  FormatWriter writer;

  Target(const LoadedFormat& format, const ExportTarget& target, std::unique_ptr<PlanView> view, bool overwrite,
         const ExportSession::Facts& facts, uint64_t max_shard_bytes, ExportSession::Decode decode)
      : plan(std::move(view)),
        folder(target.folder, overwrite),
        session(folder, facts, *plan->get(), max_shard_bytes, std::move(decode)),
        writer(format, session) {}
};

std::vector<ExportTarget> export_targets(const Recipe& recipe) {
  std::vector<ExportTarget> targets;
  for (const FormatChoice& format : recipe.formats)
    targets.push_back(
        {format.id, format.options, recipe.formats.size() == 1 ? recipe.output : recipe.output / format.id});
  return targets;
}

Exporter::Exporter(Catalogue& catalogue, const Plan& plan, const Architecture& architecture,
                   const std::filesystem::path& model_folder, bool overwrite) {
  nlohmann::json config = architecture.config();
  // Of a checkpoint that is repacked: the format writes its own. The second is compressed-tensors' older key.
  for (const char* key : {"quantization_config", "compression_config"}) config.erase(key);
  const nlohmann::json about = architecture.facts();
  const ExportSession::Facts facts{.json = {{"config", std::move(config)},
                                            {"architecture", about},
                                            {"plan", plan_facts(plan)},
                                            {"tuning", tuning_facts(plan.recipe)}},
                                   .paths = {{"model", model_folder.string()}},
                                   .large = {{"tokenizer", [model_folder] { return Tokenizer::facts(model_folder); }}}};
  const auto decode = [this](const rh_encoded_layer& layer, rh_tensor& output) {
    if (!current_ || layer.layer->name != current_->plan.info.name)
      throw Error(cat("decode is only for the layer that is being added, not for ", layer.layer->name));
    current_->decode(layer.tensors, output);
  };
  for (const FormatPlan& format : plan.formats)
    for (const auto& [name, why] : format.omitted) omitted_.insert(name);
  for (const ExportTarget& target : export_targets(plan.recipe))
    targets_.push_back(std::make_unique<Target>(catalogue.format(target.format), target,
                                                plan_view(plan, target.options, about), overwrite, facts,
                                                static_cast<uint64_t>(plan.recipe.max_shard_size), decode));
}

// Last first: the first has made the folders above all of them, and removes them when the run has failed.
Exporter::~Exporter() {
  while (!targets_.empty()) targets_.pop_back();
}

void Exporter::layer(const EncodedLayer& layer) {
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
  for (auto& target : targets_) target->writer.add_layer(record);
  current_ = nullptr;

  const Tensor decoded(layer.plan.dtype, {about.rows, about.cols});
  // What packing freed would otherwise stay with the process, a checkpoint's worth of it in the end. Trimming walks
  // through the whole heap.
  packed_since_trim_ += decoded.bytes();
  if (packed_since_trim_ >= kPackedBetweenTrims) {
    malloc_trim(0);
    packed_since_trim_ = 0;
  }
  rh_tensor output = decoded.view();
  layer.decode(tensors.data(), output);
  fingerprints_.add(info.name + ".weight", decoded);
  if (has_bias) fingerprints_.add(info.name + ".bias", layer.bias);
}

void Exporter::tensor(const std::string& name, const Tensor& tensor) {
  const rh_tensor view = tensor.view();
  for (auto& target : targets_) target->writer.add_tensor(name, view);
  if (!omitted_.contains(name)) fingerprints_.add(name, tensor);
}

Fingerprints Exporter::finish() {
  for (auto& target : targets_) target->writer.finish();
  for (auto& target : targets_) target->folder.finish();
  return std::move(fingerprints_);
}

void rehearse(Catalogue& catalogue, const Plan& plan, const Architecture& architecture,
              const std::filesystem::path& model_folder, const std::function<void(Exporter&)>& body) {
  const ScratchFolder scratch;
  Plan elsewhere = plan;
  elsewhere.recipe.output = scratch.path() / "out";
  try {
    Exporter exporter(catalogue, elsewhere, architecture, model_folder, /*overwrite=*/false);
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

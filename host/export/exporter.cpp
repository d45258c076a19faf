#include "host/export/exporter.h"

#include <malloc.h>

#include "host/abi/export_session.h"
#include "host/abi/format_writer.h"
#include "host/base/error.h"
#include "host/checkpoint/output.h"

namespace roundhouse {

namespace {

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
  OutputFolder folder;
  ExportSession session;
  FormatWriter writer;

  Target(Catalogue& catalogue, const ExportTarget& target, bool overwrite, const ExportSession::Facts& facts,
         uint64_t max_shard_bytes, ExportSession::Decode decode)
      : folder(target.folder, overwrite),
        session(folder, facts, target.options, max_shard_bytes, std::move(decode)),
        writer(catalogue.format(target.format), session) {}
};

std::vector<ExportTarget> export_targets(const Recipe& recipe) {
  std::vector<ExportTarget> targets;
  for (const FormatChoice& format : recipe.formats)
    targets.push_back({format.id, format.options,
                       recipe.formats.size() == 1 ? recipe.output : recipe.output / format.id});
  return targets;
}

Exporter::Exporter(Catalogue& catalogue, const Plan& plan, const Architecture& architecture,
                   const std::filesystem::path& model_folder, bool overwrite) {
  nlohmann::json config = architecture.config();
  config.erase("quantization_config");  // of a checkpoint that is repacked: the format writes its own
  const ExportSession::Facts facts{.json = {{"config", std::move(config)},
                                            {"architecture", architecture.facts()},
                                            {"plan", to_json(plan)},
                                            {"tuning", tuning_json(plan.recipe)}},
                                   .paths = {{"model", model_folder.string()}}};
  const auto decode = [this](const rh_encoded_layer& layer, rh_tensor& output) {
    if (!current_ || layer.name != current_->plan.info.name)
      throw Error(cat("decode is only for the layer that is being added, not for ", layer.name));
    current_->decode(layer.tensors, output);
  };
  for (const ExportTarget& target : export_targets(plan.recipe))
    targets_.push_back(
        std::make_unique<Target>(catalogue, target, overwrite, facts, static_cast<uint64_t>(plan.recipe.max_shard_size), decode));
}

// Last first: the first has made the folders above all of them, and removes them when the run has failed.
Exporter::~Exporter() {
  while (!targets_.empty()) targets_.pop_back();
}

void Exporter::layer(const EncodedLayer& layer) {
  const TensorViews tensors(layer.tensors), activation_tensors(layer.activation_tensors);
  const SchemeView weight(*layer.plan.scheme.weight);
  std::optional<SchemeView> activation;
  if (layer.plan.scheme.activation) activation.emplace(*layer.plan.scheme.activation);
  const bool has_bias = layer.bias.elements() > 0;
  const rh_tensor bias = layer.bias.view();

  rh_encoded_layer record{};
  record.name = layer.plan.info.name.c_str();
  record.role = layer.plan.info.role.c_str();
  record.rows = layer.plan.info.out_features;
  record.cols = layer.plan.info.in_features;
  record.dtype = to_rh(layer.source_dtype);
  record.scheme = weight.get();
  record.activation = activation ? activation->get() : nullptr;
  record.encoding = &layer.encoding;
  record.tensors = tensors.data();
  record.bias = has_bias ? &bias : nullptr;
  record.activation_encoding = layer.activation_encoding;
  record.activation_tensors = layer.activation_encoding ? activation_tensors.data() : nullptr;
  current_ = &layer;
  for (auto& target : targets_) target->writer.add_layer(record);
  // What packing freed would otherwise stay with the process, a checkpoint's worth of it in the end.
  malloc_trim(0);
  current_ = nullptr;

  const Tensor decoded(layer.source_dtype, {record.rows, record.cols});
  rh_tensor output = decoded.view();
  layer.decode(tensors.data(), output);
  fingerprints_.add(layer.plan.info.name + ".weight", decoded);
  if (has_bias) fingerprints_.add(layer.plan.info.name + ".bias", layer.bias);
}

void Exporter::tensor(const std::string& name, const Tensor& tensor) {
  const rh_tensor view = tensor.view();
  for (auto& target : targets_) target->writer.add_tensor(name, view);
  fingerprints_.add(name, tensor);
}

Fingerprints Exporter::finish() {
  for (auto& target : targets_) target->writer.finish();
  for (auto& target : targets_) target->folder.finish();
  return std::move(fingerprints_);
}

}  // namespace roundhouse

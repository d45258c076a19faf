// SPDX-License-Identifier: Apache-2.0
#include "host/plan/estimate.h"

#include <algorithm>
#include <string>
#include <unordered_set>

#include "host/base/cpu.h"
#include "host/base/words.h"
#include "host/plan/layer_check.h"
#include "host/plan/passes.h"

namespace roundhouse {
namespace {

using nlohmann::json;

// What tuning reaches on a CPU: bf16 matrix products ran at 1.96e12 operations a second on the 2-core machine of this
// project's measurements; a third of that, because products are not all there is to do.
constexpr double kCpuOperationsPerSecond = 6e11;

// Whether an engine, as rh_format's backends_json describes it, takes the layer. What it leaves unsaid fits.
bool takes(const json& backend, const LayerPlan& layer) {
  const TensorScheme& weight = *layer.scheme.weight;
  const auto fits = [](const json& lists, const std::string& key, const json& value) {
    const auto listed = lists.find(key);
    return listed == lists.end() || std::find(listed->begin(), listed->end(), value) != listed->end();
  };
  const json wanted = backend.value("parameters", json::object());
  for (const auto& [key, value] : layer.encoding->parameters().items())
    if (!fits(wanted, key, value)) return false;
  return fits(backend, "bits", weight.bits) && fits(backend, "sym", weight.symmetric) &&
         fits(backend, "group_sizes", group_size(weight)) && fits(backend, "encodings", layer.encoding->id());
}

// Of the encodings with a code in each byte, and of what they are decoded to, which formats may ask for.
uint64_t replay_bytes(const Plan& plan) {
  uint64_t bytes = 0;
  std::unordered_set<std::string> encoded;
  for (const LayerPlan& layer : plan.layers) {
    if (!layer.encoding) continue;
    bytes += packed_bytes(layer.encoding->get(), layer.info, 8) +
             bytes_of(layer.dtype, {layer.info.out_features, layer.info.in_features});
    encoded.insert(layer.info.name + ".weight");
  }
  for (const TensorPlan& tensor : plan.tensors)
    if (!encoded.contains(tensor.name)) bytes += bytes_of(tensor.dtype, tensor.shape);
  return bytes;
}

}  // namespace

uint64_t hidden_state_bytes(const Recipe& recipe, int64_t samples, int64_t hidden_size, int64_t points) {
  const bool on_gpu = recipe.device.kind == DeviceChoice::Kind::kCuda;
  const double values =
      static_cast<double>(points * samples) * static_cast<double>(recipe.calibration.seqlen * hidden_size);
  return static_cast<uint64_t>(std::min(values * (computes_in_bfloat16(on_gpu) ? 2 : 4), 1e18));
}

void estimate(Plan& plan, TensorSource& source, const Catalogue& catalogue, int64_t hidden_size) {
  for (const std::string& name : source.names()) {
    const TensorInfo entry = source.info(name);
    plan.bytes_before += bytes_of(entry.dtype, entry.shape);
  }
  for (FormatPlan& estimate : plan.formats) {
    const FormatRecord& record = *catalogue.find_format(estimate.id);
    estimate.bytes_estimate = plan.bytes_before;
    for (const json& backend : record.backends)
      if (std::all_of(plan.layers.begin(), plan.layers.end(),
                      [&](const LayerPlan& layer) { return !layer.scheme.weight || takes(backend, layer); }))
        estimate.backends.push_back(backend);
    for (const LayerPlan& layer : plan.layers) {
      if (!layer.encoding || !contains(record.encodings, layer.encoding->id())) continue;
      estimate.bytes_estimate += layer.encoded_bytes;
      estimate.bytes_estimate -= bytes_of(layer.dtype, {layer.info.out_features, layer.info.in_features});
    }
  }

  if (std::any_of(plan.formats.begin(), plan.formats.end(), [](const FormatPlan& format) { return !format.resumes; }))
    plan.replay_bytes = replay_bytes(plan);

  // A parameter takes 2 operations a token in a forward pass and 4 in a backward one. Each block runs forward over the
  // calibration texts once for each pass; a tuned one forward and backward an iteration.
  const Recipe& recipe = plan.recipe;
  const double batch_tokens = static_cast<double>(recipe.calibration.batch_size * recipe.tuning.gradient_accumulation *
                                                  recipe.calibration.seqlen);
  const double tokens = static_cast<double>(recipe.calibration.samples * recipe.calibration.seqlen);
  const Passes needed = passes(plan);
  const double forwards =
      (needed.full ? 1 : 0) + (needed.quantized ? 1 : 0) + (needed.quantized && needed.ranges ? 1 : 0);
  const bool on_gpu = recipe.device.kind == DeviceChoice::Kind::kCuda;
  plan.activation_bytes = hidden_state_bytes(recipe, recipe.calibration.samples, hidden_size, needed.stores());
  double operations = 0;
  for (const LayerPlan& layer : plan.layers) {
    const double parameters = static_cast<double>(layer.info.out_features * layer.info.in_features);
    if (layer.block >= 0) operations += parameters * 2 * tokens * forwards;
    if (!layer.scheme.weight) continue;
    if (is_tuned(layer.scheme.weight->rounding))
      operations += parameters * 6 * batch_tokens * static_cast<double>(recipe.tuning.iters);
  }
  if (!on_gpu) plan.seconds_estimate = operations / kCpuOperationsPerSecond;
}

}  // namespace roundhouse

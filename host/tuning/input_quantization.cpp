// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/input_quantization.h"

#include <memory>
#include <unordered_map>

#include "host/base/cancel.h"
#include "host/tuning/activation_quantizer.h"

namespace roundhouse {
namespace {

using Quantizers = std::unordered_map<std::string, std::unique_ptr<ActivationQuantizer>>;

// The first data type that takes over the encoding. Throws Error with what each of them says when there is none.
std::unique_ptr<ActivationQuantizer> quantizer_of(Catalogue& catalogue, const LinearInfo& layer,
                                                  const rh_encoding& encoding, const TensorSet& encoded,
                                                  at::Device device) {
  constexpr uint32_t kNeeded = RH_SUPPORTS_ACTIVATIONS | RH_SUPPORTS_ENCODED;
  std::string reasons;
  for (const DtypeRecord* record : catalogue.dtypes()) {
    if (record->encoding != encoding.id || (record->supports & kNeeded) != kNeeded) continue;
    try {
      return std::make_unique<ActivationQuantizer>(catalogue.dtype(record->id), layer, encoding, encoded, device);
    } catch (const Error& e) {
      reasons += cat("; ", e.what());
    }
  }
  throw Error(cat("no data type quantizes inputs as ", encoding.id, " ", encoding.parameters_json, reasons));
}

}  // namespace

InputHook activation_hook(const std::vector<LayerPlan>& plans, Catalogue& catalogue, const ActivationRanges& ranges,
                          const std::string& device) {
  std::vector<const LayerPlan*> layers;
  for (const LayerPlan& layer : plans) layers.push_back(&layer);
  const auto activations = std::make_shared<Activations>(catalogue, layers, at::kFloat, at::Device(device));
  if (activations->empty()) return {};
  activations->prepare(ranges);
  return
      [activations](const LinearInfo& linear, const at::Tensor& input) { return activations->forward(linear, input); };
}

std::string InputQuantization::text() const {
  if (applied == 0) return "unquantized";
  return applied == layers ? "quantized" : cat("quantized in ", applied, " of ", layers, " layers");
}

InputQuantization input_quantization(const Architecture& architecture, ExportedCheckpoint& checkpoint,
                                     Catalogue& catalogue, const std::string& device) {
  InputQuantization result;
  const auto quantizers = std::make_shared<Quantizers>();
  const auto visit = [&](const LinearInfo& layer) {
    const std::string weight = layer.name + ".weight";
    if (!checkpoint.contains(weight) || !checkpoint.item(weight).activation_encoding) return;
    ++result.layers;
    try {
      auto made = quantizer_of(catalogue, layer, *checkpoint.item(weight).activation_encoding,
                               checkpoint.load_activation(weight), at::Device(device));
      made->add_reader();
      (*quantizers)[layer.name] = std::move(made);
    } catch (const Cancelled&) {
      throw;
    } catch (const Error& e) {
      if (result.problem.empty()) result.problem = cat(layer.name, ": ", e.what());
    }
  };
  for (int64_t block = 0; block < architecture.blocks(); ++block)
    for (const LinearInfo& layer : architecture.block_linears(block)) visit(layer);
  visit(architecture.head());
  result.applied = static_cast<int64_t>(quantizers->size());
  if (quantizers->empty()) return result;
  result.hook = [quantizers](const LinearInfo& linear, const at::Tensor& input) {
    const auto found = quantizers->find(linear.name);
    return found == quantizers->end() ? input : found->second->forward(input);
  };
  return result;
}

}  // namespace roundhouse

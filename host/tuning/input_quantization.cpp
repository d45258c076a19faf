#include "host/tuning/input_quantization.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "host/base/error.h"
#include "host/model/torch_tensor.h"
#include "host/plan/scheme_resolver.h"
#include "host/tuning/activation_quantizer.h"

namespace roundhouse {
namespace {

std::vector<TensorScheme> activation_schemes(Catalogue& catalogue, const std::vector<Preset>& presets) {
  std::vector<TensorScheme> schemes;
  for (const Preset& preset : presets) {
    try {
      const Scheme scheme = resolve_scheme(catalogue, nlohmann::json::object(), preset.fields, Rounding::kPlain);
      if (scheme.activation && std::find(schemes.begin(), schemes.end(), *scheme.activation) == schemes.end())
        schemes.push_back(*scheme.activation);
    } catch (const Error&) {  // its data type's plugin is not there
    }
  }
  return schemes;
}

// Nothing when the data type refuses the layer.
std::optional<DeviceQuantizer> quantizer_of(Catalogue& catalogue, const TensorScheme& scheme, const LinearInfo& layer) {
  const QuantizerTarget target{layer.name, layer.role, -1, layer.in_features, DType::kF32, RH_TARGET_ACTIVATION};
  try {
    return DeviceQuantizer(catalogue.dtype(scheme.dtype), scheme, target, at::kCPU);
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool same_encoding(const rh_encoding& a, const rh_encoding& b) {
  return std::strcmp(a.id, b.id) == 0 && a.tensor_count == b.tensor_count &&
         nlohmann::json::parse(a.parameters_json) == nlohmann::json::parse(b.parameters_json);
}

// A number from 0 on, whose range is encoded as `wanted`, f32 [1]. Found by bisection: a range only grows, or only
// falls, with the numbers that it is to hold, as floats from 0 on do with their bits.
std::optional<at::Tensor> statistic_of(DeviceQuantizer& quantizer, float wanted) {
  const auto encoded = [&](uint32_t bits) {
    quantizer.prepare({}, {}, at::full({1}, std::bit_cast<float>(bits), at::kFloat));
    return quantizer.encode({}, {}).front().as<float>()[0];
  };
  uint32_t low = std::bit_cast<uint32_t>(1e-30f), high = std::bit_cast<uint32_t>(1e30f);
  const bool grows = encoded(low) < encoded(high);
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const float range = encoded(middle);
    if (grows ? range < wanted : range > wanted)
      low = middle + 1;
    else
      high = middle;
  }
  if (encoded(low) != wanted) return std::nullopt;
  return at::full({1}, std::bit_cast<float>(low), at::kFloat);
}

bool is_one_float(const rh_tensor_spec& spec) {
  return from_rh(spec.dtype) == DType::kF32 && spec.ndim == 1 && spec.shape[0] == 1;
}

}  // namespace

std::string InputQuantization::text() const {
  if (applied == 0) return "unquantized";
  return applied == layers ? "quantized" : cat("quantized in ", applied, " of ", layers, " layers");
}

InputQuantization input_quantization(const Architecture& architecture, ExportedCheckpoint& checkpoint,
                                     Catalogue& catalogue, const std::vector<Preset>& presets) {
  InputQuantization result;
  ActivationRanges ranges;
  std::vector<LayerPlan> layers;
  std::vector<TensorScheme> schemes;
  // Why the layer's input cannot be quantized as `stored` says; "" when it can.
  const auto add = [&](const LinearInfo& layer, int64_t block, const rh_encoding& stored) -> std::string {
    for (const TensorScheme& scheme : schemes) {
      std::optional<DeviceQuantizer> made = quantizer_of(catalogue, scheme, layer);
      if (!made || !same_encoding(*made->info().encoding, stored)) continue;
      DeviceQuantizer& quantizer = *made;
      if (const rh_tensor_spec* statistic = quantizer.info().statistic) {
        const TensorSet range = checkpoint.load_activation(layer.name + ".weight");
        const bool one = range.size() == 1 && is_one_float(*statistic) && is_one_float(*stored.tensors[0]);
        const auto found = one ? statistic_of(quantizer, range[0].as<float>()[0]) : std::nullopt;
        if (!found) return cat("no statistic of ", scheme.dtype, " leads to its calibrated range");
        ranges[layer.name] = from_torch(*found);
      }
      LayerPlan plan;
      plan.info = layer;
      plan.info.siblings.clear();  // a range of its own
      plan.block = block;
      plan.scheme.activation = scheme;
      layers.push_back(std::move(plan));
      return "";
    }
    return cat("no preset's data type does what ", stored.id, " ", stored.parameters_json, " says");
  };
  const auto visit = [&](const LinearInfo& layer, int64_t block) {
    const std::string weight = layer.name + ".weight";
    if (!checkpoint.contains(weight) || !checkpoint.item(weight).activation_encoding) return;
    if (result.layers++ == 0) schemes = activation_schemes(catalogue, presets);
    const std::string problem = add(layer, block, *checkpoint.item(weight).activation_encoding);
    if (!problem.empty() && result.problem.empty()) result.problem = cat(layer.name, ": ", problem);
  };
  for (int64_t block = 0; block < architecture.blocks(); ++block)
    for (const LinearInfo& layer : architecture.block_linears(block)) visit(layer, block);
  visit(architecture.head(), -1);
  result.applied = static_cast<int64_t>(layers.size());
  result.hook = activation_hook(layers, catalogue, ranges);
  return result;
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/plan/layer_check.h"

#include <memory>
#include <optional>
#include <string>

#include "host/abi/format_query.h"
#include "host/abi/quantizer.h"
#include "host/base/error.h"
#include "host/base/words.h"
#include "host/plan/format_facts.h"
#include "host/plan/scheme_resolver.h"

namespace roundhouse {
namespace {

using nlohmann::json;

constexpr const char* kAnyEncoding = "*";  // of a format that lets the data type decode

class LayerChecker {
 public:
  LayerChecker(const std::vector<FormatChoice>& formats, Catalogue& catalogue)
      : formats_(formats), catalogue_(catalogue) {}

  void check_activation(LayerPlan& layer);
  void check_weight(LayerPlan& layer);

 private:
  void check_formats_hold(LayerPlan& layer);
  std::vector<std::string> dtypes_that_could(TensorScheme scheme, const QuantizerTarget& target, uint32_t side);

  const std::vector<FormatChoice>& formats_;
  Catalogue& catalogue_;
};

// Whether numbers of the type are not yet weights: such a layer cannot be left as it is either.
bool needs_scale(DType dtype) { return bits_of(dtype) <= 8; }

QuantizerTarget weight_target(const LayerPlan& layer) {
  return {layer.info.name, layer.info.role,  layer.info.out_features, layer.info.in_features,
          layer.dtype,     RH_TARGET_WEIGHT, layer.info.stack};
}

void LayerChecker::check_activation(LayerPlan& layer) {
  const QuantizerTarget target{layer.info.name,      layer.info.role, -1, layer.info.in_features, layer.dtype,
                               RH_TARGET_ACTIVATION, layer.info.stack};
  const TensorScheme& scheme = *layer.scheme.activation;
  try {
    if (!(catalogue_.find_dtype(scheme.dtype)->supports & RH_SUPPORTS_ACTIVATIONS))
      throw Error(cat("the data type ", scheme.dtype, " does not quantize activations"));
    check_dtype(catalogue_.dtype(scheme.dtype), scheme, target);
  } catch (const Error& e) {
    layer.problems.push_back(
        cat(e.what(), ". Data types that can: ", joined(dtypes_that_could(scheme, target, RH_SUPPORTS_ACTIVATIONS))));
    return;
  }
  const Quantizer quantizer(catalogue_.dtype(scheme.dtype), scheme, target);
  const rh_quantizer_info& info = quantizer.info();
  if (!info.encoding) throw Error(cat("the data type ", scheme.dtype, " declares no encoding for activations"));
  if (info.statistic && info.reduce == RH_REDUCE_NONE)
    throw Error(cat("the data type ", scheme.dtype, " does not say how the ranges of several inputs become one"));
  layer.calibrated_input = info.statistic;
  layer.activation_encoding = std::make_shared<EncodingCopy>(*info.encoding);
}

void LayerChecker::check_weight(LayerPlan& layer) {
  const QuantizerTarget target = weight_target(layer);
  const TensorScheme& scheme = *layer.scheme.weight;
  if (layer.dtype != DType::kF32 && layer.dtype != DType::kF16 && layer.dtype != DType::kBF16)
    throw Error(cat("the weight is ", safetensors_name(layer.dtype),
                    needs_scale(layer.dtype) ? ", and no loaded format finds its scale in the checkpoint" : "",
                    "; F32, F16 and BF16 can be quantized"));
  if (const std::string why = dtype_refusal(catalogue_, layer); !why.empty()) {
    layer.problems.push_back(
        cat(why, ". Data types that can: ", joined(dtypes_that_could(scheme, target, RH_SUPPORTS_WEIGHTS))));
    return;
  }
  const Quantizer quantizer(catalogue_.dtype(scheme.dtype), scheme, target);
  const rh_encoding* encoding = quantizer.info().encoding;
  if (!encoding) throw Error(cat("the data type ", scheme.dtype, " emits no encoding for weights"));
  layer.encoding = std::make_shared<EncodingCopy>(*encoding);
  layer.encoded_bytes = packed_bytes(*encoding, layer.info, scheme.bits);
  check_formats_hold(layer);
}

void LayerChecker::check_formats_hold(LayerPlan& layer) {
  for (const FormatChoice& format : formats_) {
    if (!catalogue_.find_format(format.id)) continue;  // the plan's own problem
    const std::string why = format_refusal(catalogue_, format.id, format.options, layer);
    if (why.empty()) continue;
    layer.problems.push_back(cat(why, ". Formats that can: ", joined(formats_that_could(catalogue_, layer))));
  }
}

std::vector<std::string> LayerChecker::dtypes_that_could(TensorScheme scheme, const QuantizerTarget& target,
                                                         uint32_t side) {
  std::vector<std::string> ids;
  for (const DtypeRecord* record : catalogue_.dtypes()) {
    if (!(record->supports & side)) continue;
    scheme.dtype = record->id;
    try {
      check_dtype(catalogue_.dtype(scheme.dtype), scheme, target);
      ids.push_back(record->id);
    } catch (const Error&) {  // it cannot
    }
  }
  return ids;
}

}  // namespace

uint64_t packed_bytes(const rh_encoding& encoding, const LinearInfo& layer, int bits) {
  const auto weights = static_cast<uint64_t>(layer.out_features * layer.in_features);
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < encoding.tensor_count; ++i) {
    const rh_tensor_spec& spec = *encoding.tensors[i];
    uint64_t elements = 1;
    for (int d = 0; d < spec.ndim; ++d) elements *= static_cast<uint64_t>(spec.shape[d]);
    const uint64_t element_bits = elements == weights ? static_cast<uint64_t>(bits) : spec.dtype.bits;
    bytes += (elements * element_bits + 7) / 8;
  }
  return bytes;
}

std::string dtype_refusal(Catalogue& catalogue, const LayerPlan& layer) {
  const TensorScheme& scheme = *layer.scheme.weight;
  try {
    if (!(catalogue.find_dtype(scheme.dtype)->supports & RH_SUPPORTS_WEIGHTS))
      throw Error(cat("the data type ", scheme.dtype, " does not quantize weights"));
    check_dtype(catalogue.dtype(scheme.dtype), scheme, weight_target(layer));
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

void check_layer(LayerPlan& layer, const std::vector<FormatChoice>& formats, Catalogue& catalogue) {
  if (!layer.problems.empty()) return;
  LayerChecker checker(formats, catalogue);
  try {
    if (layer.scheme.activation && !layer.scheme.weight)
      throw Error("its activations are quantized, but not its weight: no format holds that");
    if (layer.scheme.activation) checker.check_activation(layer);
    if (layer.scheme.weight) checker.check_weight(layer);
  } catch (const Error& e) {
    layer.problems.push_back(e.what());
  }
  layer.unfit = !layer.problems.empty() && !needs_scale(layer.dtype);
}

std::string format_refusal(Catalogue& catalogue, const std::string& format, const nlohmann::json& options,
                           const LayerPlan& layer) {
  const std::vector<std::string>& packs = catalogue.find_format(format)->encodings;
  if (packs.empty()) return cat("the format ", format, " only reads checkpoints; choose another for the output");
  if (!contains(packs, layer.encoding->id()) && !contains(packs, kAnyEncoding))
    return cat("the format ", format, " does not pack ", layer.encoding->id(), ", only ", joined(packs));
  try {
    check_format(catalogue.format(format), format_layer(layer), options);
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

std::vector<std::string> formats_that_could(Catalogue& catalogue, const LayerPlan& layer) {
  std::vector<std::string> ids;
  for (const FormatRecord* record : catalogue.formats())
    if (format_refusal(catalogue, record->id, json::object(), layer).empty()) ids.push_back(record->id);
  return ids;
}

void check_format_options(const Catalogue& catalogue, const FormatChoice& format) {
  check_options(cat("the format ", format.id), catalogue.find_format(format.id)->options_schema, format.options);
}

}  // namespace roundhouse

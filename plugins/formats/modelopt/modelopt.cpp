// SPDX-License-Identifier: Apache-2.0
// The format `modelopt`, only read: checkpoints of NVIDIA's ModelOpt. A layer L of [rows, cols] weights:
//
//   fp8    L.weight          f8_e4m3 [rows, cols]
//          L.weight_scale    f32, one number, one a row, or one for each block of 128 x 128
//          L.input_scale     f32, one number; optional
//   mxfp8  L.weight          f8_e4m3 [rows, cols]
//          L.weight_scale    u8 [rows, cols / 32], E8M0
//   nvfp4  L.weight          u8 [rows, cols / 2], fp4_e2m1, the even column in the low bits
//          L.weight_scale    f8_e4m3 [rows, cols / 16]
//          L.weight_scale_2  f32, one number: W = code * (weight_scale * weight_scale_2)
//          L.input_scale     f32, one number; optional: of the input's groups, as weight_scale_2
#include <algorithm>
#include <cctype>
#include <iterator>
#include <string_view>

#include "plugins/formats/lib/float_layout.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr int64_t kBlock = 128;

// The values of quant_algo whose layers are stored as above.
constexpr std::string_view kAlgorithms[] = {
    "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "MXFP8", "NVFP4", "W4A16_NVFP4", "MIXED_PRECISION"};

// config.json's quantization_config, or what hf_quant_config.json says, with the cache's scheme under the key that
// LayerReader looks for. Empty: it is not a checkpoint of ModelOpt.
Json own_quantization(const std::string& folder) {
  Json quantization = quantization_in(folder, "hf_quant_config.json");
  if (const auto inner = quantization.find("quantization"); inner != quantization.end() && inner->is_object()) {
    const std::string producer = text_at(quantization.value("producer", Json::object()), "name", "modelopt");
    quantization = Json(*inner);
    quantization["quant_method"] = producer;
  }
  if (!text_at(quantization, "quant_method").starts_with("modelopt")) return Json::object();
  if (const std::string cache = text_at(quantization, "kv_cache_quant_algo"); !cache.empty() && cache != "NONE")
    quantization["kv_cache_scheme"] = cache;
  return quantization;
}

// Throws rh::Error, which begins with `where`, for an algorithm that is not read. None at all, as where a cache of keys and
// values alone is quantized, leaves weights as they are.
void require_algorithm(const Json& said, const std::string& where) {
  const std::string named = text_at(said, "quant_algo");
  std::string name = named;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (name.empty() || std::find(std::begin(kAlgorithms), std::end(kAlgorithms), name) != std::end(kAlgorithms)) return;
  std::string known;
  for (const std::string_view algorithm : kAlgorithms) known += cat(known.empty() ? "" : ", ", algorithm);
  throw rh::Error(RH_UNIMPLEMENTED, cat(where, ": ModelOpt's quant_algo ", named, " is not read; ", known,
                                        " are. Start from the model before the quantization"));
}

const rh_tensor* one_float(const std::string& layer, const LayerReader::Tensors& tensors, const char* name) {
  const rh_tensor* tensor = find(tensors, name);
  if (tensor && (rh::elements(*tensor) != 1 || !rh::same_type(tensor->dtype, rh::kF32)))
    throw rh::Error(RH_DATA_LOSS, cat(layer, ".", name, " is not one number of type F32"));
  return tensor;
}

std::unique_ptr<StoredLayer> make_layer(const std::string& name, const LayerReader::Tensors& tensors,
                                        rh_data_type dtype) {
  if (find(tensors, "pre_quant_scale"))
    throw rh::Error(RH_UNIMPLEMENTED, name +
                                          " has a pre_quant_scale (AWQ, SVDQuant), by which the model divides its "
                                          "input, which is not read; start from the model before the quantization");
  const rh_tensor* weight = find(tensors, "weight");
  const rh_tensor* scale = find(tensors, "weight_scale");
  const rh_tensor* second = one_float(name, tensors, "weight_scale_2");
  const rh_tensor* input = one_float(name, tensors, "input_scale");
  if (weight && rh::same_type(weight->dtype, rh::kU8)) {
    if (!second)
      throw rh::Error(RH_UNIMPLEMENTED,
                      name +
                          " has packed weights without weight_scale_2 (W4A16_AWQ and its like), which are not read; "
                          "start from the model before the quantization");
    // The scale of an input is not the one that nvfp/1 would have; engines take it from the file.
    return std::make_unique<FloatLayer>(name, rh::Nvfp(RH_NVFP_E4M3), FloatLayer::Tensors{weight, scale, second, true},
                                        dtype);
  }
  if (scale && rh::same_type(scale->dtype, rh::kU8))
    return std::make_unique<FloatLayer>(name, rh::Mx(RH_MX_FP8_E4M3), FloatLayer::Tensors{weight, scale, nullptr},
                                        dtype);
  const rh::ScaledFp8 made = stored_fp8(name, weight, scale, kBlock, kBlock);
  auto layer = std::make_unique<FloatLayer>(name, made, FloatLayer::Tensors{weight, scale, nullptr}, dtype);
  if (input) layer->set_activation({{rh::ScaledFp8(RH_FP8_E4M3, 0, layer->cols(), RH_INPUT_CALIBRATED), 0, 0}, input});
  return layer;
}

class ModelOpt : public ReadOnlyFormat {
 public:
  ModelOpt() : ReadOnlyFormat("modelopt", "Checkpoints of NVIDIA's ModelOpt: fp8, mxfp8 and nvfp4. Only read.") {}

  int32_t probe(const std::string& folder) const override { return own_quantization(folder).empty() ? 0 : 100; }

  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json quantization = own_quantization(folder);
    rh::require(!quantization.empty(), folder +
                                           " is no checkpoint of ModelOpt: neither config.json nor "
                                           "hf_quant_config.json says so");
    require_algorithm(quantization, folder);
    if (const auto layers = quantization.find("quantized_layers"); layers != quantization.end() && layers->is_object())
      for (const auto& [layer, said] : layers->items())
        if (said.is_object()) require_algorithm(said, cat(folder, ": ", layer));
    const rh_data_type dtype = config_dtype(read_config(folder), folder);
    return std::make_unique<LayerReader>(
        folder, quantization,
        [&](const std::string& name, const LayerReader::Tensors& tensors) { return make_layer(name, tensors, dtype); });
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<ModelOpt>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "modelopt", "Roundhouse", "0.1.0", "Reads checkpoints of ModelOpt.")

// The format `fp8`: e4m3 weights with a scale for each block of 128 x 128, as DeepSeek's checkpoints have them.
#include "plugins/formats/lib/checkpoint_writer.h"
#include "plugins/formats/lib/encoded_layer.h"
#include "plugins/formats/lib/float_layout.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr int64_t kBlock = 128;

bool is_own(const Json& quantization) {
  return text_at(quantization, "quant_method") == "fp8" && quantization.contains("weight_block_size");
}

// Throws rh::Error unless it is e4m3 in blocks, and the input e4m3 in dynamic groups as wide.
void require_blocks(const rh_encoding& weight, const rh_scheme& scheme, const rh_encoding* input) {
  const auto encoding = float_encoding(weight);
  rh::require(encoding && encoding->kind == FloatEncoding::Kind::kScaledFp8 && encoding->element == "fp8_e4m3" &&
                  scheme.group_rows == kBlock && scheme.group_cols == kBlock,
              "it stores e4m3 weights with a scale for each block of 128 x 128 (group_size [128, 128])");
  rh::require(input && std::string_view(input->id) == RH_ENCODING_SCALED_FP8,
              "engines quantize the input to e4m3 as well, and the scheme does not");
  const auto parameters = Json::parse(input->parameters_json);
  rh::require(parameters.value("element", "") == "e4m3" && parameters.value("group_rows", 0) == 1 &&
                  parameters.value("group_cols", 0) == kBlock && parameters.value("dynamic", false),
              "engines quantize the input to e4m3 with dynamic scales of 128 columns (act_group_size 128), and the "
              "scheme in another way");
}

class Fp8Writer : public CheckpointWriter {
 public:
  explicit Fp8Writer(const rh_export& target) : CheckpointWriter(target) { require_quantized_in_blocks(); }

  void add_layer(const rh_encoded_layer& layer) override {
    require_blocks(*layer.encoding, *layer.scheme, layer.activation_encoding);
    const std::string name = layer.name;
    if (layer.bias) tensors().add(name + ".bias", *layer.bias);
    add_codes(tensors(), layer, *float_encoding(*layer.encoding));
    const int64_t row_blocks = (layer.rows + kBlock - 1) / kBlock, col_blocks = (layer.cols + kBlock - 1) / kBlock;
    const rh_tensor& scale = require_tensor(layer, "scale", row_blocks * col_blocks);
    std::vector<float> inverse(row_blocks * col_blocks);  // of what the weight was multiplied with: the scale itself
    for (size_t i = 0; i < inverse.size(); ++i) inverse[i] = element(scale, i);
    tensors().add(name + ".weight_scale_inv", inverse.data(), rh::kF32, {row_blocks, col_blocks});
  }

 private:
  Json quantization_config() const override {
    Json config{{"quant_method", "fp8"},
                {"fmt", "e4m3"},
                {"activation_scheme", "dynamic"},
                {"weight_block_size", {kBlock, kBlock}},
                {"modules_to_not_convert", unquantized()}};
    add_tuning(target(), config);
    return config;
  }
};

class Fp8 : public rh::Format {
 public:
  Fp8() : Format("fp8", "e4m3 weights in blocks of 128 x 128, as DeepSeek's checkpoints.", {RH_ENCODING_SCALED_FP8}) {}

  void check(const rh_format_query& query) const override {
    require_blocks(*query.encoding, *query.scheme, query.activation_encoding);
  }

  const char* backends_json() const override {
    return R"([
      {"engine": "transformers", "devices": ["cuda", "xpu"], "bits": [8], "group_sizes": [[128, 128]], "sym": [true],
       "packing": "fp8", "priority": 1},
      {"engine": "transformers, dequantized when loaded", "devices": ["cpu"], "bits": [8],
       "group_sizes": [[128, 128]], "sym": [true], "packing": "fp8", "priority": 0},
      {"engine": "vllm", "devices": ["cuda"], "bits": [8], "group_sizes": [[128, 128]], "sym": [true],
       "packing": "fp8", "priority": 2, "command": "vllm serve {folder}"}])";
  }

  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<Fp8Writer>(target);
  }

  int32_t probe(const std::string& folder) const override {
    return is_own(quantization_of(read_config_or_empty(folder))) ? 100 : 0;
  }

  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.folder;
    const Json config = read_config(folder);
    const Json quantization = quantization_of(config);
    rh::require(
        is_own(quantization),
        folder + "/config.json: quant_method is not fp8 with a weight_block_size, so this is no such checkpoint");
    const Json& block = quantization.at("weight_block_size");
    rh::require(block.is_array() && block.size() == 2 && block[0].is_number_integer() && block[1].is_number_integer() &&
                    block[0] > 0 && block[1] > 0,
                folder + "/config.json: weight_block_size is not two positive numbers");
    rh::require(text_at(quantization, "activation_scheme", "dynamic") == "dynamic",
                folder + "/config.json: activation_scheme is not dynamic, which is all that is read");
    const rh_data_type dtype = config_dtype(config);
    return std::make_unique<LayerReader>(folder, [&](const std::string& name, const LayerReader::Tensors& tensors) {
      const FloatEncoding encoding{FloatEncoding::Kind::kScaledFp8, "fp8_e4m3", "", block[0], block[1]};
      auto layer = std::make_unique<FloatLayer>(
          name, encoding, FloatLayer::Tensors{find(tensors, "weight"), find(tensors, "weight_scale_inv"), nullptr},
          dtype);
      layer->set_activation({RH_ENCODING_SCALED_FP8,
                             {{"element", "e4m3"}, {"group_rows", 1}, {"group_cols", block[1]}, {"dynamic", true}}});
      return layer;
    });
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<Fp8>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "fp8", "Roundhouse", "0.1.0", "Writes and reads block fp8 checkpoints.")

// SPDX-License-Identifier: Apache-2.0
// The format `fp8`: e4m3 weights with a scale for each block of 128 x 128, as DeepSeek's checkpoints have them. It reads
// those with a scale for each row or for the tensor as well, and those of quant_method fbgemm_fp8.
#include "plugins/formats/lib/checkpoint_writer.h"
#include "plugins/formats/lib/encoded_layer.h"
#include "plugins/formats/lib/float_layout.h"
#include "plugins/formats/lib/lint.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr int64_t kBlock = 128;

bool is_own(const Json& quantization) {
  const std::string method = text_at(quantization, "quant_method");
  return method == "fp8" || method == "fbgemm_fp8";
}

// Throws rh::Error unless it is e4m3 in blocks, and the input e4m3 in dynamic groups as wide.
void require_blocks(const rh_format_layer& layer) {
  const auto made = rh::ScaledFp8::of(*layer.encoding);
  rh::require(made.element == RH_FP8_E4M3 && made.group_rows == kBlock && made.group_cols == kBlock,
              "it stores e4m3 weights with a scale for each block of 128 x 128 (group_size [128, 128])");
  rh::require(layer.activation_encoding && rh::is(*layer.activation_encoding, rh::ScaledFp8::kId),
              "engines quantize the input to e4m3 as well, and the scheme does not");
  const auto input = rh::ScaledFp8::of(*layer.activation_encoding);
  rh::require(input.element == RH_FP8_E4M3 && input.group_rows == 1 && input.group_cols == kBlock &&
                  input.dynamic == RH_INPUT_DYNAMIC,
              "engines quantize the input to e4m3 with dynamic scales of 128 columns (act_group_size 128), and the "
              "scheme in another way");
}

class Fp8Writer : public CheckpointWriter {
 public:
  explicit Fp8Writer(const rh_export& target) : CheckpointWriter(target) {}

 private:
  void store_layer(const rh_encoded_layer& encoded, TensorWriter& out) override {
    const rh_format_layer& layer = *encoded.layer;
    const std::string name = layer.name;
    if (encoded.bias) out.add(name + ".bias", *encoded.bias);
    add_codes(out, encoded);
    const int64_t row_blocks = (layer.rows + kBlock - 1) / kBlock, col_blocks = (layer.cols + kBlock - 1) / kBlock;
    out.add(name + ".weight_scale_inv", rh::kF32, {row_blocks, col_blocks}, [&] {
      const rh_tensor& scale = require_tensor(encoded, "scale", row_blocks * col_blocks);
      std::vector<float> inverse(row_blocks * col_blocks);  // of what the weight was multiplied with: the scale itself
      for (size_t i = 0; i < inverse.size(); ++i) inverse[i] = rh_load(&scale, static_cast<int64_t>(i));
      return inverse;
    });
  }

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

// The quantized layers of a checkpoint, as its configuration says.
class Layers {
 public:
  Layers(const std::string& folder, const Json& config) : dtype_(config_dtype(config, folder)) {
    const Json quantization = quantization_of(config);
    rh::require(is_own(quantization),
                folder + "/config.json: quant_method is neither fp8 nor fbgemm_fp8, so this is no such checkpoint");
    const Json block = quantization.value("weight_block_size", Json());
    rh::require(block.is_null() || (block.is_array() && block.size() == 2 && block[0].is_number_integer() &&
                                    block[1].is_number_integer() && block[0] > 0 && block[1] > 0),
                folder + "/config.json: weight_block_size is not two positive numbers");
    block_rows_ = block.is_null() ? 0 : block[0].get<int64_t>();
    block_cols_ = block.is_null() ? 0 : block[1].get<int64_t>();
    const std::string scheme = text_at(quantization, "activation_scheme", "dynamic");
    rh::require(scheme == "dynamic" || scheme == "static",
                cat(folder, "/config.json: activation_scheme is ", scheme, ", neither dynamic nor static"));
    dynamic_ = scheme == "dynamic";
  }

  std::unique_ptr<StoredLayer> make(const std::string& name, const LayerReader::Tensors& tensors) const {
    const rh_tensor* weight = find(tensors, "weight");
    const rh_tensor* inverse = find(tensors, "weight_scale_inv");  // the scale all the same
    const rh_tensor* scale = inverse ? inverse : find(tensors, "weight_scale");
    const rh::ScaledFp8 made = stored_fp8(name, weight, scale, block_rows_, block_cols_);
    auto layer = std::make_unique<FloatLayer>(name, made, FloatLayer::Tensors{weight, scale, nullptr}, dtype_);
    const int64_t cols = layer->cols();
    if (dynamic_) {
      const int64_t group = block_cols_ > 0 ? block_cols_ : cols;
      layer->set_activation({{rh::ScaledFp8(RH_FP8_E4M3, 1, group, RH_INPUT_DYNAMIC), 0, 0}});
      return layer;
    }
    const rh_tensor* input = find(tensors, "input_scale");
    const rh_tensor* range = input ? input : find(tensors, "activation_scale");
    if (!range)
      throw rh::Error(
          RH_DATA_LOSS,
          name + ": activation_scheme is static, but it has neither an input_scale nor an activation_scale");
    layer->set_activation({{rh::ScaledFp8(RH_FP8_E4M3, 0, cols, RH_INPUT_CALIBRATED), 0, 0}, range});
    return layer;
  }

 private:
  const rh_data_type dtype_;
  int64_t block_rows_, block_cols_;
  bool dynamic_;
};

class Fp8 : public rh::Format, public rh::Linter {
 public:
  Fp8() : Format("fp8", "e4m3 weights in blocks of 128 x 128, as DeepSeek's checkpoints.", {RH_ENCODING_SCALED_FP8}) {}

  void check(const rh_format_layer& layer, const char*) const override { require_blocks(layer); }
  void plan(const rh_plan& plan, std::vector<rh::Answer>& answers) const override {
    refuse_outside_blocks(plan, answers);
    check_experts(plan, rh::Experts::kTogether, answers);
  }

  const char* backends_json() const override {
    static const std::string backends = with_fuses(R"([
      {"engine": "transformers", "devices": ["cuda", "xpu"], "bits": [8], "group_sizes": [[128, 128]], "sym": [true],
       "packing": "fp8", "priority": 1},
      {"engine": "transformers, dequantized when loaded", "devices": ["cpu"], "bits": [8],
       "group_sizes": [[128, 128]], "sym": [true], "packing": "fp8", "priority": 0},
      {"engine": "vllm", "devices": ["cuda"], "bits": [8], "group_sizes": [[128, 128]], "sym": [true],
       "packing": "fp8", "priority": 2, "command": "vllm serve {folder}"}])");
    return backends.c_str();
  }

  const rh::Linter* linter() const override { return this; }
  std::vector<rh::Finding> lint(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder), quantization = quantization_of(config);
    Findings findings;
    const bool fbgemm = text_at(quantization, "quant_method") == "fbgemm_fp8";
    if (!fbgemm) require_key(findings, quantization, kEvery, "activation_scheme", "a text");
    const bool blocks = quantization.contains("weight_block_size") && !quantization["weight_block_size"].is_null();
    if (blocks) require_key(findings, quantization, kEvery, "weight_block_size", "a list");
    if (!findings.any_error()) {
      const Layers layers(folder, config);
      const std::vector<std::string> kept = texts_at(quantization, "modules_to_not_convert");
      Said packed{.quantized = true,
                  .why = "`modules_to_not_convert` does not name it",
                  .scheme = blocks ? "fp8 in blocks" : "fp8",
                  .needs = {"weight", blocks ? "weight_scale_inv" : "weight_scale|weight_scale_inv"},
                  .allows = {"input_scale_ub"}};
      if (text_at(quantization, "activation_scheme") == "static")
        packed.needs.emplace_back("input_scale|activation_scale");
      const auto said = [&](const std::string& module) -> Said {
        for (const std::string& name : kept)
          if (module == name || module.starts_with(name + ".") || module.ends_with("." + name))
            return {false, cat("`modules_to_not_convert` names ", name)};
        if (module.substr(module.rfind('.') + 1) == "lm_head") return {false, "engines keep the head as it is"};
        return packed;
      };
      lint_modules(
          {.source = source,
           .config = config,
           .advice = "Add its name to `modules_to_not_convert`",
           .said = said,
           .make = [&](const std::string& name, const LayerReader::Tensors& t) { return layers.make(name, t); }},
          findings);
    }
    return findings.take();
  }

  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<Fp8Writer>(target);
  }
  bool resumes() const override { return true; }

  int32_t probe(const std::string& folder) const override {
    return is_own(quantization_of(read_config_or_empty(folder))) ? 100 : 0;
  }

  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder);
    const Layers layers(folder, config);
    return std::make_unique<LayerReader>(
        folder, quantization_of(config),
        [&](const std::string& name, const LayerReader::Tensors& tensors) { return layers.make(name, tensors); });
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

RH_PLUGIN(roundhouse::formats::Definition, "fp8", "Roundhouse", "0.1.0",
          "Writes block fp8 checkpoints, and reads fp8 ones.")

#include "schemes.h"

#include "plugins/formats/lib/int_plan.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

using Kind = FloatEncoding::Kind;

constexpr char kLlmCompressor[] = "auto_round:llm_compressor";
constexpr char kE5M3[] = "auto_round:llm_compressor_nvfp4_e5m3";
constexpr char kFp8Static[] = "auto_round:fp8_static";
constexpr char kFp8Block[] = "auto_round:fp8";
constexpr int64_t kBlock = 128;  // rows and columns of a block of fp8

Json fields(int bits, Json group_size, const char* data_type) {
  return {{"bits", bits}, {"group_size", std::move(group_size)}, {"sym", true}, {"data_type", data_type}};
}

void add_input(Json& fields, int64_t group_size, const char* data_type, bool dynamic) {
  const int bits = fields.at("bits");  // a copy: adding a key moves the others
  fields["act_bits"] = bits;
  fields["act_group_size"] = group_size;
  fields["act_sym"] = true;
  fields["act_data_type"] = data_type;
  fields["act_dynamic"] = dynamic;
}

// The parameters of an input that has the weight's encoding; null when it has not.
Json same_input(const FloatEncoding& encoding, const rh_encoding* activation) {
  if (!activation || std::string_view(activation->id) != encoding.id()) return nullptr;
  try {
    return Json::parse(activation->parameters_json);
  } catch (const Json::exception& e) {
    throw rh::Error(RH_INVALID_ARGUMENT, cat("parameters of the input's ", activation->id, ": ", e.what()));
  }
}

LayerScheme mx_scheme(const FloatEncoding& encoding, const rh_encoding* activation, int64_t cols) {
  const bool is_int = encoding.element == "int4";
  rh::require(
      is_int || encoding.element == "fp4_e2m1" || encoding.element == "fp8_e4m3",
      cat("of the elements with a shared exponent it stores fp4_e2m1, fp8_e4m3 and int4, not ", encoding.element));
  rh::require(
      encoding.group_cols == 32 && cols % 32 == 0,
      cat("elements with a shared exponent need groups of 32 columns, and columns in multiples of 32: these are ", cols,
          " in groups of ", encoding.group_cols));
  const Json input = same_input(encoding, activation);
  rh::require(input.is_object() && input.value("element", "") == encoding.element &&
                  input.value("group_cols", 0) == 32 && input.value("dynamic", false),
              "its loaders want the input in the weight's own numbers, with dynamic scales of 32 columns");
  const char* data_type = is_int ? "mx_int" : "mx_fp";
  LayerScheme out{fields(encoding.bits(), 32, data_type), is_int ? "auto_round" : kLlmCompressor};
  add_input(out.fields, 32, data_type, true);
  return out;
}

LayerScheme nvfp_scheme(const FloatEncoding& encoding, const rh_encoding* activation, int64_t cols) {
  rh::require(encoding.group_cols == 16 && cols % 16 == 0,
              cat("NVFP4 needs groups of 16 columns, and columns in multiples of 16: these are ", cols,
                  " in groups of ", encoding.group_cols));
  const Json input = same_input(encoding, activation);
  const bool is_e4m3 = encoding.scale == "e4m3";
  rh::require(input.is_object() && input.value("scale", "") == encoding.scale && input.value("group_cols", 0) == 16 &&
                  (!is_e4m3 || activation->tensor_count == 1),
              "its loaders want the input in the weight's own numbers, in groups of 16 columns, and with e4m3 scales a "
              "calibrated global scale");
  LayerScheme out{fields(4, 16, is_e4m3 ? "nv_fp" : "nvfp4_v2"), is_e4m3 ? kLlmCompressor : kE5M3};
  add_input(out.fields, 16, is_e4m3 ? "nv_fp4_with_static_gs" : "nvfp4_v2", true);
  return out;
}

LayerScheme fp8_scheme(const FloatEncoding& encoding, const rh_scheme& scheme, const rh_encoding* activation) {
  rh::require(encoding.element == "fp8_e4m3", cat("of the 8-bit floats it stores e4m3, not ", encoding.element));
  const Json input = same_input(encoding, activation);
  const bool is_e4m3 = input.is_object() && input.value("element", "") == "e4m3";
  if (scheme.group_rows == kBlock && scheme.group_cols == kBlock) {
    rh::require(is_e4m3 && input.value("group_rows", 0) == 1 && input.value("group_cols", 0) == kBlock &&
                    input.value("dynamic", false),
                "blocks of 128 x 128 want an e4m3 input with dynamic scales of 128 columns");
    LayerScheme out{fields(8, {kBlock, kBlock}, "fp"), kFp8Block};
    add_input(out.fields, kBlock, "fp", true);
    return out;
  }
  rh::require(scheme.group_rows == 1 && scheme.group_cols <= 0,
              "of fp8 it stores one scale for the tensor, for a row, or for a block of 128 x 128");
  if (scheme.group_cols == RH_GROUP_TENSOR) {
    rh::require(!activation, "fp8 with one scale for the tensor goes with an input that is not quantized");
    return {fields(8, RH_GROUP_TENSOR, "fp"), ""};
  }
  rh::require(is_e4m3 && input.value("group_rows", 1) == 0 && !input.value("dynamic", true),
              "fp8 with a scale for each row goes with an e4m3 input that has one calibrated scale");
  LayerScheme out{fields(8, RH_GROUP_ROW, "fp"), kFp8Static};
  add_input(out.fields, RH_GROUP_TENSOR, "fp", false);
  return out;
}

// The encoding of a stored layer. Groups of 0 are as high, or as wide, as the layer.
FloatEncoding stored_encoding(const LayerReader::Tensors& tensors, const Json& quantization) {
  const rh_tensor* scale = find(tensors, "weight_scale");
  const bool is_byte = scale && scale->dtype.kind == RH_KIND_UINT;
  if (!find(tensors, "weight_packed")) {
    if (is_byte) return {Kind::kMx, "fp8_e4m3", "", 1, 32};
    if (!scale) return {Kind::kScaledFp8, "fp8_e4m3", "", kBlock, kBlock};
    const bool is_tensor = rh::elements(*scale) == 1;
    return {Kind::kScaledFp8, "fp8_e4m3", "", is_tensor ? 0 : 1, 0};
  }
  if (!is_byte) return {Kind::kNvfp, "fp4_e2m1", "e4m3", 1, 16};
  if (text_at(quantization, "packing_format") == kE5M3) return {Kind::kNvfp, "fp4_e2m1", "ue5m3", 1, 16};
  return {Kind::kMx, text_at(quantization, "data_type") == "mx_int" ? "int4" : "fp4_e2m1", "", 1, 32};
}

}  // namespace

LayerScheme int_layer_scheme(const rh_encoded_layer& layer, bool all_symmetric) {
  const IntScheme scheme = int_scheme(layer);
  return {{{"bits", scheme.bits}, {"group_size", scheme.group_size}, {"sym", scheme.symmetric}, {"data_type", "int"}},
          all_symmetric ? "auto_round:auto_gptq" : "auto_round"};
}

LayerScheme float_layer_scheme(const FloatEncoding& encoding, const rh_scheme& scheme, const rh_encoding* activation,
                               int64_t cols) {
  if (encoding.kind == Kind::kMx) return mx_scheme(encoding, activation, cols);
  if (encoding.kind == Kind::kNvfp) return nvfp_scheme(encoding, activation, cols);
  return fp8_scheme(encoding, scheme, activation);
}

void add_fp8_keys(const LayerScheme& scheme, Json& config) {
  if (text_at(scheme.fields, "data_type") != "fp") return;
  config["fmt"] = "e4m3";
  config["activation_scheme"] = scheme.packing == kFp8Static ? "static" : "dynamic";
  if (scheme.packing == kFp8Block) config["weight_block_size"] = scheme.fields.at("group_size");
}

std::unique_ptr<StoredLayer> float_layer(const std::string& name, const LayerReader::Tensors& tensors,
                                         const Json& quantization, rh_data_type dtype) {
  const FloatEncoding encoding = stored_encoding(tensors, quantization);
  const rh_tensor* codes = find(tensors, "weight_packed");
  const rh_tensor* scale = find(tensors, "weight_scale");
  auto layer = std::make_unique<FloatLayer>(
      name, encoding,
      FloatLayer::Tensors{codes ? codes : find(tensors, "weight"), scale ? scale : find(tensors, "weight_scale_inv"),
                          find(tensors, "weight_global_scale")},
      dtype);
  if (quantization.value("act_bits", 16) > 8) return layer;
  const bool is_nvfp = encoding.kind == Kind::kNvfp;
  StoredActivation activation{encoding.id(), encoding.parameters(), is_nvfp ? "global_scale" : "scale",
                              find(tensors, is_nvfp ? "input_global_scale" : "input_scale")};
  activation.parameters["dynamic"] = !activation.range;
  activation.parameters["group_rows"] = 1;
  if (encoding.kind == Kind::kScaledFp8) {
    const bool is_static = activation.range;
    if (is_static) activation.parameters["group_rows"] = 0;
    activation.parameters["group_cols"] = is_static ? layer->cols() : kBlock;
  }
  layer->set_activation(std::move(activation));
  return layer;
}

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
#include "schemes.h"

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

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

// The input's encoding, typed; nullopt when it is not the weight's.
template <typename Typed>
std::optional<Typed> same_input(const rh_format_layer& layer) {
  if (!layer.activation_encoding || !rh::is(*layer.activation_encoding, Typed::kId)) return std::nullopt;
  return Typed::of(*layer.activation_encoding);
}

LayerScheme scheme_of(const rh::Mx& made, const rh_format_layer& layer) {
  const bool is_int = made.element == RH_MX_INT4;
  rh::require(is_int || made.element == RH_MX_FP4_E2M1 || made.element == RH_MX_FP8_E4M3,
              cat("of the elements with a shared exponent it stores fp4_e2m1, fp8_e4m3 and int4, not ", made.name()));
  rh::require(
      made.group_cols == 32 && layer.cols % 32 == 0,
      cat("elements with a shared exponent need groups of 32 columns, and columns in multiples of 32: these are ",
          layer.cols, " in groups of ", made.group_cols));
  const auto input = same_input<rh::Mx>(layer);
  rh::require(input && input->element == made.element && input->group_cols == 32 && input->dynamic == RH_INPUT_DYNAMIC,
              "its loaders want the input in the weight's own numbers, with dynamic scales of 32 columns");
  const char* data_type = is_int ? "mx_int" : "mx_fp";
  LayerScheme out{fields(made.code_bits(), 32, data_type), is_int ? "auto_round" : kLlmCompressor};
  add_input(out.fields, 32, data_type, true);
  if (input->exponent != RH_MX_FLOOR)
    out.fields["act_data_type"] = cat(data_type, "_", rh_mx_exponents[input->exponent]);
  return out;
}

LayerScheme scheme_of(const rh::Nvfp& made, const rh_format_layer& layer) {
  rh::require(made.group_cols == 16 && layer.cols % 16 == 0,
              cat("NVFP4 needs groups of 16 columns, and columns in multiples of 16: these are ", layer.cols,
                  " in groups of ", made.group_cols));
  const auto input = same_input<rh::Nvfp>(layer);
  const bool two_level = made.two_level();
  rh::require(input && input->scale == made.scale && input->group_cols == 16 &&
                  (!two_level || input->dynamic == RH_INPUT_CALIBRATED),
              "its loaders want the input in the weight's own numbers, in groups of 16 columns, and with e4m3 scales a "
              "calibrated global scale");
  LayerScheme out{fields(4, 16, two_level ? "nv_fp" : "nvfp4_v2"), two_level ? kLlmCompressor : kE5M3};
  add_input(out.fields, 16, two_level ? "nv_fp4_with_static_gs" : "nvfp4_v2", true);
  return out;
}

LayerScheme scheme_of(const rh::ScaledFp8& made, const rh_format_layer& layer) {
  rh::require(made.element == RH_FP8_E4M3, "of the 8-bit floats it stores e4m3, not e5m2");
  const auto input = same_input<rh::ScaledFp8>(layer);
  const bool is_e4m3 = input && input->element == RH_FP8_E4M3;
  // A layer of 128 x 128 may be one block, or have one scale for the tensor: the input tells.
  const bool whole_tensor = made.unit_scale || (made.group_rows == layer.rows && made.group_cols >= layer.cols);
  const bool block_input =
      is_e4m3 && input->group_rows == 1 && input->group_cols == kBlock && input->dynamic == RH_INPUT_DYNAMIC;
  if (made.group_rows == kBlock && made.group_cols == kBlock && (block_input || !whole_tensor)) {
    rh::require(block_input, "blocks of 128 x 128 want an e4m3 input with dynamic scales of 128 columns");
    LayerScheme out{fields(8, {kBlock, kBlock}, "fp"), kFp8Block};
    add_input(out.fields, kBlock, "fp", true);
    return out;
  }
  const bool row = made.group_rows == 1 && made.group_cols >= layer.cols;
  rh::require(whole_tensor || row, "of fp8 it stores one scale for the tensor, for a row, or for a block of 128 x 128");
  if (whole_tensor && !(row && layer.activation_encoding)) {
    rh::require(!layer.activation_encoding,
                "fp8 with one scale for the tensor goes with an input that is not quantized");
    return {fields(8, RH_GROUP_TENSOR, "fp"), ""};
  }
  rh::require(is_e4m3 && input->group_rows == 0 && input->dynamic == RH_INPUT_CALIBRATED,
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
    if (is_byte) return rh::Mx(RH_MX_FP8_E4M3);
    if (!scale) return rh::ScaledFp8(RH_FP8_E4M3, kBlock, kBlock);
    return rh::ScaledFp8(RH_FP8_E4M3, rh::elements(*scale) == 1 ? 0 : 1, 0);
  }
  if (!is_byte) return rh::Nvfp(RH_NVFP_E4M3);
  if (text_at(quantization, "packing_format") == kE5M3) return rh::Nvfp(RH_NVFP_UE5M3);
  return rh::Mx(text_at(quantization, "data_type") == "mx_int" ? RH_MX_INT4 : RH_MX_FP4_E2M1);
}

// What an engine does to the input of such a layer.
rh::Encoding input_encoding(const rh::Mx& made, bool, int64_t, const std::string& data_type) {
  const int exponent = data_type.ends_with("_rceil_v2") ? RH_MX_RCEIL_V2
                       : data_type.ends_with("_rceil")  ? RH_MX_RCEIL
                                                        : RH_MX_FLOOR;
  return {rh::Mx(made.element, made.group_cols, RH_INPUT_DYNAMIC, exponent), 0, 0};
}
rh::Encoding input_encoding(const rh::Nvfp& made, bool calibrated, int64_t, const std::string&) {
  return {rh::Nvfp(made.scale, made.group_cols, calibrated ? RH_INPUT_CALIBRATED : RH_INPUT_DYNAMIC), 0, 0};
}
rh::Encoding input_encoding(const rh::ScaledFp8&, bool calibrated, int64_t cols, const std::string&) {
  return {calibrated ? rh::ScaledFp8(RH_FP8_E4M3, 0, cols, RH_INPUT_CALIBRATED)
                     : rh::ScaledFp8(RH_FP8_E4M3, 1, kBlock, RH_INPUT_DYNAMIC),
          0, 0};
}

// What of such a layer's configuration auto-round has no kernel for, or takes for another layout.
std::string refused(const Json& fields, const std::string& type, int64_t bits) {
  const bool fp8 = type == "fp", nvfp = type == "nv_fp", e5m3 = type == "nvfp4_v2";
  if (fp8 && text_at(fields, "packing_format") != kFp8Static) return "";
  const int64_t wanted = fp8 || (type == "mx_fp" && bits == 8) ? 8 : 4;
  const Json right = {{"bits", wanted},
                      {"group_size", fp8            ? RH_GROUP_ROW
                                     : nvfp || e5m3 ? 16
                                                    : 32},
                      {"sym", true},
                      {"packing_format", fp8                ? kFp8Static
                                         : e5m3             ? kE5M3
                                         : type == "mx_int" ? "auto_round"
                                                            : kLlmCompressor},
                      {"act_bits", wanted},
                      {"act_group_size", fp8            ? RH_GROUP_TENSOR
                                         : nvfp || e5m3 ? 16
                                                        : 32},
                      {"act_dynamic", !fp8}};
  for (const auto& [key, value] : right.items()) {
    const Json found = fields.value(key, Json());
    if (found != value)
      return cat(key, " is ", found.is_null() ? "missing" : found.dump(), ", and ", type, " has ", value.dump());
  }
  const std::string inputs = text_at(fields, "act_data_type", "missing");
  return inputs.starts_with(type) ? "" : cat("act_data_type is ", inputs, ", and weights are of ", type);
}

}  // namespace

LayerScheme int_layer_scheme(const IntPlan& plan, const rh_format_layer& layer) {
  const IntScheme scheme = plan.of(layer);
  return {{{"bits", scheme.bits}, {"group_size", scheme.group_size}, {"sym", scheme.symmetric}, {"data_type", "int"}},
          plan.all_symmetric() ? "auto_round:auto_gptq" : "auto_round"};
}

LayerScheme float_layer_scheme(const FloatEncoding& encoding, const rh_format_layer& layer) {
  return std::visit([&](const auto& made) { return scheme_of(made, layer); }, encoding);
}

void add_fp8_keys(const LayerScheme& scheme, Json& config) {
  if (text_at(scheme.fields, "data_type") != "fp") return;
  config["fmt"] = "e4m3";
  config["activation_scheme"] = scheme.packing == kFp8Static ? "static" : "dynamic";
  if (scheme.packing == kFp8Block) config["weight_block_size"] = scheme.fields.at("group_size");
}

Said float_said(const Json& fields) {
  const std::string type = text_at(fields, "data_type"), packing = text_at(fields, "packing_format");
  const int64_t bits = number_at(fields, "bits", 0);
  Said said{.quantized = true, .scheme = cat(type, " of ", bits, " bits"), .refused = refused(fields, type, bits)};
  if (type == "fp") {
    said.needs = {"weight", packing == kFp8Block ? "weight_scale_inv" : "weight_scale"};
    if (packing == kFp8Static) said.needs.emplace_back("input_scale");
  } else {
    said.needs = {bits == 8 ? "weight" : "weight_packed", "weight_scale"};
    if (type == "nv_fp") said.needs.emplace_back("weight_global_scale");
    if (type == "nv_fp" && text_at(fields, "act_data_type").ends_with("_static_gs"))
      said.needs.emplace_back("input_global_scale");
  }
  return said;
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
  const bool is_nvfp = std::holds_alternative<rh::Nvfp>(encoding);
  const rh_tensor* range = find(tensors, is_nvfp ? "input_global_scale" : "input_scale");
  const std::string data_type = text_at(quantization, "act_data_type");
  layer->set_activation(
      {std::visit([&](const auto& made) { return input_encoding(made, range, layer->cols(), data_type); }, encoding),
       range});
  return layer;
}

}  // namespace roundhouse::formats

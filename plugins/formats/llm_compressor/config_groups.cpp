#include "config_groups.h"

#include <cstring>

#include "plugins/formats/lib/affine_int.h"
#include "plugins/formats/lib/float_codes.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

using Kind = FloatEncoding::Kind;

constexpr char kE8M0[] = "torch.uint8";
constexpr char kE4M3[] = "torch.float8_e4m3fn";
constexpr char kE5M3Format[] = "nvfp4-e5m3-pack-quantized";  // the reference's name; compressed-tensors has none

Json arguments(const char* type, int bits, bool symmetric, const char* strategy, Json group_size = nullptr) {
  return {{"num_bits", bits},
          {"type", type},
          {"symmetric", symmetric},
          {"strategy", strategy},
          {"group_size", std::move(group_size)},
          {"dynamic", false}};
}

void require_whole_groups(int64_t cols, int64_t group_cols) {
  rh::require(cols % group_cols == 0,
              cat("engines need columns in multiples of the group size, and ", cols, " is not one of ", group_cols));
}

bool has_tensor(const rh_encoding& encoding, const char* name) {
  for (uint32_t i = 0; i < encoding.tensor_count; ++i) {
    if (std::strcmp(encoding.tensors[i]->name, name) == 0) return true;
  }
  return false;
}

Json int_weights(const LayerQuery& query) {
  const AffineParameters p = affine_parameters(query.encoding);
  rh::require(p.bits >= 2 && p.bits <= 8, cat("it stores 2 to 8 bits, not ", p.bits));
  rh::require(p.group_rows == 1, "it stores a scale for each row; use group_size -1 or a number of columns");
  rh::require(!has_tensor(query.encoding, "outer_scale"), "it has no place for a second scale over the groups' scales");
  const int64_t size = query.scheme.group_cols;
  if (size <= 0 || size > query.cols) return arguments("int", p.bits, p.symmetric, "channel");
  require_whole_groups(query.cols, p.group_cols);
  return arguments("int", p.bits, p.symmetric, "group", p.group_cols);
}

// Elements of 8, 6 and 4 bits have one meaning each.
void require_known_element(const std::string& element) {
  rh::require(element == "fp8_e4m3" || element == "fp6_e2m3" || element == "fp4_e2m1",
              cat("compressed-tensors has no ", element, ": it knows fp8_e4m3, fp6_e2m3 and fp4_e2m1"));
}

Json scaled_fp8_weights(const LayerQuery& query, const FloatEncoding& encoding) {
  const rh_scheme& scheme = query.scheme;
  const int64_t cols = scheme.group_cols;
  const bool is_block = scheme.group_rows > 1;
  if (!has_tensor(query.encoding, "scale") || (!is_block && cols == RH_GROUP_TENSOR)) {
    return arguments("float", encoding.bits(), true, "tensor");
  }
  if (is_block) {
    rh::require(cols > 0, "a block needs a number of rows and of columns");
    require_whole_groups(query.cols, cols);
    Json block = arguments("float", encoding.bits(), true, "block");
    block["block_structure"] = {scheme.group_rows, cols};
    return block;
  }
  if (cols == RH_GROUP_ROW || cols > query.cols) return arguments("float", encoding.bits(), true, "channel");
  require_whole_groups(query.cols, cols);
  return arguments("float", encoding.bits(), true, "group", cols);
}

Json float_weights(const LayerQuery& query, const FloatEncoding& encoding) {
  require_known_element(encoding.element);
  if (encoding.kind == Kind::kScaledFp8) return scaled_fp8_weights(query, encoding);
  const bool is_mx = encoding.kind == Kind::kMx;
  const bool is_e4m3 = !is_mx && encoding.scale == "e4m3";
  const int64_t expected = is_mx ? 32 : 16;
  rh::require(encoding.group_cols == expected,
              cat("it stores these numbers in groups of ", expected, " columns, not ", encoding.group_cols));
  rh::require(query.cols % 32 == 0, cat("it packs columns in multiples of 32, and the layer has ", query.cols));
  Json weights = arguments("float", encoding.bits(), true, is_mx ? "group" : "tensor_group", encoding.group_cols);
  if (is_mx || is_e4m3) weights["scale_dtype"] = is_mx ? kE8M0 : kE4M3;
  return weights;
}

// The input's groups, which integers and fp8 share.
Json input_groups(const char* type, int bits, bool symmetric, const Json& parameters, int64_t cols) {
  const bool dynamic = parameters.at("dynamic");
  const int64_t group_cols = parameters.value("group_cols", int64_t{0});
  const bool whole_tensor = parameters.value("group_rows", 1) == 0;
  rh::require(dynamic || whole_tensor,
              "a calibrated scale of the input must be one for the whole tensor (act_group_size 0)");
  rh::require(dynamic || symmetric, "a calibrated scale of the input must be symmetric");
  Json inputs = whole_tensor                            ? arguments(type, bits, symmetric, "tensor")
                : group_cols <= 0 || group_cols >= cols ? arguments(type, bits, symmetric, "token")
                                                        : arguments(type, bits, symmetric, "group", group_cols);
  inputs["dynamic"] = dynamic;
  return inputs;
}

Json mx_inputs(const Json& parameters) {
  const std::string element = parameters.at("element");
  require_known_element(element);
  rh::require(parameters.at("group_cols") == 32 && parameters.at("dynamic"),
              "inputs with a shared exponent have groups of 32 columns and dynamic scales");
  Json inputs = arguments("float", code_bits(element), true, "group", 32);
  inputs["dynamic"] = true;
  inputs["scale_dtype"] = kE8M0;
  return inputs;
}

Json nvfp_inputs(const rh_encoding& activation, const Json& parameters) {
  const bool is_e4m3 = parameters.at("scale") == "e4m3";
  rh::require(parameters.at("group_cols") == 16, "NVFP4 inputs have groups of 16 columns");
  rh::require(!is_e4m3 || has_tensor(activation, "global_scale"), "NVFP4 inputs need a calibrated global scale");
  Json inputs = arguments("float", 4, true, "tensor_group", 16);
  inputs["dynamic"] = "local";
  inputs["observer"] = is_e4m3 ? "static_minmax" : "minmax";
  if (is_e4m3) inputs["scale_dtype"] = kE4M3;
  return inputs;
}

Json input_arguments(const rh_encoding& activation, int64_t cols) {
  const std::string_view id = activation.id;
  try {
    const auto parameters = Json::parse(activation.parameters_json);
    if (id == RH_ENCODING_AFFINE_INT) {
      return input_groups("int", parameters.at("bits"), parameters.at("symmetric"), parameters, cols);
    }
    if (id == RH_ENCODING_SCALED_FP8) {
      require_known_element("fp8_" + parameters.at("element").get<std::string>());
      return input_groups("float", 8, true, parameters, cols);
    }
    if (id == RH_ENCODING_MX) return mx_inputs(parameters);
    if (id == RH_ENCODING_NVFP) return nvfp_inputs(activation, parameters);
  } catch (const Json::exception& e) {
    throw rh::Error(RH_INVALID_ARGUMENT, cat("parameters of the input's ", id, ": ", e.what()));
  }
  throw rh::Error(RH_INVALID_ARGUMENT, cat("compressed-tensors cannot say that an input is quantized as ", id));
}

std::string float_format(const FloatEncoding& encoding) {
  if (encoding.kind == Kind::kScaledFp8) return "float-quantized";
  if (encoding.kind == Kind::kNvfp) return encoding.scale == "e4m3" ? "nvfp4-pack-quantized" : kE5M3Format;
  return encoding.bits() == 8 ? "mxfp8-quantized" : cat("mxfp", encoding.bits(), "-pack-quantized");
}

int64_t group_size(const Json& arguments) { return arguments.at("group_size").get<int64_t>(); }

bool has_e8m0_scale(const Json& arguments) { return text_at(arguments, "scale_dtype") == kE8M0; }

const char* element_of(int bits) { return bits == 8 ? "fp8_e4m3" : bits == 6 ? "fp6_e2m3" : "fp4_e2m1"; }

}  // namespace

LayerScheme layer_scheme(const LayerQuery& query) {
  rh::require(query.scheme.super_bits == 0, "it has no place for quantized scales in super-groups");
  LayerScheme out;
  if (query.activation) out.inputs = input_arguments(*query.activation, query.cols);
  if (const auto encoding = float_encoding(query.encoding)) {
    out.weights = float_weights(query, *encoding);
    out.format = float_format(*encoding);
  } else {
    out.weights = int_weights(query);
    // Engines take codes of a byte each where the input is an integer as well, else packed ones.
    out.format = query.activation && out.inputs.at("type") == "int" ? "int-quantized" : "pack-quantized";
  }
  return out;
}

FloatEncoding float_weights(const LayerScheme& scheme, const rh_tensor& scale) {
  const std::string strategy = scheme.weights.at("strategy");
  const std::string element = element_of(scheme.weights.at("num_bits"));
  if (strategy == "tensor_group") {
    return {Kind::kNvfp, element, scale.dtype.kind == RH_KIND_UINT ? "ue5m3" : "e4m3", 1, group_size(scheme.weights)};
  }
  if (scale.dtype.kind == RH_KIND_UINT) return {Kind::kMx, element, "", 1, group_size(scheme.weights)};
  FloatEncoding out{Kind::kScaledFp8, element, "", 1, 0};
  if (strategy == "tensor") out.group_rows = 0;
  if (strategy == "group") out.group_cols = group_size(scheme.weights);
  if (strategy == "block") {
    out.group_rows = scheme.weights.at("block_structure").at(0);
    out.group_cols = scheme.weights.at("block_structure").at(1);
  }
  return out;
}

std::optional<StoredActivation> stored_activation(const LayerScheme& scheme, int64_t cols,
                                                  const LayerReader::Tensors& tensors) {
  const Json& inputs = scheme.inputs;
  if (inputs.is_null()) return std::nullopt;
  const int bits = inputs.at("num_bits");
  const std::string strategy = inputs.at("strategy");
  StoredActivation out;
  if (strategy == "tensor_group") {
    out.id = RH_ENCODING_NVFP;
    out.range = find(tensors, "input_global_scale");
    out.range_name = "global_scale";
    out.parameters = {{"scale", out.range ? "e4m3" : "ue5m3"}, {"group_cols", group_size(inputs)}, {"group_rows", 1}};
  } else if (inputs.at("type") == "float" && (bits < 8 || has_e8m0_scale(inputs))) {
    out.id = RH_ENCODING_MX;
    out.parameters = {{"element", element_of(bits)}, {"group_cols", group_size(inputs)}, {"group_rows", 1}};
  } else {
    out.range = find(tensors, "input_scale");
    out.range_name = "scale";
    if (inputs.at("type") == "float") {
      out.id = RH_ENCODING_SCALED_FP8;
      out.parameters = {{"element", "e4m3"}};
    } else {
      out.id = RH_ENCODING_AFFINE_INT;
      out.parameters = {{"bits", bits}, {"symmetric", inputs.at("symmetric")}};
    }
    out.parameters["group_rows"] = strategy == "tensor" ? 0 : 1;
    out.parameters["group_cols"] = strategy == "group" ? group_size(inputs) : cols;
  }
  out.parameters["dynamic"] = !out.range;
  return out;
}

}  // namespace roundhouse::formats

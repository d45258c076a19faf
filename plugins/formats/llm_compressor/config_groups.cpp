// SPDX-License-Identifier: Apache-2.0
#include "config_groups.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <roundhouse/encoding/decode.hpp>
#include <string_view>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

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

Json weights_of(const rh::AffineInt& made, const rh_format_layer& layer, const CommonGroups& groups) {
  rh::require(made.group_rows == 1, "it stores a scale for each row; use group_size -1 or a number of columns");
  rh::require(!made.outer_scale, "it has no place for a second scale over the groups' scales");
  rh::require(!made.group_index, "it stores groups of neighbouring columns, and these are in an order of their own");
  if (groups.whole_row(made.group_rows, made.group_cols, layer.cols))
    return arguments("int", made.bits, made.symmetric, "channel");
  require_whole_groups(layer.cols, made.group_cols);
  return arguments("int", made.bits, made.symmetric, "group", made.group_cols);
}

// Elements of 8, 6 and 4 bits have one meaning each.
void require_known_element(std::string_view element) {
  rh::require(element == "fp8_e4m3" || element == "fp6_e2m3" || element == "fp4_e2m1",
              cat("compressed-tensors has no ", element, ": it knows fp8_e4m3, fp6_e2m3 and fp4_e2m1"));
}

Json weights_of(const rh::ScaledFp8& made, const rh_format_layer& layer, const CommonGroups& groups) {
  const bool common = groups.common(made.group_rows, made.group_cols);
  const bool whole_tensor = made.group_rows == layer.rows && made.group_cols >= layer.cols && layer.rows > 1;
  if (made.unit_scale || (whole_tensor && !common)) return arguments("float", 8, true, "tensor");
  if (made.group_rows > 1) {
    require_whole_groups(layer.cols, made.group_cols);
    Json block = arguments("float", 8, true, "block");
    block["block_structure"] = {made.group_rows, made.group_cols};
    return block;
  }
  if (groups.whole_row(made.group_rows, made.group_cols, layer.cols)) return arguments("float", 8, true, "channel");
  require_whole_groups(layer.cols, made.group_cols);
  return arguments("float", 8, true, "group", made.group_cols);
}

Json small_floats(int bits, int64_t group_cols, int64_t expected, int64_t cols, const char* strategy) {
  rh::require(group_cols == expected,
              cat("it stores these numbers in groups of ", expected, " columns, not ", group_cols));
  rh::require(cols % 32 == 0, cat("it packs columns in multiples of 32, and the layer has ", cols));
  return arguments("float", bits, true, strategy, group_cols);
}

Json weights_of(const rh::Mx& made, const rh_format_layer& layer, const CommonGroups&) {
  Json weights = small_floats(made.code_bits(), made.group_cols, 32, layer.cols, "group");
  weights["scale_dtype"] = kE8M0;
  return weights;
}

Json weights_of(const rh::Nvfp& made, const rh_format_layer& layer, const CommonGroups&) {
  Json weights = small_floats(4, made.group_cols, 16, layer.cols, "tensor_group");
  if (made.two_level()) weights["scale_dtype"] = kE4M3;
  return weights;
}

// The input's groups, which integers and fp8 share.
template <typename Typed>
Json input_groups(const char* type, bool symmetric, const Typed& made, int64_t cols) {
  const bool dynamic = made.dynamic == RH_INPUT_DYNAMIC, whole_tensor = made.group_rows == 0;
  const int bits = made.code_bits();
  rh::require(dynamic || whole_tensor,
              "a calibrated scale of the input must be one for the whole tensor (act_group_size 0)");
  rh::require(dynamic || symmetric, "a calibrated scale of the input must be symmetric");
  Json inputs = whole_tensor              ? arguments(type, bits, symmetric, "tensor")
                : made.group_cols >= cols ? arguments(type, bits, symmetric, "token")
                                          : arguments(type, bits, symmetric, "group", made.group_cols);
  inputs["dynamic"] = dynamic;
  return inputs;
}

Json inputs_of(const rh::AffineInt& made, int64_t cols) { return input_groups("int", made.symmetric != 0, made, cols); }

Json inputs_of(const rh::ScaledFp8& made, int64_t cols) {
  require_known_element(made.element == RH_FP8_E4M3 ? "fp8_e4m3" : "fp8_e5m2");
  return input_groups("float", true, made, cols);
}

Json inputs_of(const rh::Mx& made, int64_t) {
  require_known_element(made.name());
  rh::require(made.group_cols == 32 && made.dynamic == RH_INPUT_DYNAMIC,
              "inputs with a shared exponent have groups of 32 columns and dynamic scales");
  Json inputs = arguments("float", made.code_bits(), true, "group", 32);
  inputs["dynamic"] = true;
  inputs["scale_dtype"] = kE8M0;
  return inputs;
}

Json inputs_of(const rh::Nvfp& made, int64_t) {
  rh::require(made.group_cols == 16, "NVFP4 inputs have groups of 16 columns");
  rh::require(!made.two_level() || made.dynamic == RH_INPUT_CALIBRATED, "NVFP4 inputs need a calibrated global scale");
  Json inputs = arguments("float", 4, true, "tensor_group", 16);
  inputs["dynamic"] = "local";
  inputs["observer"] = made.two_level() ? "static_minmax" : "minmax";
  if (made.two_level()) inputs["scale_dtype"] = kE4M3;
  return inputs;
}

Json inputs_of(const rh::GgmlBlock&, int64_t) {
  throw rh::Error(RH_INVALID_ARGUMENT, "compressed-tensors cannot say that an input is quantized as blocks of ggml");
}

Json input_arguments(const rh_encoding& activation, int64_t cols) {
  Json inputs;
  const bool known = rh::with_encoding(activation, [&](const auto& made) { inputs = inputs_of(made, cols); });
  rh::require(known, cat("compressed-tensors cannot say that an input is quantized as ", activation.id));
  return inputs;
}

std::string format_of(const rh::ScaledFp8&) { return "float-quantized"; }
std::string format_of(const rh::Nvfp& made) { return made.two_level() ? "nvfp4-pack-quantized" : kE5M3Format; }
std::string format_of(const rh::Mx& made) {
  return made.code_bits() == 8 ? "mxfp8-quantized" : cat("mxfp", made.code_bits(), "-pack-quantized");
}

int64_t group_size(const Json& arguments) {
  const Json& size = arguments.at("group_size");
  rh::require(size.is_number_integer(),
              cat(arguments.at("num_bits").get<int>(), " bits of ", text_at(arguments, "type"), " by ",
                  text_at(arguments, "strategy"), " need a group_size"));
  return size.get<int64_t>();
}

bool has_e8m0_scale(const Json& arguments) { return text_at(arguments, "scale_dtype") == kE8M0; }

int mx_element(int bits) { return bits == 8 ? RH_MX_FP8_E4M3 : bits == 6 ? RH_MX_FP6_E2M3 : RH_MX_FP4_E2M1; }

}  // namespace

LayerScheme layer_scheme(const rh_format_layer& layer, const CommonGroups& groups) {
  LayerScheme out;
  if (layer.activation_encoding) out.inputs = input_arguments(*layer.activation_encoding, layer.cols);
  if (const auto encoding = float_encoding(*layer.encoding)) {
    require_known_element(element_name(*encoding));
    out.weights = std::visit([&](const auto& made) { return weights_of(made, layer, groups); }, *encoding);
    out.format = std::visit([](const auto& made) { return format_of(made); }, *encoding);
  } else {
    out.weights = weights_of(rh::AffineInt::of(*layer.encoding), layer, groups);
    // Engines take codes of a byte each where the input is an integer as well, else packed ones.
    out.format = layer.activation_encoding && out.inputs.at("type") == "int" ? "int-quantized" : "pack-quantized";
  }
  return out;
}

std::string unsaid_of_input(const rh_format_layer& layer) {
  std::string unsaid;
  if (!layer.activation_encoding) return unsaid;
  rh::with_encoding(*layer.activation_encoding, [&](const auto& made) {
    using Typed = std::decay_t<decltype(made)>;
    if constexpr (std::is_same_v<Typed, rh::Mx>) {
      if (made.exponent != RH_MX_FLOOR) unsaid = cat("the exponent ", rh_mx_exponents[made.exponent]);
    }
    if constexpr (std::is_same_v<Typed, rh::AffineInt>) {
      if (made.mirrored) unsaid = "mirrored ranges";
    }
  });
  if (unsaid.empty()) return unsaid;
  return cat("compressed-tensors cannot say ", unsaid,
             " of inputs: engines find the ranges of inputs by their own rule");
}

Json complete_arguments(const Json& said, const std::string& where) {
  if (said.is_null()) return said;
  rh::require(said.is_object(), cat(where, " is ", said.dump(), ", not an object"));
  Json arguments = said;
  const auto complete = [&](const char* key, const Json& otherwise, bool (Json::*is_right)() const noexcept,
                            const char* what) {
    Json& value = arguments[key];
    if (value.is_null()) value = otherwise;
    rh::require(value.is_null() || (value.*is_right)(), cat(where, ": ", key, " is ", value.dump(), ", not ", what));
    if (!value.is_string()) return;
    std::string lower = value;
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    value = lower;
  };
  complete("num_bits", 8, &Json::is_number_integer, "a number");
  complete("type", "int", &Json::is_string, "a text");
  complete("symmetric", true, &Json::is_boolean, "true or false");
  complete("group_size", nullptr, &Json::is_number_integer, "a number");
  const Json size = arguments["group_size"];  // a copy: the next key may move it
  complete("strategy", size.is_null() ? "tensor" : size == -1 ? "channel" : "group", &Json::is_string, "a text");
  if (const Json& dynamic = arguments["dynamic"]; dynamic.is_string())
    complete("dynamic", false, &Json::is_string, "a text");
  else
    complete("dynamic", false, &Json::is_boolean, "true, false or a text");
  const std::string strategy = arguments["strategy"];
  rh::require((strategy != "group" && strategy != "tensor_group") || (size.is_number_integer() && size > 0),
              cat(where, ": the strategy ", strategy, " needs a group_size above 0"));
  rh::require(strategy != "block" || !arguments.value("block_structure", Json()).is_null(),
              where + ": the strategy block needs a block_structure");
  return arguments;
}

std::string refused_arguments(const Json& arguments, const std::string& format) {
  const std::string strategy = arguments.at("strategy");
  const bool grouped = strategy == "group" || strategy == "tensor_group";
  const Json& size = arguments.at("group_size");
  if (!grouped && size.is_number_integer() && size > 0)
    return cat(".group_size is ", size.dump(), ", and the strategy ", strategy, " has no groups");
  if (strategy != "block" && !arguments.value("block_structure", Json()).is_null())
    return cat(".block_structure is there, and the strategy ", strategy, " has no blocks");
  const Json& dynamic = arguments.at("dynamic");
  const bool fixed = dynamic == false;
  if (!format.empty() && !fixed) return cat(".dynamic is ", dynamic.dump(), ", and stored weights have fixed scales");
  if (strategy == "token" && fixed) return ".dynamic is false, and the strategy token has a scale for each input";
  if (dynamic == "local" && strategy != "tensor_group") return cat(".dynamic is local, and the strategy is ", strategy);
  if (format.empty() || arguments.at("type") != "float") return "";
  const size_t digit = format.find("fp");  // "nvfp4-pack-quantized"; others have floats of 8 bits
  const int wanted = digit == std::string::npos ? 8 : std::atoi(format.c_str() + digit + 2);
  return arguments.at("num_bits") == wanted ? ""
                                            : cat(".num_bits is ", arguments.at("num_bits").dump(), ", and ", format,
                                                  " holds floats of ", wanted, " bits");
}

FloatEncoding float_weights(const LayerScheme& scheme, const rh_tensor& scale) {
  const std::string strategy = scheme.weights.at("strategy");
  const bool is_byte = scale.dtype.kind == RH_KIND_UINT || scale.dtype.kind == RH_KIND_FLOAT8_E8M0FNU;
  if (strategy == "tensor_group") return rh::Nvfp(is_byte ? RH_NVFP_UE5M3 : RH_NVFP_E4M3, group_size(scheme.weights));
  if (is_byte) return rh::Mx(mx_element(scheme.weights.at("num_bits")), group_size(scheme.weights));
  rh::ScaledFp8 out(RH_FP8_E4M3, 1, 0);
  if (strategy == "tensor") out.group_rows = 0;
  if (strategy == "group") out.group_cols = group_size(scheme.weights);
  if (strategy == "block") {
    Json block = scheme.weights.at("block_structure");
    if (block.is_string()) {  // "128x128", in older files
      const std::string text = block;
      block = {std::atoll(text.c_str()), std::atoll(text.c_str() + std::min(text.find('x') + 1, text.size()))};
    }
    out.group_rows = block.at(0);
    out.group_cols = block.at(1);
    rh::require(out.group_rows > 0 && out.group_cols > 0, "block_structure is not two positive numbers");
  }
  return out;
}

std::optional<StoredActivation> stored_activation(const LayerScheme& scheme, int64_t cols,
                                                  const LayerReader::Tensors& tensors) {
  const Json& inputs = scheme.inputs;
  if (inputs.is_null()) return std::nullopt;
  const int bits = inputs.at("num_bits");
  const std::string strategy = inputs.at("strategy");
  const bool is_float = inputs.at("type") == "float";
  if (strategy == "tensor_group") {
    const rh_tensor* range = find(tensors, "input_global_scale");
    return StoredActivation{{rh::Nvfp(range ? RH_NVFP_E4M3 : RH_NVFP_UE5M3, group_size(inputs),
                                      range ? RH_INPUT_CALIBRATED : RH_INPUT_DYNAMIC),
                             0, 0},
                            range};
  }
  if (is_float && (bits < 8 || has_e8m0_scale(inputs)))
    return StoredActivation{{rh::Mx(mx_element(bits), group_size(inputs), RH_INPUT_DYNAMIC), 0, 0}, nullptr};
  const rh_tensor* range = find(tensors, "input_scale");
  const int64_t group_rows = strategy == "tensor" ? 0 : 1;
  const int64_t group_cols = strategy == "group" ? group_size(inputs) : cols;
  const int dynamic = range ? RH_INPUT_CALIBRATED : RH_INPUT_DYNAMIC;
  // A fixed zero point of the input has no place in its encoding: it is as if nothing was said of the input.
  if (!is_float && range && !inputs.at("symmetric")) return std::nullopt;
  if (is_float) return StoredActivation{{rh::ScaledFp8(RH_FP8_E4M3, group_rows, group_cols, dynamic), 0, 0}, range};
  return StoredActivation{{rh::AffineInt(bits, inputs.at("symmetric"), group_rows, group_cols, dynamic), 0, 0}, range};
}

}  // namespace roundhouse::formats

#include "plugins/formats/lib/int_plan.h"

#include <algorithm>

#include "plugins/formats/lib/affine_int.h"
#include "plugins/formats/lib/checkpoint_writer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

IntScheme read_scheme(const Json& scheme) { return {scheme.at("bits"), scheme.at("group_size"), scheme.at("sym")}; }

std::string listed(std::initializer_list<int> numbers) {
  std::string text;
  for (int n : numbers) text += cat(text.empty() ? "" : ", ", n);
  return text;
}

}  // namespace

IntPlan int_plan(const rh_export& target) {
  const Json plan = model_json(target, "plan");
  IntPlan out{};
  out.all_symmetric = all_symmetric(target);
  const Json* first = nullptr;
  for (const Json& layer : plan.at("layers")) {
    if (!first && layer.at("quantized")) first = &layer.at("scheme");
  }
  if (!first) throw rh::Error(RH_INVALID_ARGUMENT, "the plan quantizes no layer: there is nothing to pack");
  // A recipe may leave its global scheme unused; then the first quantized layer's speaks for all.
  const Json& scheme = plan.at("scheme");
  const bool usable = scheme.at("bits") <= 8 && scheme.at("group_size").is_number();
  out.common = read_scheme(usable ? scheme : *first);
  return out;
}

bool all_symmetric(const rh_export& target) {
  const Json layers = model_json(target, "plan").at("layers");
  return std::all_of(layers.begin(), layers.end(),
                     [](const Json& layer) { return !layer.at("quantized") || layer.at("scheme").at("sym"); });
}

IntScheme int_scheme(const rh_encoded_layer& layer) {
  const AffineParameters p = affine_parameters(*layer.encoding);
  const int64_t size = layer.scheme->group_cols;
  return {p.bits, size <= 0 || size > layer.cols ? -1 : size, p.symmetric};
}

void check_int_layer(const rh_format_query& query, std::initializer_list<int> bits) {
  const AffineParameters p = affine_parameters(*query.encoding);
  rh::require(!query.activation, "it stores weights only, and the scheme quantizes activations as well");
  for (uint32_t i = 0; i < query.encoding->tensor_count; ++i)
    rh::require(std::string(query.encoding->tensors[i]->name) != "outer_scale",
                "it stores one scale a group, and this data type has another for the whole tensor (outer_scale); use a "
                "data type without, such as int");
  rh::require(std::find(bits.begin(), bits.end(), p.bits) != bits.end(),
              cat("it stores ", listed(bits), " bits, not ", p.bits));
  rh::require(p.group_rows == 1, "it stores a scale for each row; use group_size -1 or a number of columns");
  rh::require(query.rows % 32 == 0 && query.cols % 32 == 0,
              cat("its bit streams need rows and columns in multiples of 32, and the weight is [", query.rows, ", ",
                  query.cols, "]; leave the layer unquantized"));
  rh::require(p.group_cols >= query.cols || query.cols % p.group_cols == 0,
              cat("the engines that read it need columns in multiples of the group size, and ", query.cols,
                  " is not one of ", p.group_cols, "; use a group_size that divides it, or -1"));
}

Json int_config(const rh_export& target, const IntScheme& common) {
  Json config{
      {"bits", common.bits}, {"group_size", common.group_size}, {"sym", common.symmetric}, {"data_type", "int"}};
  add_tuning(target, config);
  return config;
}

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
#include "host/base/scheme.h"

#include <type_traits>

#include "host/base/error.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using Kind = SchemeField::Kind;

// ---- what a field's type is in JSON. Strict: the JSON library would turn 4.5 or true into a whole number. ----

int64_t integer(const json& value) {
  if (!value.is_number_integer()) throw Error(cat(value, " is not a whole number"));
  return value.get<int64_t>();
}

void read(int& field, const json& value) { field = static_cast<int>(integer(value)); }

void read(double& field, const json& value) {
  if (!value.is_number()) throw Error(cat(value, " is not a number"));
  field = value.get<double>();
}

void read(bool& field, const json& value) {
  if (!value.is_boolean()) throw Error(cat(value, " is neither true nor false"));
  field = value.get<bool>();
}

void read(std::optional<DType>& field, const json& value) {
  if (!value.is_string()) throw Error(cat(value, " is not a name"));
  field = dtype_from_config_name(value.get<std::string>());
}

void read(json& field, const json& value) {
  if (!value.is_object()) throw Error(cat(value, " is not an object"));
  field.update(value);
}

template <typename T>
json written(const T& field) {
  if constexpr (std::is_same_v<T, std::optional<DType>>) {
    return field ? json(config_name(*field)) : json();
  } else {
    return field;
  }
}

// ---- and what it is for plugins ----

void show(int field, int32_t& view) { view = field; }
void show(bool field, int32_t& view) { view = field ? 1 : 0; }
void show(double field, float& view) { view = static_cast<float>(field); }
void show(const std::optional<DType>& field, rh_data_type& view) {
  if (field) view = to_rh(*field);
}

template <typename T>
constexpr Kind kind_of() {
  if constexpr (std::is_same_v<T, int>) return Kind::kBits;
  if constexpr (std::is_same_v<T, bool>) return Kind::kFlag;
  if constexpr (std::is_same_v<T, double>) return Kind::kAmount;
  if constexpr (std::is_same_v<T, std::optional<DType>>) return Kind::kElementType;
}

template <auto member, auto viewed>
SchemeField field(const char* key, unsigned sides) {
  using T = std::decay_t<decltype(std::declval<TensorScheme>().*member)>;
  return {key,
          kind_of<T>(),
          sides,
          sides,
          [](TensorScheme& scheme, const json& value) { read(scheme.*member, value); },
          [](const TensorScheme& scheme) { return written(scheme.*member); },
          [](const TensorScheme& scheme, rh_scheme& view) { show(scheme.*member, view.*viewed); }};
}

// ---- the fields that are no single number ----

SchemeField data_type() {
  return {"data_type",
          Kind::kName,
          SchemeField::kBoth,
          SchemeField::kBoth,
          nullptr,  // a name has to be looked up
          [](const TensorScheme& scheme) { return json(scheme.dtype); },
          [](const TensorScheme& scheme, rh_scheme& view) { view.dtype = scheme.dtype.c_str(); }};
}

SchemeField group() {
  return {"group_size",
          Kind::kGroupSize,
          SchemeField::kBoth,
          SchemeField::kBoth,
          [](TensorScheme& scheme, const json& value) {
            const bool block = value.is_array() && value.size() == 2;
            const int64_t rows = block ? integer(value[0]) : 1, cols = integer(block ? value[1] : value);
            if (rows < 1 || cols < (block ? 1 : RH_GROUP_ROW)) throw Error(cat(value, " is no size of a group"));
            scheme.group_rows = rows;
            scheme.group_cols = cols;
          },
          group_size,
          [](const TensorScheme& scheme, rh_scheme& view) {
            view.group_rows = scheme.group_rows;
            view.group_cols = scheme.group_cols;
          }};
}

// As an alias says it; of a recipe the run's tuning decides.
SchemeField search() {
  return {"search",
          Kind::kFlag,
          SchemeField::kNone,
          SchemeField::kNone,
          [](TensorScheme& scheme, const json& value) {
            bool searched = false;
            read(searched, value);
            scheme.rounding = searched ? Rounding::kSearch : Rounding::kPlain;
          },
          [](const TensorScheme& scheme) { return json(scheme.rounding == Rounding::kSearch); },
          [](const TensorScheme& scheme, rh_scheme& view) { view.rounding = static_cast<int32_t>(scheme.rounding); }};
}

SchemeField options() {
  return {"options",
          Kind::kOptions,
          SchemeField::kWeight,
          SchemeField::kBoth,
          [](TensorScheme& scheme, const json& value) { read(scheme.options, value); },
          [](const TensorScheme& scheme) { return scheme.options; },
          nullptr};  // the view owns their text
}

bool may_be_omitted(Kind kind) { return kind == Kind::kElementType || kind == Kind::kAmount || kind == Kind::kOptions; }

std::string group_text(const TensorScheme& scheme) {
  if (scheme.group_rows > 1) return cat("g", scheme.group_rows, "x", scheme.group_cols);
  if (scheme.group_cols == RH_GROUP_ROW) return "row";
  if (scheme.group_cols == RH_GROUP_TENSOR) return "tensor";
  return cat("g", scheme.group_cols);
}

std::string side_text(const char* side, const TensorScheme& scheme) {
  return cat(scheme.dtype, " ", side, scheme.bits, " ", group_text(scheme), scheme.symmetric ? " sym" : " asym");
}

const char* rounding_text(Rounding rounding) {
  switch (rounding) {
    case Rounding::kTuned:
      return "tuned";
    case Rounding::kTunedSearch:
      return "tuned from searched";
    case Rounding::kSearch:
      return "searched";
    case Rounding::kPlain:
      return "plain";
  }
  return "";
}

}  // namespace

const std::vector<SchemeField>& scheme_fields() {
  using S = TensorScheme;
  static const std::vector<SchemeField> fields = {
      data_type(),
      field<&S::bits, &rh_scheme::bits>("bits", SchemeField::kBoth),
      group(),
      field<&S::symmetric, &rh_scheme::symmetric>("sym", SchemeField::kBoth),
      search(),
      field<&S::dynamic, &rh_scheme::dynamic>("dynamic", SchemeField::kActivation),
      field<&S::scale_dtype, &rh_scheme::scale_dtype>("scale_dtype", SchemeField::kWeight),
      field<&S::scale_threshold, &rh_scheme::scale_threshold>("q_scale_thresh", SchemeField::kWeight),
      options(),
  };
  return fields;
}

json group_size(const TensorScheme& scheme) {
  if (scheme.group_rows > 1) return {scheme.group_rows, scheme.group_cols};
  return scheme.group_cols;
}

json to_json(const Scheme& scheme) {
  json j{{"bits", 16}, {"act_bits", 16}};  // 16: as it is
  const TensorScheme defaults;
  const auto tell = [&](const std::optional<TensorScheme>& tensor, unsigned side, std::string_view prefix) {
    if (!tensor) return;
    for (const SchemeField& field : scheme_fields())
      if ((field.told & side) && !(may_be_omitted(field.kind) && field.get(*tensor) == field.get(defaults)))
        j[cat(prefix, field.key)] = field.get(*tensor);
  };
  tell(scheme.weight, SchemeField::kWeight, "");
  tell(scheme.activation, SchemeField::kActivation, kActivationPrefix);
  return j;
}

std::string scheme_text(const Scheme& scheme) {
  std::string text;
  if (scheme.weight) text = cat(side_text("W", *scheme.weight), " ", rounding_text(scheme.weight->rounding));
  if (scheme.activation) {
    text += cat(text.empty() ? "" : ", ", side_text("A", *scheme.activation),
                scheme.activation->dynamic ? " dynamic" : " static");
  }
  return text.empty() ? "unchanged" : text;
}

}  // namespace roundhouse

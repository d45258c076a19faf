#include "host/plugins/resolve.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <vector>

#include "host/base/error.h"
#include "host/base/suggest.h"

namespace roundhouse {
namespace {

using nlohmann::json;

struct Match {
  const DtypeRecord* record;
  std::string alias;  // "" for the id itself
  json fields = json::object();
};

std::optional<Match> find_exact(const Catalogue& catalogue, const std::string& name) {
  if (const DtypeRecord* record = catalogue.find_dtype(name)) return Match{record, "", json::object()};
  for (const DtypeRecord* record : catalogue.dtypes())
    for (const auto& [alias, fields] : record->aliases)
      if (alias == name) return Match{record, alias, fields};
  return std::nullopt;
}

// Strict: the JSON library would turn 4.5 or true into a whole number.
template <typename T>
T integer(const json& value) {
  if (!value.is_number_integer()) throw Error(cat(value, " is not a whole number"));
  return value.get<T>();
}

double number(const json& value) {
  if (!value.is_number()) throw Error(cat(value, " is not a number"));
  return value.get<double>();
}

bool boolean(const json& value) {
  if (!value.is_boolean()) throw Error(cat(value, " is neither true nor false"));
  return value.get<bool>();
}

DType element_type(const json& value) {
  if (!value.is_string()) throw Error(cat(value, " is not the name of an element type"));
  return dtype_from_config_name(value.get<std::string>());
}

const json& object(const json& value) {
  if (!value.is_object()) throw Error(cat(value, " is not an object"));
  return value;
}

void apply_group_size(TensorScheme& scheme, const json& value) {
  const bool block = value.is_array() && value.size() == 2;
  const auto rows = block ? integer<int64_t>(value[0]) : 1;
  const auto cols = integer<int64_t>(block ? value[1] : value);
  if (rows < 1 || cols < (block ? 1 : RH_GROUP_ROW)) throw Error(cat(value, " is no size of a group"));
  scheme.group_rows = rows;
  scheme.group_cols = cols;
}

struct Field {
  const char* key;
  void (*apply)(TensorScheme& scheme, const json& value);
};

const Field kFields[] = {
    {"bits", [](TensorScheme& s, const json& v) { s.bits = integer<int>(v); }},
    {"group_size", &apply_group_size},
    {"sym", [](TensorScheme& s, const json& v) { s.symmetric = boolean(v); }},
    {"search", [](TensorScheme& s, const json& v) { s.rounding = boolean(v) ? Rounding::kSearch : Rounding::kPlain; }},
    {"super_bits", [](TensorScheme& s, const json& v) { s.super_bits = integer<int>(v); }},
    {"super_group_size", [](TensorScheme& s, const json& v) { s.super_group = integer<int>(v); }},
    {"dynamic", [](TensorScheme& s, const json& v) { s.dynamic = boolean(v); }},
    {"scale_dtype", [](TensorScheme& s, const json& v) { s.scale_dtype = element_type(v); }},
    {"q_scale_thresh", [](TensorScheme& s, const json& v) { s.scale_threshold = number(v); }},
    {"weight_fp8_max_scale", [](TensorScheme& s, const json& v) { s.weight_fp8_max_scale = number(v); }},
    {"options", [](TensorScheme& s, const json& v) { s.options.update(object(v)); }},
};

void apply(TensorScheme& scheme, const json& fields, const std::string& whose) {
  for (const auto& [key, value] : fields.items()) {
    const auto field = std::find_if(std::begin(kFields), std::end(kFields), [&](const Field& f) { return key == f.key; });
    if (field == std::end(kFields)) {
      std::vector<std::string> known;
      for (const Field& f : kFields) known.push_back(f.key);
      throw Error(cat(whose, ": there is no field \"", key, "\"", suggest(key, known)));
    }
    try {
      field->apply(scheme, value);
    } catch (const Error& e) {
      throw Error(cat(whose, ": ", key, ": ", e.what()));
    }
  }
}

void require_agreement(const Match& match, const json& said) {
  for (const auto& [key, fixed] : match.fields.items()) {
    const auto other = said.find(key);
    if (other == said.end() || key == "options" || *other == fixed) continue;
    throw Error(cat("data type ", match.alias, " means ", match.record->id, " with ", key, " ", fixed, ", but ", key, " ",
                    *other, " was asked for"));
  }
}

std::optional<Match> find_by_stem(const Catalogue& catalogue, const std::string& name, const TensorScheme& scheme) {
  std::vector<std::string> stems;
  if (scheme.rounding == Rounding::kSearch) stems.push_back(cat("opt_rtn_", name));
  if (scheme.rounding != Rounding::kTuned) stems.push_back(cat("rtn_", name));
  if (scheme.group_rows > 1) stems.push_back(cat("block_", name));
  stems.push_back(name);
  const std::string bits = std::to_string(scheme.bits), symmetry = scheme.symmetric ? "_sym" : "_asym";
  for (const std::string& stem : stems)
    for (const std::string& spelling : {stem, stem + bits, stem + symmetry, stem + bits + symmetry})
      if (auto match = find_exact(catalogue, spelling)) return match;
  return std::nullopt;
}

}  // namespace

TensorScheme resolve_dtype(const Catalogue& catalogue, const DtypeRequest& request) {
  TensorScheme scheme;
  scheme.rounding = request.rounding;
  apply(scheme, request.assumed, "scheme");
  TensorScheme asked = scheme;
  apply(asked, request.said, "scheme");

  auto match = find_exact(catalogue, request.name);
  if (!match) match = find_by_stem(catalogue, request.name, asked);
  if (!match) catalogue.fail_unknown_dtype(request.name);
  require_agreement(*match, request.said);
  scheme.dtype = match->record->id;
  apply(scheme, match->fields, cat("alias ", match->alias, " of ", match->record->plugin.string()));
  apply(scheme, request.said, "scheme");
  return scheme;
}

}  // namespace roundhouse

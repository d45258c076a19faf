// SPDX-License-Identifier: Apache-2.0
#include "validator/cases.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <roundhouse/plugin.hpp>
#include <set>

namespace roundhouse::validator {
namespace {

using nlohmann::json;

constexpr size_t kStringBytes = 8192;

// ---- one case ----

const char* rounding_name(int rounding) {
  switch (rounding) {
    case RH_ROUNDING_PLAIN:
      return "plain";
    case RH_ROUNDING_SEARCH:
      return "searched";
    case RH_ROUNDING_TUNED:
      return "tuned";
    default:
      return "tuned from a search";
  }
}

// ---- where schemes come from ----

// What an alias or the id itself fixes. False for what this program does not know.
bool apply(const json& fields, Scheme& scheme, std::set<std::string>& fixed) {
  for (const auto& [key, value] : fields.items()) {
    fixed.insert(key);
    if (key == "bits")
      scheme.bits = value.get<int>();
    else if (key == "sym")
      scheme.symmetric = value.get<bool>();
    else if (key == "search")
      scheme.rounding = value.get<bool>() ? RH_ROUNDING_SEARCH : RH_ROUNDING_PLAIN;
    else if (key == "dynamic")
      scheme.dynamic = value.get<bool>();
    else if (key == "q_scale_thresh")
      scheme.scale_threshold = value.get<float>();
    else if (key == "options")
      scheme.options = value.dump();
    else if (key == "group_size") {
      scheme.group_rows = value.is_array() ? value.at(0).get<int64_t>() : 1;
      scheme.group_cols = value.is_array() ? value.at(1).get<int64_t>() : value.get<int64_t>();
    } else if (key != "scale_dtype")
      return false;
  }
  return true;
}

struct Group {
  int64_t rows, cols;
};

constexpr int64_t kCols = 256;
constexpr int64_t kRaggedCols = 200;
constexpr int64_t kRows = 6;

// Every combination of what is not fixed.
std::vector<Scheme> expand(const Scheme& base, const std::set<std::string>& fixed, bool weight) {
  const auto is_fixed = [&](const char* key) { return fixed.count(key) > 0; };
  std::vector<int> all_bits{4, 8, 2, 3, 6, 5};
  std::vector<Group> groups{{1, 32}, {1, 16}, {1, 64}, {1, RH_GROUP_ROW}, {1, RH_GROUP_TENSOR}, {4, 32}, {128, 128}};
  std::vector<bool> symmetries{true, false}, dynamics{true, false};
  std::vector<int> roundings{RH_ROUNDING_TUNED, RH_ROUNDING_PLAIN, RH_ROUNDING_SEARCH, RH_ROUNDING_TUNED_SEARCH};
  if (is_fixed("bits")) all_bits = {base.bits};
  if (is_fixed("group_size")) groups = {{base.group_rows, base.group_cols}};
  if (is_fixed("sym")) symmetries = {base.symmetric};
  if (is_fixed("search") && base.rounding == RH_ROUNDING_SEARCH) roundings = {RH_ROUNDING_SEARCH};
  if (is_fixed("search") && base.rounding == RH_ROUNDING_PLAIN) roundings = {RH_ROUNDING_PLAIN};
  if (!weight) roundings = {RH_ROUNDING_PLAIN};
  if (weight || is_fixed("dynamic")) dynamics = {base.dynamic};
  std::vector<Scheme> out;
  for (const Group& group : groups)
    for (const int bits : all_bits)
      for (const bool symmetric : symmetries)
        for (const bool dynamic : dynamics)
          for (const int rounding : roundings) {
            Scheme scheme = base;
            scheme.bits = bits;
            scheme.group_rows = group.rows;
            scheme.group_cols = group.cols;
            scheme.symmetric = symmetric;
            scheme.dynamic = dynamic;
            scheme.rounding = rounding;
            out.push_back(scheme);
          }
  return out;
}

std::vector<Scheme> candidates(const rh_dtype* dtype, bool weight) {
  const rh_dtype_descriptor& d = *dtype->descriptor;
  Scheme own;
  own.dtype = d.id;
  std::set<std::string> own_fixed;
  std::vector<std::pair<Scheme, std::set<std::string>>> bases;
  for (uint32_t i = 0; i < d.alias_count; ++i)
    if (own.dtype == d.aliases[i]->name) apply(json::parse(d.aliases[i]->scheme_json), own, own_fixed);
  bases.emplace_back(own, own_fixed);
  for (uint32_t i = 0; i < d.alias_count; ++i) {
    Scheme scheme = own;
    std::set<std::string> fixed = own_fixed;
    if (apply(json::parse(d.aliases[i]->scheme_json), scheme, fixed)) bases.emplace_back(scheme, fixed);
  }
  std::vector<Scheme> out;
  for (const auto& [base, fixed] : bases)
    for (Scheme& scheme : expand(base, fixed, weight)) out.push_back(std::move(scheme));
  return out;
}

// What a case adds to those before it: pairs of values that none had.
std::vector<std::string> features(const Case& c) {
  const Scheme& s = c.scheme;
  const std::string group = text(s.group_rows, "x", s.group_cols), side = c.is_weight() ? "w" : "a";
  const std::string how = text(side, s.dtype, s.rounding, s.dynamic);
  return {how + "/" + group, how + "/" + s.options, text(how, "/", s.symmetric, "/", s.bits)};
}

bool accepts(const Case& c) {
  ErrorSlot error;
  return check(c, error) == RH_OK;
}

}  // namespace

std::string Case::label() const {
  std::string out = text(scheme.dtype, " ", scheme.bits, " bits ", scheme.symmetric ? "sym" : "asym", ", group ");
  if (scheme.group_rows > 1) out += text(scheme.group_rows, "x");
  out += text(scheme.group_cols, ", ", rounding_name(scheme.rounding));
  if (!scheme.dynamic) out += ", static";
  if (scheme.options != "{}") out += ", options " + scheme.options.substr(0, 80);
  if (matrices > 1) out += text(", ", matrices, " matrices");
  if (encoding) out += ", from its encoding " + encoding->id;
  return out + text(", ", type_name(element), is_weight() ? " weight [" : " activation [", rows, ", ", cols, "]");
}

LayerBlock::LayerBlock(const Case& c, bool pages, uint32_t grow)
    : block_(sizeof(rh_layer) + sizeof(rh_scheme) + sizeof(rh_encoding) + 3 * grow + kStringBytes +
                 c.scheme.options.size() + (c.encoding ? c.encoding->parameters.size() : 0),
             pages, 0xa5) {
  unsigned char* next = block_.data();
  const auto take = [&](size_t bytes) { return std::exchange(next, next + (bytes + 7) / 8 * 8); };
  const auto string = [&](const std::string& value) {
    auto* memory = reinterpret_cast<char*>(take(value.size() + 1));
    std::memcpy(memory, value.c_str(), value.size() + 1);
    return memory;
  };
  layer_ = reinterpret_cast<rh_layer*>(take(sizeof(rh_layer) + grow));
  auto* scheme = reinterpret_cast<rh_scheme*>(take(sizeof(rh_scheme) + grow));
  const Scheme& s = c.scheme;
  *scheme = {};
  scheme->struct_size = static_cast<uint32_t>(sizeof(rh_scheme) + grow);
  scheme->bits = s.bits;
  scheme->dtype = string(s.dtype);
  scheme->symmetric = s.symmetric;
  scheme->rounding = s.rounding;
  scheme->group_rows = s.group_rows;
  scheme->group_cols = s.group_cols;
  scheme->dynamic = s.dynamic;
  scheme->scale_dtype = s.scale_dtype;
  scheme->scale_threshold = s.scale_threshold;
  scheme->options_json = string(s.options);
  *layer_ = {};
  layer_->struct_size = static_cast<uint32_t>(sizeof(rh_layer) + grow);
  layer_->target = c.target;
  layer_->name = string("model.layers.0.self_attn.q_proj");
  layer_->role = string("q_proj");
  layer_->scheme = c.encoding ? nullptr : scheme;
  layer_->rows = c.is_weight() ? c.rows : -1;
  layer_->cols = c.cols;
  layer_->dtype = c.element;
  layer_->matrices = c.matrices;
  if (!c.encoding) return;
  auto* encoding = reinterpret_cast<rh_encoding*>(take(sizeof(rh_encoding) + grow));
  const auto count = c.encoding->tensors.size();
  auto** specs = reinterpret_cast<rh_tensor_spec**>(take(count * sizeof(rh_tensor_spec*)));
  for (size_t i = 0; i < count; ++i) {
    const auto& [name, value] = c.encoding->tensors[i];
    specs[i] = reinterpret_cast<rh_tensor_spec*>(take(sizeof(rh_tensor_spec)));
    *specs[i] = {};
    specs[i]->struct_size = sizeof(rh_tensor_spec);
    specs[i]->ndim = static_cast<int32_t>(value.shape.size());
    specs[i]->name = string(name);
    specs[i]->dtype = value.type;
    std::copy(value.shape.begin(), value.shape.end(), specs[i]->shape);
  }
  *encoding = {static_cast<uint32_t>(sizeof(rh_encoding) + grow), static_cast<uint32_t>(count), string(c.encoding->id),
               string(c.encoding->parameters), specs};
  layer_->encoding = encoding;
}

rh_code check(const Case& c, ErrorSlot& error) {
  const LayerBlock layer(c, false, 0);
  return guarded("check of " + c.label(), [&] { return c.dtype->check(c.dtype, layer.get(), error.get()); });
}

std::vector<Case> accepted_cases(const Started& plugin) {
  const rh_data_type elements[] = {rh::kBF16, rh::kF32, rh::kF16};
  std::vector<Case> out;
  for (const rh_dtype* dtype : plugin.dtypes()) {
    std::set<std::string> seen;
    size_t turn = 0;
    for (const int target : {RH_TARGET_WEIGHT, RH_TARGET_ACTIVATION})
      for (const Scheme& scheme : candidates(dtype, target == RH_TARGET_WEIGHT)) {
        Case c{dtype, scheme, target, rh::kF32, kRows, kCols};
        const auto adds = features(c);
        if (std::all_of(adds.begin(), adds.end(), [&](const std::string& f) { return seen.count(f) > 0; })) continue;
        bool any = false;
        for (size_t i = 0; i < std::size(elements) && !any; ++i) {  // one element type a case, in turn
          c.element = elements[(turn + i) % std::size(elements)];
          any = accepts(c);
        }
        if (!any) continue;
        ++turn;
        seen.insert(adds.begin(), adds.end());
        out.push_back(c);
        c.cols = kRaggedCols;
        c.rows = 5;
        if (accepts(c)) out.push_back(c);
      }
  }
  if (out.empty()) throw Skip{"no data type took any of the schemes that this program tries"};
  return out;
}

std::vector<Case> few_cases(const Started& plugin) {
  std::vector<Case> out;
  std::set<std::string> seen;
  for (const Case& c : accepted_cases(plugin))
    if (seen.insert(
                text(c.scheme.dtype, c.target, c.scheme.rounding, c.scheme.group_cols <= 0, c.scheme.dynamic, c.cols))
            .second)
      out.push_back(c);
  return out;
}

std::vector<std::string> same_json(const std::string& object) {
  const json value = json::parse(object);
  const std::string compact = value.dump();
  std::string blanks = " ", reversed;
  bool quoted = false;
  for (size_t i = 0; i < compact.size(); ++i) {
    const char c = compact[i];
    blanks += c;
    if (quoted && c == '\\' && i + 1 < compact.size())
      blanks += compact[++i];
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && std::string("{}[],:").find(c) != std::string::npos)
      blanks += "\n ";
  }
  for (const auto& [key, member] : value.items())
    reversed = json(key).dump() + ":" + member.dump() + (reversed.empty() ? "" : ",") + reversed;
  return {blanks, "{" + reversed + "}"};
}

const std::vector<std::string>& garbage_options() {
  static const std::vector<std::string> options{
      "",
      "{",
      "null",
      "[]",
      "3",
      "\"text\"",
      "{\"no-such-option\": true}",
      "{\"a\": 1, \"a\": {}}",
      "{\"\\ud800\": 1}",
      "{}{}",
      "{\"element\": 7, \"scale\": [], \"arithmetic\": null, \"mirrored\": \"x\"}",
      std::string(2000, '[')};
  return options;
}

std::vector<Case> nonsense_cases(const rh_dtype* dtype) {
  Scheme scheme;
  scheme.dtype = dtype->descriptor->id;
  const Case base{dtype, scheme, RH_TARGET_WEIGHT, rh::kBF16, kRows, kCols};
  std::vector<Case> out;
  const auto add = [&](auto&& change) {
    Case c = base;
    change(c);
    out.push_back(c);
  };
  for (const int bits : {0, -1, 1 << 30}) add([&](Case& c) { c.scheme.bits = bits; });
  for (const int64_t group : {int64_t{-5}, int64_t{-1} << 62}) add([&](Case& c) { c.scheme.group_cols = group; });
  for (const int64_t rows : {int64_t{0}, int64_t{-7}}) add([&](Case& c) { c.scheme.group_rows = rows; });
  add([&](Case& c) { c.element = rh::kI32; });
  add([&](Case& c) { c.element = rh_data_type{99, 3, 7}; });
  add([&](Case& c) { c.cols = 0; });
  add([&](Case& c) { c.cols = -4; });
  return out;
}

}  // namespace roundhouse::validator

// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/names.h"

#include <algorithm>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr const char* kHole = "{}";

// "model.layers.3.mlp.experts.5.up_proj.weight": pattern "model.layers.{}.mlp.experts.{}.up_proj", numbers "3" and "5",
// suffix ".weight".
struct Parts {
  std::string pattern, suffix;
  std::vector<std::string> numbers;
};

Parts split(const std::string& tensor) {
  Parts parts{tensor, "", {}};
  for (const char* suffix : {".weight", ".bias"}) {
    if (!tensor.ends_with(suffix)) continue;
    parts.suffix = suffix;
    parts.pattern.resize(tensor.size() - parts.suffix.size());
  }
  for (size_t begin = 0; begin < parts.pattern.size();) {
    size_t end = std::min(parts.pattern.find('.', begin), parts.pattern.size());
    const std::string part = parts.pattern.substr(begin, end - begin);
    if (!part.empty() && part.find_first_not_of("0123456789") == std::string::npos) {
      parts.pattern.replace(begin, part.size(), kHole);
      parts.numbers.push_back(part);
      end = begin + 2;
    }
    begin = end + 1;
  }
  return parts;
}

std::string joined(std::string pattern, const Parts& parts) {
  for (const std::string& number : parts.numbers)
    if (const size_t hole = pattern.find(kHole); hole != std::string::npos) pattern.replace(hole, 2, number);
  return pattern + parts.suffix;
}

std::string last_part(const Parts& parts) { return parts.pattern.substr(parts.pattern.rfind('.') + 1); }

}  // namespace

Names::Names(const Json& architecture) : family_(text_at(architecture, "family", "unknown")) {
  const auto names = architecture.find("names");
  if (names == architecture.end() || !names->contains("gguf")) return;
  const Json& table = names->at("gguf");
  architecture_ = table.at("architecture");
  for (const auto& [source, stored] : table.at("tensors").items()) {
    if (stored.is_null()) {
      to_gguf_[source] = std::nullopt;
      continue;
    }
    to_gguf_[source] = stored.get<std::string>();
    from_gguf_[stored] = source;
  }
  heeds_windows_ = table.value("windows", false);
  tied_only_ = table.value("tied_only", false);
  untied_only_ = table.value("untied_only", false);
  if (table.contains("normalizes")) normalizes_ = table.at("normalizes").get<bool>();
  for (const Json& name : table.value("plus_one", Json::array())) plus_one_.insert(name.get<std::string>());
  for (const Json& layer : table.value("grouped", Json::array()))
    orders_[layer.get<std::string>()] = {architecture.at("heads"), architecture.at("kv_heads")};
  if (!table.contains("interleaved")) return;
  for (const auto& [layer, heads] : table.at("interleaved").items())
    orders_[layer] = {architecture.at(heads.get<std::string>()), 0};
}

void Names::require_known() const {
  if (architecture_.empty())
    throw rh::Error(RH_INVALID_ARGUMENT, cat("llama.cpp does not run the architecture ", family_,
                                             " (its descriptor has no names.gguf); choose another format"));
}

std::optional<std::string> Names::to_gguf(const std::string& tensor) const {
  const Parts parts = split(tensor);
  const auto found = to_gguf_.find(parts.pattern);
  if (found == to_gguf_.end())
    throw rh::Error(RH_INVALID_ARGUMENT, cat("the tensor ", tensor, " has no name in GGUF: the descriptor of ", family_,
                                             " does not list it under names.gguf.tensors"));
  if (!found->second) return std::nullopt;
  return joined(*found->second, parts);
}

std::optional<int64_t> Names::place_in_stack(const std::string& tensor) const {
  const Parts parts = split(tensor);
  const auto found = to_gguf_.find(parts.pattern);
  const bool stacked = found != to_gguf_.end() && parts.numbers.size() == 2;
  return stacked ? std::optional(std::stoll(parts.numbers[1])) : std::nullopt;
}

std::string Names::from_gguf(const std::string& tensor) const {
  Parts parts = split(tensor);
  auto found = from_gguf_.find(parts.pattern);
  if (found == from_gguf_.end()) {  // what is no weight or bias of a module in the source has its whole name there
    found = from_gguf_.find(parts.pattern + parts.suffix);
    parts.suffix.clear();
  }
  return found == from_gguf_.end() ? tensor : joined(found->second, parts);
}

RowOrder Names::row_order(const std::string& tensor) const {
  const auto found = orders_.find(last_part(split(tensor)));
  return found == orders_.end() ? RowOrder() : found->second;
}

bool Names::plus_one(const std::string& tensor) const {
  const Parts parts = split(tensor);
  return parts.suffix == ".weight" && plus_one_.count(last_part(parts)) > 0;
}

std::string RowOrder::check(int64_t rows) const {
  const int64_t all = heads + 2 * kv_heads;
  const bool fit = rows % all == 0 && (kv_heads > 0 || rows / all % 2 == 0);
  return fit ? "" : cat(rows, " rows are no ", all, " heads");
}

int64_t RowOrder::stored(int64_t row, int64_t rows) const {
  if (kv_heads == 0) {
    const int64_t head_rows = rows / heads, half = head_rows / 2, in_head = row % head_rows;
    return row - in_head + in_head % half * 2 + in_head / half;
  }
  const int64_t head_rows = rows / (heads + 2 * kv_heads), queries = heads / kv_heads;
  const int64_t head = row / head_rows, group = head / (queries + 2), in_group = head % (queries + 2);
  const int64_t place = in_group < queries    ? group * queries + in_group
                        : in_group == queries ? heads + group
                                              : heads + kv_heads + group;
  return place * head_rows + row % head_rows;
}

}  // namespace roundhouse::formats

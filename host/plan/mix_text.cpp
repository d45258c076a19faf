// SPDX-License-Identifier: Apache-2.0
#include "host/plan/mix_text.h"

#include <algorithm>

#include "host/base/error.h"
#include "host/report/table.h"

namespace roundhouse {
namespace {

using nlohmann::json;

constexpr size_t kRows = 8;  // of the curve

std::string loss_text(double loss) { return format_number(loss, 5); }

// "": no format packs.
std::string size_text(uint64_t bytes) { return bytes > 0 ? format_bytes(bytes) : ""; }

json to_json(const SizedLoss& point) { return {{"bytes", point.bytes}, {"loss", point.loss}}; }

}  // namespace

std::string summary(const MixPlan& mix) {
  return cat("Mix for ", mix.target, ": ", format_bytes(mix.chosen->bytes), ", predicted KLD ",
             loss_text(mix.chosen->loss), " before tuning.\n");
}

std::string describe(const MixPlan& mix) {
  std::vector<std::vector<std::string>> schemes = {{"mix", "size alone"}};
  for (const MixScheme& scheme : mix.schemes) schemes.push_back({scheme.name, size_text(scheme.alone.bytes)});
  if (!mix.chosen)
    return cat(format_table(schemes), "\nThe target is ", mix.target, " for ", mix.groups.size(),
               " groups of layers. What each scheme costs in each of them is measured when the recipe runs; until ",
               "then the layers stand here as with ", mix.schemes[mix.base].name, " alone.\n");
  schemes[0].insert(schemes[0].end(), {"predicted KLD alone", "layers"});
  for (size_t i = 0; i < mix.schemes.size(); ++i) {
    const MixScheme& scheme = mix.schemes[i];
    schemes[i + 1].insert(schemes[i + 1].end(), {loss_text(scheme.alone.loss), std::to_string(scheme.layers)});
  }
  std::vector<std::vector<std::string>> curve = {{"size", "predicted KLD"}};
  const size_t rows = std::min(kRows, mix.curve.size());
  for (size_t i = 0; i < rows; ++i) {
    const SizedLoss& point = mix.curve[rows > 1 ? i * (mix.curve.size() - 1) / (rows - 1) : 0];
    curve.push_back({format_bytes(point.bytes), loss_text(point.loss)});
  }
  return cat(summary(mix), "\n", format_table(schemes), "\n", format_table(curve));
}

json to_json(const MixPlan& mix) {
  json all{{"target", mix.target}, {"schemes", json::array()}};
  for (const MixScheme& scheme : mix.schemes) {
    json& entry = all["schemes"].emplace_back(json{{"name", scheme.name}, {"bytes", scheme.alone.bytes}});
    if (mix.chosen) entry.update({{"loss", scheme.alone.loss}, {"layers", scheme.layers}});
  }
  if (!mix.chosen) return all;
  all.update(to_json(*mix.chosen));
  for (const SizedLoss& point : mix.curve) all["curve"].push_back(to_json(point));
  return all;
}

}  // namespace roundhouse

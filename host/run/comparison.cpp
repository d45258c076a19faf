// SPDX-License-Identifier: Apache-2.0
#include "host/run/comparison.h"

#include <algorithm>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/report/table.h"
#include "host/yaml/yaml.h"

namespace roundhouse {
namespace {

using nlohmann::json;

std::string number(const json& value, int decimals) { return value.is_number() ? format_number(value, decimals) : ""; }

Comparison::Table checkpoints(const json& a, const json& b) {
  Comparison::Table table{"Checkpoints", {{"run", "model", "perplexity", "KLD", "same top", "bytes", "folder"}}};
  for (const auto& [name, report] : {std::pair{"A", &a}, {"B", &b}})
    for (const json& model : report->at("models")) {
      const json kld = model.value("kld", json::object()), top = model.value("same_top", json());
      table.rows.push_back(
          {name, model.at("name"), number(model.at("perplexity"), 4), number(kld.value("mean", json()), 5),
           top.is_number() ? format_number(100 * top.get<double>(), 2) + " %" : "", format_bytes(model.at("bytes")),
           model.at("folder").is_string() ? model.at("folder").get<std::string>() : ""});
    }
  return table;
}

// "/tuning/iters", as JSON has it, the way recipes and --set have it.
std::string dotted(std::string pointer) {
  pointer.erase(0, 1);
  std::replace(pointer.begin(), pointer.end(), '/', '.');
  return pointer;
}

Comparison::Table recipes(const json& a, const json& b) {
  const auto keys = [](const json& report) {
    return yaml::Node::parse(report.at("recipe"), {"report.json", {}, /*has_lines=*/false}).as_json().flatten();
  };
  const json first = keys(a), second = keys(b);
  json all = first;
  all.update(second);
  Comparison::Table table{"What the recipes say otherwise", {{"key", "A", "B"}}};
  const auto text = [](const json& map, const std::string& key) {
    if (!map.contains(key)) return std::string();
    return map[key].is_string() ? map[key].get<std::string>() : map[key].dump();
  };
  for (const auto& [key, value] : all.items())
    if (const std::string of_a = text(first, key), of_b = text(second, key); of_a != of_b)
      table.rows.push_back({dotted(key), of_a, of_b});
  return table;
}

double error_of(const json& block) {
  const json error = block.value("error_in_chain", json());
  return error.is_number() ? error.get<double>() : 0;
}

Comparison::Table blocks(const json& a, const json& b, std::vector<std::pair<double, double>>& errors) {
  Comparison::Table table{"Relative error of each block's output, after quantized blocks",
                          {{"block", "A", "B", "B / A"}}};
  const size_t count = std::min(a.at("blocks").size(), b.at("blocks").size());
  for (size_t i = 0; i < count; ++i) {
    const double first = error_of(a["blocks"][i]), second = error_of(b["blocks"][i]);
    errors.emplace_back(first, second);
    if (first > 0 && second > 0)
      table.rows.push_back({std::to_string(a["blocks"][i].at("block").get<int64_t>()), format_number(first, 5),
                            format_number(second, 5), format_number(second / first, 3)});
  }
  return table;
}

Comparison::Table costs(const json& a, const json& b) {
  const auto seconds = [](const json& report, const char* part) {
    return format_seconds(report.at("seconds").at(part));
  };
  Comparison::Table table{"Costs", {{"what", "A", "B"}, {"device", a.at("device"), b.at("device")}}};
  for (const auto& [what, part] : {std::pair{"quantizing", "quantize"}, {"all of it", "total"}})
    table.rows.push_back({what, seconds(a, part), seconds(b, part)});
  table.rows.push_back(
      {"peak memory", format_bytes(a.at("peak_memory_bytes")), format_bytes(b.at("peak_memory_bytes"))});
  return table;
}

}  // namespace

json read_report(const std::filesystem::path& place) {
  const auto file = std::filesystem::is_directory(place) ? place / kNotesFolder / "report.json" : place;
  if (!std::filesystem::exists(file))
    throw Error(cat("there is no report of a run in ", place.string(),
                    ": name the output folder of `roundhouse run`, or a report.json"));
  return read_json_object(file);
}

Comparison compare(const json& a, const json& b) {
  Comparison comparison;
  try {
    for (Comparison::Table& table :
         std::vector{checkpoints(a, b), recipes(a, b), blocks(a, b, comparison.block_errors), costs(a, b)})
      if (table.rows.size() > 1) comparison.tables.push_back(std::move(table));
  } catch (const json::exception& e) {
    throw Error(cat("this is no report of a run: ", json_problem(e)));
  }
  return comparison;
}

}  // namespace roundhouse

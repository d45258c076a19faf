// SPDX-License-Identifier: Apache-2.0
#include "host/run/run_report.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "host/base/error.h"
#include "host/plan/mix_text.h"
#include "host/report/table.h"

namespace roundhouse {
namespace {

using nlohmann::json;

json number_or_null(const std::optional<double>& number) { return number ? json(*number) : json(); }
json text_or_null(const std::string& text) { return text.empty() ? json() : json(text); }

double four_digits(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", number);
  return std::strtod(text, nullptr);
}

json to_json(const ModelRow& m) {
  json row{{"name", m.name},
           {"format", text_or_null(m.format)},
           {"folder", text_or_null(m.folder.string())},
           {"bytes", m.bytes},
           {"perplexity", m.score ? json(m.score->perplexity.value) : json()},
           {"tokens", m.score ? m.score->perplexity.tokens : 0}};
  if (m.score && m.score->divergence) row.update(to_json(*m.score->divergence));
  if (!m.format.empty()) row.update({{"verified", m.verified}, {"problems", m.problems}, {"notes", m.notes}});
  return row;
}

std::string models_table(const std::vector<ModelRow>& models) {
  std::vector<std::vector<std::string>> rows{{"model", "perplexity", "KLD", "same top", "bytes", "ratio", "folder"}};
  const double original = static_cast<double>(models.front().bytes);
  for (const ModelRow& m : models) {
    const std::vector<std::string> divergence = divergence_cells(m.score ? m.score->divergence : std::nullopt);
    rows.push_back({m.name, m.score ? format_number(m.score->perplexity.value, 4) : "", divergence.front(),
                    divergence.back(), format_bytes(m.bytes), format_number(static_cast<double>(m.bytes) / original, 3),
                    m.folder.string()});
  }
  return format_table(rows);
}

// "" when everything stayed in memory.
std::string spill_text(const Spill& spill) {
  if (spill.bytes == 0) return "";
  return cat("Spilled ", format_bytes(static_cast<uint64_t>(spill.bytes)), " of activations to disk; reading ",
             format_bytes(static_cast<uint64_t>(spill.read)), " and writing ",
             format_bytes(static_cast<uint64_t>(spill.written)), " took ", format_seconds(spill.seconds), ".\n");
}

// "" when there are no experts, or calibration reached them all.
std::string experts_text(const std::vector<BlockReport>& blocks) {
  int64_t experts = 0, few = 0;
  std::string where;
  for (const BlockReport& b : blocks) {
    experts += static_cast<int64_t>(b.expert_tokens.size());
    few += b.few;
    if (b.few > 0) where += cat(where.empty() ? "" : ", ", b.few, " of block ", b.block);
  }
  if (few == 0) return "";
  return cat(
      "Calibration hardly reached ", few, " of ", experts, " experts (", where,
      "): they are not tuned, and rounded by what it told of all experts of their block. More samples reach more; ",
      "tuning.least_tokens sets how many tokens are enough.\n");
}

}  // namespace

json to_json(const RunReport& report) {
  json out{{"model", report.model.string()},
           {"recipe", report.recipe},
           {"device", report.device},
           {"seconds",
            {{"prepare", report.seconds.prepare},
             {"quantize", report.seconds.quantize},
             {"evaluate", report.seconds.evaluate},
             {"total", report.seconds.total}}},
           {"peak_memory_bytes", report.peak_memory_bytes},
           {"spill",
            {{"bytes", report.spill.bytes},
             {"read", report.spill.read},
             {"written", report.spill.written},
             {"seconds", report.spill.seconds}}},
           {"models", json::array()},
           {"blocks", json::array()},
           {"layers", json::array()},
           {"warnings", report.warnings}};
  for (const ModelRow& model : report.models) out["models"].push_back(to_json(model));
  for (const BlockReport& b : report.blocks) {
    out["blocks"].push_back({{"block", b.block},
                             {"first_loss", b.first_loss},
                             {"best_loss", b.best_loss},
                             {"best_iteration", b.best_iteration},
                             {"error_alone", number_or_null(b.error_alone)},
                             {"error_in_chain", number_or_null(b.error_in_chain)},
                             {"seconds", b.seconds},
                             {"loss", b.of_logits ? "divergence of logits" : "squared error"},
                             {"losses", json::array()}});
    for (const double loss : b.losses) out["blocks"].back()["losses"].push_back(four_digits(loss));
    if (!b.expert_tokens.empty())
      out["blocks"].back().update({{"expert_tokens", b.expert_tokens}, {"experts_with_few_tokens", b.few}});
  }
  if (report.mix) out["mix"] = to_json(*report.mix);
  for (const LayerRow& layer : report.layers)
    out["layers"].push_back({{"name", layer.name}, {"scheme", layer.scheme}, {"bytes", layer.bytes}});
  return out;
}

std::string readable(const json& value, int indent) {
  const bool numbers =
      value.is_array() && std::all_of(value.begin(), value.end(), [](const json& v) { return v.is_number(); });
  if (!value.is_structured() || value.empty() || numbers)
    return value.dump(-1, ' ', false, json::error_handler_t::replace);
  const std::string line = "\n" + std::string(static_cast<size_t>(indent), ' ');
  std::string text;
  for (const auto& [key, member] : value.items())
    text += cat(text.empty() ? "" : ",", line, "  ", value.is_object() ? cat(readable(json(key)), ": ") : "",
                readable(member, indent + 2));
  return value.is_object() ? cat("{", text, line, "}") : cat("[", text, line, "]");
}

std::string summary(const RunReport& report) {
  std::string text = cat(models_table(report.models), "\nQuantized in ", format_seconds(report.seconds.quantize),
                         " on ", report.device, ", ", format_seconds(report.seconds.total), " in all; peak memory ",
                         format_bytes(report.peak_memory_bytes), ".\n", spill_text(report.spill),
                         report.mix ? summary(*report.mix) : "", experts_text(report.blocks),
                         "Report: ", (report.notes() / "report.html").string(), "\n");
  for (const ModelRow& m : report.models)
    for (const std::string& note : m.notes) text += cat("Note on ", m.folder.string(), ": ", note, "\n");
  for (const ServeCommand& serve : report.commands) text += cat("Serve with ", serve.engine, ": ", serve.command, "\n");
  return text;
}

void require_verified(const RunReport& report) {
  for (const ModelRow& m : report.models) {
    if (m.problems.empty()) continue;
    std::string text;
    for (const std::string& problem : m.problems) text += "\n  " + problem;
    throw Error(cat(m.folder.string(), " does not read back as what the run made; do not use it:", text));
  }
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/run/report_page.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "host/base/error.h"
#include "host/plan/mix_text.h"
#include "host/report/table.h"

namespace roundhouse {
namespace {

constexpr const char* kStyle = R"(
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1d2733; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #d9dee4; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f4f6f8; padding: 1rem; overflow-x: auto; font-size: 13px; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #45525f; }
)";

std::string escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string models_table(const std::vector<ModelRow>& models) {
  std::string rows = "<tr><th>model</th><th class=n>bytes</th><th class=n>perplexity</th>";
  for (const std::string& head : kDivergenceHeads) rows += cat("<th class=n>", head, "</th>");
  rows += "<th>folder</th></tr>";
  for (const ModelRow& m : models) {
    rows += cat("<tr><td>", escape(m.name), "</td><td class=n>", format_bytes(m.bytes), "</td><td class=n>",
                m.score ? format_number(m.score->perplexity.value, 4) : "", "</td>");
    for (const std::string& cell : divergence_cells(m.score ? m.score->divergence : std::nullopt))
      rows += cat("<td class=n>", cell, "</td>");
    rows += cat("<td>", escape(m.folder.string()), "</td></tr>");
  }
  std::string findings;
  for (const ModelRow& m : models)
    for (const auto* texts : {&m.problems, &m.notes})
      for (const std::string& text : *texts)
        findings += cat("<li>", texts == &m.problems ? "<b>problem</b> " : "", escape(m.folder.string()), ": ",
                        escape(text), "</li>");
  return cat("<table>", rows, "</table>", findings.empty() ? "" : cat("<ul>", findings, "</ul>"));
}

// Horizontal bars, one a model with a perplexity.
std::string perplexity_plot(const std::vector<ModelRow>& models) {
  double largest = 0;
  int bars = 0;
  for (const ModelRow& m : models)
    if (m.score) {
      largest = std::max(largest, m.score->perplexity.value);
      ++bars;
    }
  if (bars == 0) return "<p>Not evaluated: the recipe has no evaluation data.</p>";
  std::string svg = cat("<svg viewBox='0 0 800 ", bars * 32, "' role='img'><title>Perplexity</title>");
  int row = 0;
  for (const ModelRow& m : models) {
    if (!m.score) continue;
    const double value = m.score->perplexity.value;
    const double width = 480 * value / largest;
    const int y = 32 * row++;
    svg += cat("<text x='0' y='", y + 20, "'>", escape(m.name), "</text><rect x='220' y='", y + 6, "' width='", width,
               "' height='20' fill='", m.format.empty() ? "#8d99a6" : "#2f7d5b", "'/><text x='", 226 + width, "' y='",
               y + 20, "'>", format_number(value, 3), "</text>");
  }
  return svg + "</svg>";
}

// Two values of each block, where it has them, and what they are.
struct BlockPlot {
  std::string title, text, first_word, second_word;
  std::function<double(const BlockReport&)> first, second;  // 0: none
};

// On a logarithmic axis; "" when no block has a value.
std::string block_plot(const std::vector<BlockReport>& blocks, const BlockPlot& plot) {
  double low = INFINITY, high = 0;
  for (const BlockReport& b : blocks) {
    for (const double value : {plot.first(b), plot.second(b)}) {
      if (value <= 0) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  if (high == 0) return "";
  const double bottom = std::floor(std::log10(low)), top = std::max(bottom + 1, std::ceil(std::log10(high)));
  const double n = static_cast<double>(blocks.size());
  const auto x = [&](double i) { return 70 + 700 * (n > 1 ? i / (n - 1) : 0.5); };
  const auto y = [&](double value) { return 20 + 220 * (top - std::log10(value)) / (top - bottom); };
  std::string svg =
      cat("<h2>", plot.title, "</h2><svg viewBox='0 0 800 280' role='img'><title>", plot.title, "</title>");
  for (double decade = bottom; decade <= top; ++decade) {
    const double at = y(std::pow(10, decade));
    svg += cat("<line x1='70' x2='770' y1='", at, "' y2='", at, "' stroke='#e3e7eb'/><text x='8' y='", at + 4, "'>1e",
               decade, "</text>");
  }
  int i = 0;
  for (const BlockReport& b : blocks) {
    const double first = plot.first(b), second = plot.second(b);
    if (first > 0 && second > 0)
      svg += cat("<line x1='", x(i), "' x2='", x(i), "' y1='", y(first), "' y2='", y(second), "' stroke='#b9c3cd'/>");
    for (const bool is_first : {true, false})
      if (const double value = is_first ? first : second; value > 0)
        svg += cat("<circle cx='", x(i), "' cy='", y(value), "' r='4' fill='", is_first ? "#c0693f" : "#2f7d5b",
                   "'><title>block ", i, " ", is_first ? plot.first_word : plot.second_word, ": ", value,
                   "</title></circle>");
    ++i;
  }
  return svg + "<text x='70' y='268'>block 0</text><text x='770' y='268' text-anchor='end'>block " +
         std::to_string(blocks.size() - 1) + "</text></svg><p>" + plot.text +
         ": <span style='color:#c0693f'>●</span> " + plot.first_word + ", <span style='color:#2f7d5b'>●</span> " +
         plot.second_word + ".</p>";
}

std::string block_plots(const std::vector<BlockReport>& blocks) {
  const std::string loss = block_plot(
      blocks, {"Loss of each block", "Mean squared error of the block's output", "rounded", "tuned",
               [](const BlockReport& b) { return b.first_loss; }, [](const BlockReport& b) { return b.best_loss; }});
  return (loss.empty() ? "<h2>Loss of each block</h2><p>No block was tuned.</p>" : loss) +
         block_plot(blocks, {"Relative error of each block", "‖got − wanted‖ / ‖wanted‖ of the block's output",
                             "after quantized blocks", "after original blocks",
                             [](const BlockReport& b) { return b.error_in_chain.value_or(0); },
                             [](const BlockReport& b) { return b.error_alone.value_or(0); }});
}

// A bar an expert, block below block; "" when there are no experts.
std::string experts_plot(const std::vector<BlockReport>& blocks) {
  int64_t most = 1;
  int rows = 0;
  for (const BlockReport& b : blocks) {
    if (!b.expert_tokens.empty()) ++rows;
    for (const int64_t tokens : b.expert_tokens) most = std::max(most, tokens);
  }
  if (rows == 0) return "";
  std::string svg = cat("<h2>Calibration tokens of each expert</h2><svg viewBox='0 0 800 ", rows * 44,
                        "' role='img'><title>Calibration tokens of each expert</title>");
  int row = 0;
  for (const BlockReport& b : blocks) {
    if (b.expert_tokens.empty()) continue;
    const double bottom = 44.0 * ++row, width = 700.0 / static_cast<double>(b.expert_tokens.size());
    svg += cat("<text x='0' y='", bottom - 4, "'>block ", b.block, "</text>");
    for (size_t i = 0; i < b.expert_tokens.size(); ++i) {
      const double height = 36.0 * static_cast<double>(b.expert_tokens[i]) / static_cast<double>(most);
      svg += cat("<rect x='", 90 + width * static_cast<double>(i), "' y='", bottom - height, "' width='", width * 0.9,
                 "' height='", height, "' fill='#2f7d5b'><title>expert ", i, ": ", b.expert_tokens[i],
                 " tokens</title></rect>");
    }
  }
  return svg + "</svg>";
}

// The least loss that is predicted at each size, and the size that was chosen; "": the recipe has no mix.
std::string mix_plot(const MixPlan* mix) {
  if (!mix || !mix->chosen) return "";
  double low = INFINITY, high = 0;
  for (const SizedLoss& point : mix->curve) {
    if (point.loss <= 0) continue;
    low = std::min(low, point.loss);
    high = std::max(high, point.loss);
  }
  const double bottom = std::floor(std::log10(low)), top = std::max(bottom + 1, std::ceil(std::log10(high)));
  const auto first = static_cast<double>(mix->curve.front().bytes), last = static_cast<double>(mix->curve.back().bytes);
  const auto x = [&](uint64_t bytes) {
    return 70 + 700 * (last > first ? (static_cast<double>(bytes) - first) / (last - first) : 0.5);
  };
  const auto y = [&](double loss) { return 20 + 220 * (top - std::log10(std::max(loss, low))) / (top - bottom); };
  std::string svg = "<h2>Size and predicted divergence</h2>";
  if (high > 0) {
    svg += "<svg viewBox='0 0 800 280' role='img'><title>Size and predicted divergence</title>";
    for (double decade = bottom; decade <= top; ++decade)
      svg += cat("<line x1='70' x2='770' y1='", y(std::pow(10, decade)), "' y2='", y(std::pow(10, decade)),
                 "' stroke='#e3e7eb'/><text x='8' y='", y(std::pow(10, decade)) + 4, "'>1e", decade, "</text>");
    std::string line;
    for (const SizedLoss& point : mix->curve) line += cat(x(point.bytes), ",", y(point.loss), " ");
    svg += cat("<polyline points='", line, "' fill='none' stroke='#2f7d5b' stroke-width='2'/>");
    const auto mark = [&](const SizedLoss& at, const char* color, const std::string& text) {
      svg += cat("<circle cx='", x(at.bytes), "' cy='", y(at.loss), "' r='5' fill='", color, "'><title>", escape(text),
                 ": ", format_bytes(at.bytes), ", ", at.loss, "</title></circle>");
    };
    for (const MixScheme& scheme : mix->schemes)
      if (scheme.alone.loss > 0) mark(scheme.alone, "#8d99a6", scheme.name + " alone");
    mark(*mix->chosen, "#c0693f", "chosen");
    svg +=
        cat("<text x='70' y='268'>", format_bytes(mix->curve.front().bytes),
            "</text><text x='770' y='268' text-anchor='end'>", format_bytes(mix->curve.back().bytes), "</text></svg>");
  }
  std::string rows =
      "<tr><th>scheme</th><th class=n>alone</th><th class=n>KLD, predicted</th><th class=n>layers</th></tr>";
  for (const MixScheme& scheme : mix->schemes)
    rows +=
        cat("<tr><td>", escape(scheme.name), "</td><td class=n>", format_bytes(scheme.alone.bytes), "</td><td class=n>",
            format_number(scheme.alone.loss, 5), "</td><td class=n>", scheme.layers, "</td></tr>");
  return cat(svg, "<p>", escape(summary(*mix)), " Predicted is the mean divergence of rounding without tuning, from ",
             "calibration texts: <span style='color:#2f7d5b'>●</span> the best mix of each size, ",
             "<span style='color:#8d99a6'>●</span> one scheme alone, <span style='color:#c0693f'>●</span> chosen.</p>",
             "<table>", rows, "</table>");
}

std::string layers_table(const std::vector<LayerRow>& layers) {
  std::string rows = "<tr><th>layer</th><th>scheme</th></tr>";
  for (const LayerRow& l : layers) rows += cat("<tr><td>", escape(l.name), "</td><td>", escape(l.scheme), "</td></tr>");
  return "<table>" + rows + "</table>";
}

}  // namespace

std::string report_page(const RunReport& report) {
  const std::string model = escape(report.model.string());
  return cat("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
             "<title>Roundhouse: ", model, "</title><style>", kStyle, "</style><h1>", model, "</h1><p>Quantized on ",
             escape(report.device), " in ", format_seconds(report.seconds.quantize), " (",
             format_seconds(report.seconds.total), " with evaluation), peak memory ",
             format_bytes(report.peak_memory_bytes), ".</p>", models_table(report.models), "<h2>Perplexity</h2>",
             perplexity_plot(report.models), mix_plot(report.mix.get()), block_plots(report.blocks),
             experts_plot(report.blocks), "<h2>Layers</h2><details><summary>", report.layers.size(),
             " layers</summary>", layers_table(report.layers), "</details><h2>Recipe</h2><pre>", escape(report.recipe),
             "</pre></html>\n");
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/run/report_page.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>

#include "host/base/error.h"
#include "host/plan/mix_text.h"
#include "host/report/table.h"

namespace roundhouse {
namespace {

// For a screen of any width, light or dark, and for paper.
constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1d2733; --faint: #5b6875; --line: #d9dee4; --paper: #fff; --box: #f4f6f8; --a: #c0693f;
  --b: #2f7d5b; --none: #8d99a6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --faint: #a3afba; --line: #36414c; --paper: #14191f; --box: #1d242c;
  --a: #e08a5c; --b: #57b58b; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--box); padding: 1rem; overflow-x: auto; font-size: 13px; }
svg { width: 100%; min-width: 34rem; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--faint); }
.a { fill: var(--a); color: var(--a); } .b { fill: var(--b); color: var(--b); } .none { fill: var(--none); } svg line, svg path
  { stroke: var(--line); fill: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; margin: 1rem 0; }
.cards div { background: var(--box); padding: .6rem .9rem; border-radius: .4rem; } .cards b { display: block; font-size: 1.2rem; }
.cards span { color: var(--faint); font-size: .85rem; }
@media print { body { margin: 0; max-width: none; } details > * { display: block; } svg, .cards, tr { break-inside: avoid; } }
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

// The first row is the header; cells that begin with a digit, and their column's head, stand to the right.
std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::string html = "<div class=wide><table>";
  for (size_t r = 0; r < rows.size(); ++r) {
    html += "<tr>";
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const std::string& below = rows.size() > 1 && r == 0 ? rows.back()[c] : rows[r][c];
      const bool number = !below.empty() && below.front() >= '0' && below.front() <= '9';
      const char* const tag = r == 0 ? "th" : "td";
      html += cat("<", tag, number ? " class=n>" : ">", escape(rows[r][c]), "</", tag, ">");
    }
    html += "</tr>";
  }
  return html + "</table></div>";
}

std::string page(const std::string& title, const std::string& body) {
  return cat(
      "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width, "
      "initial-scale=1'><title>",
      escape(title), "</title><style>", kStyle, "</style>", body, "</html>\n");
}

std::string models_table(const std::vector<ModelRow>& models) {
  std::vector<std::vector<std::string>> rows{{"model", "bytes", "perplexity"}};
  rows[0].insert(rows[0].end(), std::begin(kDivergenceHeads), std::end(kDivergenceHeads));
  rows[0].push_back("folder");
  for (const ModelRow& m : models) {
    std::vector<std::string> row{m.name, format_bytes(m.bytes),
                                 m.score ? format_number(m.score->perplexity.value, 4) : ""};
    const std::vector<std::string> cells = divergence_cells(m.score ? m.score->divergence : std::nullopt);
    row.insert(row.end(), cells.begin(), cells.end());
    row.push_back(m.folder.string());
    rows.push_back(std::move(row));
  }
  std::string findings;
  for (const ModelRow& m : models)
    for (const auto* texts : {&m.problems, &m.notes})
      for (const std::string& text : *texts)
        findings += cat("<li>", texts == &m.problems ? "<b>problem</b> " : "", escape(m.folder.string()), ": ",
                        escape(text), "</li>");
  return table(rows) + (findings.empty() ? "" : cat("<ul>", findings, "</ul>"));
}

std::string cards(const RunReport& report) {
  if (report.models.empty()) return "";
  const ModelRow& original = report.models.front();
  const ModelRow& best = report.models.back();
  std::vector<std::pair<std::string, std::string>> all{
      {format_bytes(best.bytes),
       cat("of ", format_bytes(original.bytes), ", ",
           format_number(100 * static_cast<double>(best.bytes) / static_cast<double>(original.bytes), 1), " %")}};
  if (best.score && original.score)
    all.emplace_back(format_number(best.score->perplexity.value, 3),
                     cat("perplexity; the original's is ", format_number(original.score->perplexity.value, 3)));
  if (best.score && best.score->divergence)
    all.emplace_back(divergence_cells(best.score->divergence).front(), "nats of KL divergence from the original");
  all.emplace_back(format_seconds(report.seconds.quantize),
                   cat("quantizing on ", report.device, "; ", format_seconds(report.seconds.total), " in all"));
  all.emplace_back(format_bytes(report.peak_memory_bytes), "of memory at the most");
  std::string html = "<div class=cards>";
  for (const auto& [value, text] : all)
    html += cat("<div><b>", escape(value), "</b><span>", escape(text), "</span></div>");
  return html + "</div>";
}

std::string warnings_list(const std::vector<std::string>& warnings) {
  if (warnings.empty()) return "";
  std::string items;
  for (const std::string& warning : warnings) items += cat("<li>", escape(warning), "</li>");
  return cat("<h2>Warnings</h2><ul>", items, "</ul>");
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
  std::string svg = cat("<div class=wide><svg viewBox='0 0 800 ", bars * 32, "' role='img'><title>Perplexity</title>");
  int row = 0;
  for (const ModelRow& m : models) {
    if (!m.score) continue;
    const double value = m.score->perplexity.value;
    const double width = 480 * value / largest;
    const int y = 32 * row++;
    svg += cat("<text x='0' y='", y + 20, "'>", escape(m.name), "</text><rect x='220' y='", y + 6, "' width='", width,
               "' height='20' class='", m.format.empty() ? "none" : "b", "'/><text x='", 226 + width, "' y='", y + 20,
               "'>", format_number(value, 3), "</text>");
  }
  return svg + "</svg></div>";
}

// The logarithmic axis of a plot of 800 x 280, in whole decades.
class LogAxis {
 public:
  // Values that are not positive have no place on it.
  void add(double value) {
    if (value <= 0) return;
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  bool empty() const { return high_ == 0; }
  double y(double value) const {
    return 20 + 220 * (top() - std::log10(std::max(value, std::pow(10, bottom())))) / (top() - bottom());
  }
  std::string lines() const {
    std::string svg;
    for (double decade = bottom(); decade <= top(); ++decade) {
      const double at = y(std::pow(10, decade));
      svg +=
          cat("<line x1='70' x2='770' y1='", at, "' y2='", at, "'/><text x='8' y='", at + 4, "'>1e", decade, "</text>");
    }
    return svg;
  }

 private:
  double bottom() const { return std::floor(std::log10(low_)); }
  double top() const { return std::max(bottom() + 1, std::ceil(std::log10(high_))); }

  double low_ = INFINITY, high_ = 0;
};

// Of plots of 800 x 280: a heading and the begin of the picture.
std::string plot_head(const std::string& title) {
  return cat("<h2>", title, "</h2><div class=wide><svg viewBox='0 0 800 280' role='img'><title>", title, "</title>");
}
// Its end, with what stands at both ends of the x axis.
std::string plot_foot(const std::string& first, const std::string& last) {
  return cat("<text x='70' y='268'>", first, "</text><text x='770' y='268' text-anchor='end'>", last,
             "</text></svg></div>");
}

// Where item i of `count` stands on the x axis.
double plot_x(size_t i, size_t count) {
  return 70 + 700 * (count > 1 ? static_cast<double>(i) / static_cast<double>(count - 1) : 0.5);
}

// Two values of each block, or 0 where it has none, and what they are.
struct BlockPlot {
  std::string title, text, first_word, second_word;
  std::vector<std::pair<double, double>> values;
};

// On a logarithmic axis; "" when no block has a value.
std::string block_plot(const BlockPlot& plot) {
  LogAxis axis;
  for (const auto& [first, second] : plot.values)
    for (const double value : {first, second}) axis.add(value);
  if (axis.empty()) return "";
  const size_t count = plot.values.size();
  const auto x = [&](size_t i) { return plot_x(i, count); };
  const auto y = [&](double value) { return axis.y(value); };
  std::string svg = plot_head(plot.title) + axis.lines();
  for (size_t i = 0; i < count; ++i) {
    const auto& [first, second] = plot.values[i];
    if (first > 0 && second > 0)
      svg += cat("<line x1='", x(i), "' x2='", x(i), "' y1='", y(first), "' y2='", y(second), "'/>");
    for (const bool is_first : {true, false})
      if (const double value = is_first ? first : second; value > 0)
        svg += cat("<circle cx='", x(i), "' cy='", y(value), "' r='4' class='", is_first ? "a" : "b", "'><title>block ",
                   i, " ", is_first ? plot.first_word : plot.second_word, ": ", value, "</title></circle>");
  }
  return cat(svg, plot_foot("block 0", cat("block ", count - 1)), "<p>", plot.text, ": <span class=a>●</span> ",
             plot.first_word, ", <span class=b>●</span> ", plot.second_word, ".</p>");
}

std::string loss_text(const std::vector<BlockReport>& blocks) {
  const bool logits = std::any_of(blocks.begin(), blocks.end(), [](const BlockReport& b) { return b.of_logits; });
  return cat("Mean squared error of the block's output",
             logits ? " (of the last block: divergence of the logits, in nats)" : "");
}

// The loss of every iteration, a line a block, from the first block's colour to the last one's; a point is the mean of
// neighbouring iterations where there are more than kPoints. "": no block was tuned.
std::string iterations_plot(const std::vector<BlockReport>& blocks) {
  constexpr size_t kPoints = 100;
  LogAxis axis;
  std::vector<std::vector<double>> lines;
  size_t iterations = 0;
  for (const BlockReport& b : blocks) {
    const size_t points = std::min(kPoints, b.losses.size());
    std::vector<double>& line = lines.emplace_back(points);
    for (size_t i = 0; i < points; ++i) {
      const auto begin = b.losses.begin() + static_cast<std::ptrdiff_t>(i * b.losses.size() / points),
                 end = b.losses.begin() + static_cast<std::ptrdiff_t>((i + 1) * b.losses.size() / points);
      line[i] = std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin);
      axis.add(line[i]);
    }
    iterations = std::max(iterations, b.losses.size());
  }
  if (axis.empty()) return "";
  std::string svg = plot_head("Loss by iteration") + axis.lines();
  for (size_t block = 0; block < lines.size(); ++block) {
    if (lines[block].empty()) continue;
    svg += "<polyline points='";
    for (size_t i = 0; i < lines[block].size(); ++i)
      svg += cat(format_number(plot_x(i, lines[block].size()), 1), ",", format_number(axis.y(lines[block][i]), 1), " ");
    const size_t share = lines.size() > 1 ? 100 * block / (lines.size() - 1) : 0;
    svg += cat("' style='fill: none; stroke: color-mix(in srgb, var(--b) ", share, "%, var(--a))'><title>block ", block,
               "</title></polyline>");
  }
  return cat(svg, plot_foot("iteration 1", cat("iteration ", iterations)), "<p>", loss_text(blocks),
             " on each iteration's batch, a line a block: from <span class=a>●</span> the first to "
             "<span class=b>●</span> the last.</p>");
}

std::string block_plots(const std::vector<BlockReport>& blocks) {
  BlockPlot loss{"Loss of each block", loss_text(blocks), "rounded", "tuned", {}},
      error{"Relative error of each block",
            "‖got − wanted‖ / ‖wanted‖ of the block's output",
            "after quantized blocks",
            "after original blocks",
            {}};
  for (const BlockReport& b : blocks) {
    loss.values.emplace_back(b.first_loss, b.best_loss);
    error.values.emplace_back(b.error_in_chain.value_or(0), b.error_alone.value_or(0));
  }
  const std::string tuned = block_plot(loss);
  return (tuned.empty() ? "<h2>Loss of each block</h2><p>No block was tuned.</p>" : tuned) + iterations_plot(blocks) +
         block_plot(error);
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
  std::string svg = cat("<h2>Calibration tokens of each expert</h2><div class=wide><svg viewBox='0 0 800 ", rows * 44,
                        "' role='img'><title>Calibration tokens of each expert</title>");
  int row = 0;
  for (const BlockReport& b : blocks) {
    if (b.expert_tokens.empty()) continue;
    const double bottom = 44.0 * ++row, width = 700.0 / static_cast<double>(b.expert_tokens.size());
    svg += cat("<text x='0' y='", bottom - 4, "'>block ", b.block, "</text>");
    for (size_t i = 0; i < b.expert_tokens.size(); ++i) {
      const double height = 36.0 * static_cast<double>(b.expert_tokens[i]) / static_cast<double>(most);
      svg +=
          cat("<rect x='", 90 + width * static_cast<double>(i), "' y='", bottom - height, "' width='", width * 0.9,
              "' height='", height, "' class=b><title>expert ", i, ": ", b.expert_tokens[i], " tokens</title></rect>");
    }
  }
  return svg + "</svg></div>";
}

// The least loss that is predicted at each size, and the size that was chosen; "": the recipe has no mix.
std::string mix_plot(const MixPlan* mix) {
  if (!mix || !mix->chosen) return "";
  LogAxis axis;
  for (const SizedLoss& point : mix->curve) axis.add(point.loss);
  const auto first = static_cast<double>(mix->curve.front().bytes), last = static_cast<double>(mix->curve.back().bytes);
  const auto x = [&](uint64_t bytes) {
    return 70 + 700 * (last > first ? (static_cast<double>(bytes) - first) / (last - first) : 0.5);
  };
  const auto y = [&](double loss) { return axis.y(loss); };
  const char* const title = "Size and predicted divergence";
  std::string svg = axis.empty() ? cat("<h2>", title, "</h2>") : plot_head(title) + axis.lines();
  if (!axis.empty()) {
    std::string line;
    for (const SizedLoss& point : mix->curve) line += cat(x(point.bytes), ",", y(point.loss), " ");
    svg += cat("<polyline points='", line, "' style='fill: none; stroke: var(--b); stroke-width: 2'/>");
    const auto mark = [&](const SizedLoss& at, const char* kind, const std::string& text) {
      svg += cat("<circle cx='", x(at.bytes), "' cy='", y(at.loss), "' r='5' class='", kind, "'><title>", escape(text),
                 ": ", format_bytes(at.bytes), ", ", at.loss, "</title></circle>");
    };
    for (const MixScheme& scheme : mix->schemes)
      if (scheme.alone.loss > 0 && scheme.alone.bytes > 0) mark(scheme.alone, "none", scheme.name + " alone");
    mark(*mix->chosen, "a", "chosen");
    svg += plot_foot(format_bytes(mix->curve.front().bytes), format_bytes(mix->curve.back().bytes));
  }
  std::vector<std::vector<std::string>> rows{{"scheme", "alone", "KLD, predicted", "layers"}};
  for (const MixScheme& scheme : mix->schemes)
    rows.push_back({scheme.name, scheme.alone.bytes > 0 ? format_bytes(scheme.alone.bytes) : "",
                    format_number(scheme.alone.loss, 5), std::to_string(scheme.layers)});
  return cat(svg, "<p>", escape(summary(*mix)), " Predicted is the mean divergence of rounding without tuning, from ",
             "calibration texts: <span class=b>●</span> the best mix of each size, <span style='color: "
             "var(--none)'>●</span> one scheme ",
             "alone, <span class=a>●</span> chosen.</p>", table(rows));
}

// Layers and bytes by scheme, then layer by layer.
std::string layers_tables(const std::vector<LayerRow>& layers) {
  std::vector<std::pair<std::string, std::pair<int64_t, uint64_t>>> schemes;
  std::vector<std::vector<std::string>> all{{"layer", "scheme", "bytes"}};
  for (const LayerRow& l : layers) {
    all.push_back({l.name, l.scheme, format_bytes(l.bytes)});
    auto found = std::find_if(schemes.begin(), schemes.end(), [&](const auto& s) { return s.first == l.scheme; });
    if (found == schemes.end()) found = schemes.insert(schemes.end(), {l.scheme, {0, 0}});
    ++found->second.first;
    found->second.second += l.bytes;
  }
  std::vector<std::vector<std::string>> rows{{"scheme", "layers", "bytes"}};
  for (const auto& [scheme, sums] : schemes)
    rows.push_back({scheme, std::to_string(sums.first), format_bytes(sums.second)});
  return cat("<h2>Layers</h2>", table(rows), "<details><summary>", layers.size(), " layers</summary>", table(all),
             "</details>");
}

// Seconds of each block; "" where there are none.
std::string time_plot(const std::vector<BlockReport>& blocks) {
  double most = 0;
  for (const BlockReport& b : blocks) most = std::max(most, b.seconds);
  if (most == 0) return "";
  std::string svg =
      "<h2>Time of each block</h2><div class=wide><svg viewBox='0 0 800 150' role='img'><title>Time of each "
      "block</title>";
  const double width = 700.0 / static_cast<double>(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    const double height = 110 * blocks[i].seconds / most;
    svg += cat("<rect x='", 70 + width * static_cast<double>(i), "' y='", 120 - height, "' width='",
               std::min(width * 0.9, 60.0), "' height='", height, "' class=b><title>block ", i, ": ",
               format_seconds(blocks[i].seconds), "</title></rect>");
  }
  return cat(svg, "<text x='0' y='20'>", format_seconds(most),
             "</text><text x='70' y='138'>block 0</text><text x='770' y='138' ", "text-anchor='end'>block ",
             blocks.size() - 1, "</text></svg></div>");
}

}  // namespace

std::string report_page(const RunReport& report) {
  const std::string model = report.model.string();
  return page(
      "Roundhouse: " + model,
      cat("<h1>", escape(model), "</h1>", cards(report), models_table(report.models), warnings_list(report.warnings),
          "<h2>Perplexity</h2>", perplexity_plot(report.models), mix_plot(report.mix.get()), block_plots(report.blocks),
          time_plot(report.blocks), experts_plot(report.blocks), layers_tables(report.layers), "<h2>Recipe</h2><pre>",
          escape(report.recipe), "</pre>"));
}

std::string comparison_page(const std::string& a, const std::string& b, const Comparison& comparison) {
  std::string body = cat("<h1>Two runs</h1><p><span class=a>●</span> A: ", escape(a),
                         "<br><span class=b>●</span> B: ", escape(b), "</p>");
  for (const auto& [title, rows] : comparison.tables) body += cat("<h2>", escape(title), "</h2>", table(rows));
  body += block_plot({"Relative error of each block",
                      "‖got − wanted‖ / ‖wanted‖ of the block's output, after quantized blocks", "A", "B",
                      comparison.block_errors});
  return page("Roundhouse: two runs", body);
}

}  // namespace roundhouse

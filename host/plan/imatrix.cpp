// SPDX-License-Identifier: Apache-2.0
#include "host/plan/imatrix.h"

#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/base/name_numbers.h"
#include "host/base/words.h"
#include "host/checkpoint/imatrix_file.h"

namespace roundhouse {
namespace {

constexpr const char* kIndex = "{}";  // a block's or an expert's, in the descriptors' names

std::string own_name(const LayerPlan& layer) { return layer.info.name + ".weight"; }

// The name of a layer's weight in importance matrices; the experts of a block have one together.
std::string imatrix_name(const Plan& plan, const Architecture& architecture, const LayerPlan& layer) {
  const std::string index = std::to_string(layer.block);
  std::string module = layer.info.name;
  if (layer.block >= 0) module.replace(plan.block_prefix.size() + 1, index.size(), kIndex);
  if (layer.info.stack)
    for (const NameNumber& number : numbers_in(module))
      if (number.value == layer.info.stack->index) {
        module.replace(number.begin, number.end - number.begin, kIndex);
        break;
      }
  const auto found = architecture.imatrix_names().find(module);
  if (found == architecture.imatrix_names().end()) return own_name(layer);
  std::string name = found->second;
  if (const size_t at = name.find(kIndex); at != std::string::npos) name.replace(at, 2, index);
  return name + ".weight";
}

// A layer's row of an entry.
struct Row {
  const ImatrixEntry& entry;
  int64_t index = 0, rows = 1, cols;

  double count() const {
    return entry.counts.empty() ? 0 : entry.counts[entry.counts.size() == 1 ? 0 : static_cast<size_t>(index)];
  }
  Tensor squares() const {
    return {DType::kF32, {cols}, entry.squares.as<float>() + index * cols, entry.squares.storage()};
  }
  // What is wrong with it, or "".
  std::string fault() const {
    if (entry.squares.elements() != rows * cols)
      return cat("has ", entry.squares.elements(), " values, but ",
                 rows > 1 ? cat("the ", rows, " experts have ", cols, " input channels each")
                          : cat("the layer has ", cols, " input channels"),
                 ": it is of another model");
    if (entry.counts.size() > 1 && static_cast<int64_t>(entry.counts.size()) != rows)
      return cat("has ", entry.counts.size(), " counts for ", rows, rows == 1 ? " row" : " rows");
    if (!std::any_of(entry.counts.begin(), entry.counts.end(), [](double count) { return count > 0; }))
      return "was collected on no tokens";
    const Tensor row = squares();
    const float* const values = row.as<float>();
    const float* const bad = std::find_if(values, values + cols, [](float v) { return !(v >= 0 && std::isfinite(v)); });
    return bad == values + cols ? ""
                                : cat("has the value ", *bad, " at channel ", bad - values,
                                      "; sums of squares are finite and at least 0");
  }
};

}  // namespace

void read_importance(Plan& plan, const Architecture& architecture) {
  const std::filesystem::path& file = *plan.recipe.imatrix.file;
  const ImatrixEntries entries = read_imatrix(file);
  const std::string advice =
      ". Give the model's own file, or omit imatrix.file: it is then collected from calibration.data";
  std::vector<std::string> absent, layers;  // entries, and the layers that they would be for
  std::vector<std::string> unreached;       // experts
  for (LayerPlan& layer : plan.layers) {
    if (!layer.scheme.weight || !is_searched(layer.scheme.weight->rounding)) continue;
    const std::string name = imatrix_name(plan, architecture, layer);
    auto found = entries.find(name);
    const bool together = found != entries.end() && layer.info.stack && name != own_name(layer);
    if (found == entries.end()) found = entries.find(own_name(layer));
    if (found == entries.end()) {
      // llama.cpp leaves the head out unless it is asked for it; of a family that nobody described names are guessed.
      if (layer.block < 0 || plan.rounds_only) {
        absent.push_back(name);
        layers.push_back(layer.info.name);
      } else {
        layer.problems.push_back(cat(file.string(), " has no ", name, " for ", layer.info.name, advice));
      }
      continue;
    }
    Row row{found->second, 0, 1, layer.info.in_features};
    if (together) row.index = layer.info.stack->index, row.rows = layer.info.stack->count;
    if (const std::string why = row.fault(); !why.empty())
      layer.problems.push_back(cat(file.string(), ": ", found->first, " ", why, advice));
    else if (row.count() > 0)
      plan.importance[layer.info.name] = {row.squares(), row.count()};
    else
      unreached.push_back(layer.info.name);
  }
  if (!unreached.empty())
    plan.warnings.push_back(cat(file.string(), " was collected on texts of which no token reached ",
                                first_of(unreached), ": ", unreached.size() == 1 ? "it is" : "they are",
                                " searched without importance"));
  if (!absent.empty())
    plan.warnings.push_back(cat(file.string(), " has no ", first_of(absent), ": ", first_of(layers),
                                layers.size() == 1 ? " is" : " are", " searched without importance"));
}

void save_importance(const Plan& plan, const Architecture& architecture, const Importance& importance, int64_t tokens) {
  const Calibration& calibration = plan.recipe.calibration;
  std::vector<std::string> files;
  for (const DataFile& data : calibration.data) files.push_back(data.file.string());
  Imatrix imatrix{{}, joined(files), tokens / calibration.seqlen, calibration.seqlen};
  for (const LayerPlan& layer : plan.layers) {
    const auto found = importance.find(layer.info.name);
    if (found == importance.end()) continue;
    const std::string name = imatrix_name(plan, architecture, layer);
    const bool together = layer.info.stack && name != own_name(layer);
    const int64_t rows = together ? layer.info.stack->count : 1, row = together ? layer.info.stack->index : 0;
    const Tensor& sums = found->second.sums;
    const int64_t cols = sums.elements();
    ImatrixEntry& entry = imatrix.entries[name];
    if (entry.counts.empty()) {
      entry.counts.resize(static_cast<size_t>(rows));
      entry.squares = Tensor(DType::kF32, {rows, cols});
    }
    std::copy_n(sums.as<float>(), cols, entry.squares.as<float>() + row * cols);
    entry.counts[static_cast<size_t>(row)] = found->second.count;
  }
  write_imatrix(*plan.recipe.imatrix.save, imatrix);
}

}  // namespace roundhouse

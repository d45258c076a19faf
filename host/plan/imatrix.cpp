// SPDX-License-Identifier: Apache-2.0
#include "host/plan/imatrix.h"

#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/base/words.h"
#include "host/checkpoint/imatrix_file.h"

namespace roundhouse {
namespace {

constexpr const char* kBlock = "{}";  // a block's index, in the descriptors' names

std::string own_name(const LayerPlan& layer) { return layer.info.name + ".weight"; }

// The name of a layer's weight in importance matrices.
std::string imatrix_name(const Plan& plan, const Architecture& architecture, const LayerPlan& layer) {
  const std::string index = std::to_string(layer.block);
  std::string module = layer.info.name;
  if (layer.block >= 0) module.replace(plan.block_prefix.size() + 1, index.size(), kBlock);
  const auto found = architecture.imatrix_names().find(module);
  if (found == architecture.imatrix_names().end()) return own_name(layer);
  std::string name = found->second;
  if (const size_t at = name.find(kBlock); at != std::string::npos) name.replace(at, 2, index);
  return name + ".weight";
}

// What is wrong with an entry for `cols` channels, or "".
std::string fault(const ImatrixEntry& entry, int64_t cols) {
  if (entry.squares.elements() != cols)
    return cat("has ", entry.squares.elements(), " values, but the layer has ", cols,
               " input channels: it is of another model");
  if (!(entry.count > 0)) return "was collected on no tokens";
  const float* const values = entry.squares.as<float>();
  const float* const bad = std::find_if(values, values + cols, [](float v) { return !(v >= 0 && std::isfinite(v)); });
  return bad == values + cols
             ? ""
             : cat("has the value ", *bad, " at channel ", bad - values, "; sums of squares are finite and at least 0");
}

}  // namespace

void read_importance(Plan& plan, const Architecture& architecture) {
  const std::filesystem::path& file = *plan.recipe.imatrix.file;
  const ImatrixEntries entries = read_imatrix(file);
  const std::string advice =
      ". Give the model's own file, or omit imatrix.file: it is then collected from calibration.data";
  std::vector<std::string> absent, layers;  // entries, and the layers that they would be for
  for (LayerPlan& layer : plan.layers) {
    if (!layer.scheme.weight || !is_searched(layer.scheme.weight->rounding)) continue;
    const std::string name = imatrix_name(plan, architecture, layer);
    auto found = entries.find(name);
    if (found == entries.end()) found = entries.find(own_name(layer));
    if (found == entries.end()) {
      // llama.cpp leaves the head out unless it is asked for it; of a family that nobody described names are guessed.
      if (layer.block < 0 || plan.rounds_only) {
        absent.push_back(name);
        layers.push_back(layer.info.name);
      } else {
        layer.problems.push_back(cat(file.string(), " has no ", name, " for ", layer.info.name, advice));
      }
    } else if (const std::string why = fault(found->second, layer.info.in_features); !why.empty()) {
      layer.problems.push_back(cat(file.string(), ": ", found->first, " ", why, advice));
    } else {
      const Tensor& squares = found->second.squares;
      plan.importance[layer.info.name] = Tensor(DType::kF32, {squares.elements()}, squares.data(), squares.storage());
    }
  }
  if (!absent.empty())
    plan.warnings.push_back(cat(file.string(), " has no ", first_of(absent), ": ", first_of(layers),
                                layers.size() == 1 ? " is" : " are", " searched without importance"));
}

void save_importance(const Plan& plan, const Architecture& architecture, const Importance& importance, int64_t tokens) {
  const Calibration& calibration = plan.recipe.calibration;
  std::vector<std::string> files;
  for (const DataFile& data : calibration.data) files.push_back(data.file.string());
  Imatrix imatrix{{}, joined(files), tokens / calibration.seqlen, calibration.seqlen};
  for (const LayerPlan& layer : plan.layers)
    if (const auto found = importance.find(layer.info.name); found != importance.end())
      imatrix.entries[imatrix_name(plan, architecture, layer)] = {found->second, static_cast<double>(tokens)};
  write_imatrix(*plan.recipe.imatrix.save, imatrix);
}

}  // namespace roundhouse

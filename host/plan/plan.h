// SPDX-License-Identifier: Apache-2.0
// A recipe resolved against a model and the plugins: what will be done with every layer and every tensor.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/abi/views.h"
#include "host/base/scheme.h"
#include "host/base/tensor.h"
#include "host/base/words.h"
#include "host/model/architecture.h"
#include "host/recipe/recipe.h"

namespace roundhouse {

// The squared inputs of a layer.
struct InputSquares {
  Tensor sums;       // f32 [in_features], or what is proportional to them
  double count = 0;  // what was summed: tokens
};
using Importance = std::map<std::string, InputSquares>;  // by layer

struct LayerPlan {
  LinearInfo info;
  int64_t block = -1;         // -1: outside the blocks
  DType dtype = DType::kF32;  // of the weight in the checkpoint
  Scheme scheme;              // without `weight` and `activation` it stays as it is
  std::string matched;        // the text of the entry under `layers:` that decided; "": none
  std::string assigned;       // the format that chose the scheme, and why where it says so; "": none
  std::shared_ptr<const EncodingCopy>
      encoding;  // what its data type makes, or the source holds; nullptr: the weight stays
  std::shared_ptr<const EncodingCopy> activation_encoding;  // nullptr: its input is not quantized
  uint64_t encoded_bytes = 0;     // of the encoding, with codes packed as densely as their bits allow
  bool calibrated_input = false;  // its activation quantizer has a range that is calibrated
  std::vector<std::string> problems;
  bool unfit = false;  // they are of its data type or a format: left as it is, it has none of them
  // Of a run: calibration gave it too little to be tuned, whatever its scheme says.
  bool too_few_tokens = false;

  // It has the encoding that the source packs it from.
  bool kept() const { return encoding && !scheme.weight; }
  // "affine-int/1"; "" when the weight stays as it is.
  std::string encoding_id() const { return encoding ? encoding->id() : ""; }
};

struct FormatPlan {
  std::string id;
  uint64_t bytes_estimate = 0;                               // of the checkpoint that it will write
  bool resumes = true;                                       // it can go on in another process
  nlohmann::json backends = nlohmann::json::array();         // of the format's, those that take every quantized layer
  std::vector<std::pair<std::string, std::string>> omitted;  // tensors that it does not store, and why
};

// A tensor of the source, under the name by which formats get it.
struct TensorPlan {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype;
  bool extra = false;  // the architecture does not know it
  std::optional<StackedPart> part = std::nullopt;
};

struct MixPlan;

struct Plan {
  Recipe recipe;  // with every scheme complete, nothing left to presets or defaults
  Scheme scheme;  // the recipe's, for layers that no entry matches
  std::vector<LayerPlan>
      layers;  // block by block in the order of computation, then the head; the embedding if assigned
  std::vector<TensorPlan> tensors;
  std::vector<FormatPlan> formats;
  std::string block_prefix;  // "model.layers"
  int64_t blocks = 0;
  int64_t experts = 0, experts_used = 0;  // of a block, and by a token; 0: it has none
  bool tied_head = false;
  bool rounds_only = false;                               // the architecture is generic: the blocks cannot be computed
  std::vector<std::pair<std::string, std::string>> left;  // weights that are no layers, and why: of a generic one
  Importance importance;                                  // read from the recipe's imatrix.file
  uint64_t bytes_before = 0;
  uint64_t activation_bytes = 0;           // of all calibration samples, where they pass through the blocks
  uint64_t replay_bytes = 0;               // of all that formats get, where one does not resume
  std::optional<double> seconds_estimate;  // on a CPU; nothing for CUDA. Rough: see estimate.cpp
  std::shared_ptr<const MixPlan> mix;      // nullptr: the recipe had none
  std::vector<std::string> warnings;
  std::vector<std::string> problems;  // those of no layer

  // Adds one that is not there yet.
  void warn(const std::string& text) {
    if (!contains(warnings, text)) warnings.push_back(text);
  }
};

// The share of its tokens that a layer meets: experts divide them.
inline double share_met(const LayerPlan& layer, const Plan& plan) {
  if (!layer.info.stack || plan.experts == 0) return 1;
  return static_cast<double>(plan.experts_used) / static_cast<double>(plan.experts);
}

// On the disk of the output, at most, while the run works: two records of what it would go on from, and what it would
// give again to formats that do not resume.
inline uint64_t journal_bytes(const Plan& plan) { return 2 * plan.activation_bytes + plan.replay_bytes; }

}  // namespace roundhouse

// A recipe resolved against a model and the plugins: every layer's scheme, and all that does not fit, before any work.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/abi/format_view.h"
#include "host/abi/layer_scheme.h"
#include "host/abi/loaded.h"
#include "host/checkpoint/safetensors.h"
#include "host/discovery/catalogue.h"
#include "host/model/architecture.h"
#include "host/recipe/recipe.h"

namespace roundhouse {

// By layer: f32 [in_features], sums of squared inputs or what is proportional to them.
using Importance = std::map<std::string, Tensor>;

struct LayerPlan {
  LinearInfo info;
  int64_t block = -1;          // -1: outside the blocks
  DType dtype = DType::kF32;   // of the weight in the checkpoint
  Scheme scheme;               // without `weight` and `activation` it stays as it is
  std::string matched;         // the text of the entry under `layers:` that decided; "": none
  std::string assigned;        // the format that chose the scheme, and why where it says so; "": none
  std::shared_ptr<const EncodingCopy> encoding;             // what its data type makes; nullptr: the weight stays as it is
  std::shared_ptr<const EncodingCopy> activation_encoding;  // nullptr: its input is not quantized
  uint64_t encoded_bytes = 0;  // of the encoding, with codes packed as densely as their bits allow
  bool calibrated_input = false;  // its activation quantizer has a range that is calibrated
  std::vector<std::string> problems;

  // "affine-int/1"; "" when the weight stays as it is.
  std::string encoding_id() const { return encoding ? encoding->id() : ""; }
};

struct FormatPlan {
  std::string id;
  uint64_t bytes_estimate = 0;  // of the checkpoint that it will write
  nlohmann::json backends = nlohmann::json::array();  // of the format's, those that take every quantized layer
  std::vector<std::pair<std::string, std::string>> omitted;  // tensors that it does not store, and why
};

// A tensor of the source, under the name by which formats get it.
struct TensorPlan {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype;
  bool extra = false;  // the architecture does not know it
};

struct Plan {
  Recipe recipe;                  // with every scheme complete, nothing left to presets or defaults
  Scheme scheme;                  // the recipe's, for layers that no entry matches
  std::vector<LayerPlan>
      layers;  // block by block in the order of computation, then the head; the embedding if assigned
  std::vector<TensorPlan> tensors;
  std::vector<FormatPlan> formats;
  std::string block_prefix;  // "model.layers"
  int64_t blocks = 0;
  bool tied_head = false;
  Importance importance;  // read from the recipe's imatrix.file
  uint64_t bytes_before = 0;
  uint64_t activation_bytes = 0;           // of all calibration samples, where they pass through the blocks
  std::optional<double> seconds_estimate;  // on a CPU; nothing for CUDA. Rough: see plan.cpp
  std::vector<std::string> warnings;
  std::vector<std::string> problems;  // those of no layer
};

// Asks every data type whether it can quantize, and every format whether it can hold, what the recipe wants of them.
// Collects all problems, then throws Error with all of them, and what could instead. `source` is only looked at.
Plan make_plan(const Recipe& recipe, const Architecture& architecture, const SafetensorsFolder& source,
               Catalogue& catalogue);

// What a plan does with the calibration texts, besides what it does with the weights alone.
struct Passes {
  bool tuned = false;       // layers are tuned
  bool importance = false;  // sums of squared inputs are collected
  bool ranges = false;      // ranges of activations are calibrated
  bool full = false;        // the original blocks run over all texts, one after the other
  bool quantized = false;   // so do the quantized ones

  bool any() const { return full || quantized; }
  // Of the hidden states of all samples, at a time: each chain's, and a tuned block's inputs beside its outputs.
  int64_t stores() const { return full + quantized + (tuned && !quantized); }
};
Passes passes(const Plan& plan);

// "int W4 g128 sym tuned", "unchanged": one scheme in a few words.
std::string scheme_text(const Scheme& scheme);

// What `roundhouse plan` prints: layers with the same scheme in one line.
std::string describe(const Plan& plan);
// All problems, layers that have the same in one line; "" when there are none.
std::string describe_problems(const Plan& plan, const std::string& heading = "this recipe cannot be run:");

// What `roundhouse plan --json` prints.
nlohmann::json to_json(const Plan& plan);

// ---- what formats are told ----

// REQUIRES: the layer has an encoding.
FormatLayer format_layer(const LayerPlan& layer);
// All tensors, for a format with these options. `architecture` is Architecture::facts().
std::unique_ptr<PlanView> plan_view(const Plan& plan, const nlohmann::json& options, const nlohmann::json& architecture);
// Asks the format what it will do with each tensor, and writes what it refuses to plan.problems and its layers' problems;
// returns those that it omits. Throws Error when it refuses the plan as a whole.
std::vector<std::pair<std::string, std::string>> ask_format(Plan& plan, const FormatChoice& format,
                                                            const LoadedFormat& loaded,
                                                            const nlohmann::json& architecture);
// The keys "plan" and "tuning" of ext/model.h.
nlohmann::json plan_facts(const Plan& plan);
nlohmann::json tuning_facts(const Recipe& recipe);

}  // namespace roundhouse

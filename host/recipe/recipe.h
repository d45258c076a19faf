// SPDX-License-Identifier: Apache-2.0
// What a user asks for: the recipe file, typed and checked, and nothing that needs the model or a plugin.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "host/recipe/layer_pattern.h"
#include "host/recipe/scheme_choice.h"

namespace roundhouse {

// Several schemes of which each layer gets one, so that the loss that they cost together is least at a size.
struct Mix {
  std::vector<SchemeChoice> schemes;
  std::optional<double> bits;    // at most, a weight of the layers that get one, with its share of scales
  std::optional<int64_t> bytes;  // at most, of an export; one of the two is given
  Place place;                   // of the target

  bool operator==(const Mix&) const = default;
};

// An entry under `layers:`.
struct LayerRule {
  enum class Action {
    kKeep,      // scheme: none
    kReplace,   // `scheme` instead of the recipe's
    kOverride,  // scheme.said over the recipe's scheme; with nothing said, just that
  };
  LayerPattern match;
  Action action = Action::kOverride;
  SchemeChoice scheme = {};

  bool operator==(const LayerRule&) const = default;
};

// A file of texts.
struct DataFile {
  std::filesystem::path file;
  std::optional<double> share;  // of the samples, in proportion to those of the other files; nothing: all the same

  bool operator==(const DataFile&) const = default;
};

struct Calibration {
  std::vector<DataFile> data;        // none: there is no calibration
  std::optional<std::string> field;  // the key of a record's text or conversation
  bool concatenate = false;          // pack texts into samples
  bool all_experts = false;          // statistics of an expert's inputs are of all tokens
  std::chrono::year_month_day date = std::chrono::July / 26 / 2024;  // for chat templates; that which Llama 3's assume
  int64_t samples = 128;
  int64_t seqlen = 2048;  // tokens a sample
  int64_t batch_size = 8;
  int64_t seed = 42;

  bool operator==(const Calibration&) const = default;
};

struct Tuning {
  enum class Algorithm { kSignround, kSignround2 };  // signround2: from searched scales, outliers left out of the loss
  enum class Schedule { kLinear, kCosine };          // how the learning rates fall to 0
  enum class LastBlock { kOutput, kLogits };         // what it is tuned against
  enum class BestOf { kBatch, kEpoch };  // the iteration with the least loss of its batch, or of an epoch's up to it

  Algorithm algorithm = Algorithm::kSignround;
  int64_t iters = 200;                  // 0: none
  std::optional<double> lr, minmax_lr;  // nothing: auto
  std::optional<Schedule> lr_schedule;  // nothing: of the algorithm, as are the next two
  std::optional<BestOf> best_of;
  std::optional<LastBlock> last_block;
  int64_t gradient_accumulation = 1;
  bool search = false;  // searched rounding when iters is 0
  bool quantized_input = true;
  int64_t least_tokens = 32;  // an expert that gets fewer in calibration is not tuned

  bool operator==(const Tuning&) const = default;
};

// Of v: `lr`, or when it is auto 1 / iters, twice that below 4 bits from 1000 iterations on, as in auto-round, and with
// signround2 at most 0.014 to 2 bits, 0.01 at 3, 0.005 else, or what 50 iterations would travel so; 0 when iters is 0.
// Of the range's scales: `minmax_lr`, or when it is auto the same, with signround2 a quarter.
double learning_rate(const Tuning& tuning, int bits);
double minmax_learning_rate(const Tuning& tuning, int bits);
Tuning::Schedule schedule(const Tuning& tuning);
Tuning::BestOf best_of(const Tuning& tuning);
Tuning::LastBlock last_block(const Tuning& tuning);

// Files of llama.cpp with the importance of input channels, for searched rounding.
struct ImatrixFiles {
  std::optional<std::filesystem::path> file;  // to read instead of collecting it
  std::optional<std::filesystem::path> save;  // to write what was collected

  bool operator==(const ImatrixFiles&) const = default;
};

struct FormatChoice {
  std::string id;
  nlohmann::json options = nlohmann::json::object();
  Place place;

  bool operator==(const FormatChoice&) const = default;
};

struct DeviceChoice {
  enum class Kind { kAuto, kCpu, kCuda };
  Kind kind = Kind::kAuto;
  int64_t index = 0;  // of CUDA devices

  bool operator==(const DeviceChoice&) const = default;
};

// "auto", "cpu", "cuda", "cuda:1"; nothing for another text.
std::optional<DeviceChoice> parse_device(const std::string& text);

struct Evaluation {
  std::filesystem::path data;
  std::optional<std::string> field;  // as for calibration
  int64_t seqlen = 512;              // tokens a window

  bool operator==(const Evaluation&) const = default;
};

// Paths are absolute.
struct Recipe {
  std::filesystem::path model, output;
  std::optional<std::filesystem::path> tokenizer;  // a folder; empty: the model's own
  std::string architecture;                        // the family of the descriptor to use; "": the model_type decides
  SchemeChoice scheme;                             // nothing where there is a mix
  std::optional<Mix> mix;                          // instead of it
  std::vector<LayerRule> layers;
  Calibration calibration;
  Tuning tuning;
  ImatrixFiles imatrix;
  std::vector<FormatChoice> formats;
  DeviceChoice device;
  std::optional<Evaluation> evaluation;
  int64_t threads = 0;                     // 0: all processors
  std::optional<int64_t> memory;           // bytes of calibration activations in host memory; nothing: no limit
  int64_t max_shard_size = 5'000'000'000;  // bytes
  Place tokenizer_place, architecture_place;

  bool operator==(const Recipe&) const = default;
};

// Reads a recipe. Each override is "key=value" with a dotted key (tuning.iters=0, layers.0.bits=8, formats=[a, b]) and
// a YAML value, as if it stood in the file, but that its relative paths start from the current folder, the file's from
// the file's folder. Throws Error "file:line:column: key: message" or "--set key=value: key: message".
Recipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                   const std::vector<std::filesystem::path>& preset_folders);

// The recipe with one scheme of its mix for all layers, and no mix. REQUIRES: recipe.mix.
Recipe with_scheme(const Recipe& recipe, size_t scheme);

// "4.2 bits", or bytes as a number.
std::string target_text(const Mix& mix);

// The recipe with every default written out. Reading it gives the same recipe.
std::string to_yaml(const Recipe& recipe);

}  // namespace roundhouse

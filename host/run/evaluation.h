// SPDX-License-Identifier: Apache-2.0
// Measuring a checkpoint, original or exported.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/model/perplexity.h"
#include "host/run/divergence.h"
#include "host/text/records.h"
#include "host/text/tokenizer.h"
#include "host/tuning/input_quantization.h"

namespace roundhouse {

// A model, original or exported, as commands that only read it have it.
struct OpenedModel {
  Architecture architecture;
  std::unique_ptr<TensorSource> tensors;
  std::string format;  // "": an original
};

// `config`: the folder of config.json, where `model` has none, else the same. What the two differ in is warned of.
OpenedModel open_model(Catalogue& catalogue, const std::filesystem::path& model, const std::filesystem::path& config,
                       const std::vector<std::filesystem::path>& descriptor_folders);

// The token sequences of a text file: windows of `seqlen` of a .txt, else a record at a time, each cut at `seqlen`.
// Throws Error for what read_texts() does, when nothing is left to score, or a token is beyond the embedding's `rows`.
Sequences evaluation_sequences(const std::filesystem::path& data, const ReadOptions& read, const Tokenizer& tokenizer,
                               int seqlen, int64_t rows);

// What `source`, as open_checkpoint() gave it, says of activations; nothing for an original checkpoint. What cannot be
// done is warned of. device: as resolve_device() gave it, here and below.
InputQuantization activations_of(const Architecture& architecture, TensorSource& source, Catalogue& catalogue,
                                 const std::string& device);

// What a model's predictions are worth.
struct Score {
  Perplexity perplexity;
  std::optional<Divergence> divergence;  // from the original, where its logits are known
};

// Shows its progress. `save`: for the original's logits; `original`: what they are compared with. Both may be null.
Score measure(const std::string& label, const std::string& device, const Architecture& architecture,
              TensorSource& source, const Sequences& sequences, const InputHook& input_hook = {},
              LogProbsWriter* save = nullptr, DivergenceMeter* original = nullptr);

}  // namespace roundhouse

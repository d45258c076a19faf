// SPDX-License-Identifier: Apache-2.0
// The model that a run starts from: config.json, and the tensors that are stored.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/discovery/model_files.h"
#include "host/model/architecture.h"
#include "host/recipe/recipe.h"

namespace roundhouse {

struct Original {
  ModelFiles files;  // config.json and the tokenizer
  Architecture architecture;
  std::unique_ptr<TensorSource> tensors;
  std::string format;                 // the id of the one that reads them; "": they are not quantized
  std::vector<std::string> warnings;  // in what config.json and the tensors differ, and what holds
};

// Opens the recipe's model as open_source() does, matches and reconciles the two.
Original open_original(Catalogue& catalogue, const Recipe& recipe,
                       const std::vector<std::filesystem::path>& descriptor_folders);

// The same tensors, but for the stacks that the architecture wants as matrices.
std::unique_ptr<TensorSource> with_matrices(const Architecture& architecture, std::unique_ptr<TensorSource> tensors);

// Architecture::match(), with the stacks that it wants as matrices.
void match(Architecture& architecture, std::unique_ptr<TensorSource>& tensors);

// Compares config.json with the tensors of a checkpoint, once and before all else; where they differ, the tensors hold,
// as in transformers:
//   - a head that config.json ties to the embedding, but which is stored and another: it is untied
// and of an architecture that is not generic:
//   - names without the model's prefix, as its base class is saved: they get it
//   - more blocks than config.json counts: they are left out
//   - a linear layer's bias that config.json asks for and that is not stored: zeros
//   - one that is stored and that config.json does not ask for: no part of the model
// Returns what a user should know of that. Throws Error for fewer blocks.
std::vector<std::string> reconcile(Architecture& architecture, TensorSource& checkpoint);

// What a user should know of tensors that several files of a checkpoint hold, and not alike. Called before all else.
std::vector<std::string> copies_that_differ(TensorSource& checkpoint);

// What a user should know of the special tokens of config.json and generation_config.json that have no row in the
// embedding.
std::vector<std::string> tokens_beyond(const Architecture& architecture, const std::filesystem::path& folder);

}  // namespace roundhouse

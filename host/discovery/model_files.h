// SPDX-License-Identifier: Apache-2.0
// Where a model's config.json and tokenizer are.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "host/base/error.h"
#include "host/base/scratch_folder.h"
#include "host/discovery/catalogue.h"

namespace roundhouse {

// A folder with the model's config.json and the files of its tokenizer: its own, unless the checkpoint holds them within
// itself, as a GGUF file does, or the tokenizer is to be another folder's. Then they are in a temporary folder of the
// model's name, gone with this object; tokenizer files that lie beside the checkpoint win.
class ModelFiles {
 public:
  // `model`: a folder, or a file that a loaded format reads. `tokenizer`: the folder of the tokenizer; empty: the
  // model's own. `tokenizer_place`: where a recipe names it. Throws Error.
  ModelFiles(Catalogue& catalogue, const std::filesystem::path& model, const std::filesystem::path& tokenizer = {},
             const std::string& tokenizer_place = "");
  // `folder` has them.
  explicit ModelFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}

  const std::filesystem::path& folder() const { return folder_; }
  // What reads these files. Its Errors have the user's names.
  template <typename Action>
  auto read(const Action& action) const {
    try {
      return action();
    } catch (const Error& e) {
      throw Error(in_users_names(e.what()), e.failure());
    }
  }
  // `text` with the names of what the files of the temporary folder were made of.
  std::string in_users_names(const std::string& text) const;
  // Throws Error when the config.json of the folder does not describe the model.
  void require_config() const;

 private:
  void make_folder(const std::string& name);
  std::string users_name(const std::filesystem::path& file) const;

  std::filesystem::path folder_;
  std::filesystem::path model_, tokenizer_;  // of which a temporary folder_ is made
  bool tokenizer_is_beside_ = false;         // in the folder of model_
  std::string problem_;                      // of a config.json that a format has made; empty: none
  std::optional<ScratchFolder> scratch_;     // that folder_ lies in
};

}  // namespace roundhouse

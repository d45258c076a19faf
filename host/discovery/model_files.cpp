// SPDX-License-Identifier: Apache-2.0
#include "host/discovery/model_files.h"

#include <algorithm>
#include <iterator>
#include <roundhouse/helper/side_files.hpp>
#include <utility>

#include "host/abi/format_reader.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/discovery/open_checkpoint.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerFiles[] = {"tokenizer.json",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "tokenizer.model",
                                           "vocab.json",
                                           "merges.txt",
                                           "vocab.txt",
                                           "tekken.json",
                                           "tiktoken.model",
                                           "chat_template.jinja",
                                           "chat_template.json"};

bool is_tokenizer_file(const fs::path& name) {
  return (!name.empty() && name.begin()->string() == "additional_chat_templates") || name.extension() == ".tiktoken" ||
         std::find(std::begin(kTokenizerFiles), std::end(kTokenizerFiles), name) != std::end(kTokenizerFiles);
}

// Copies the side files that are the tokenizer's, or those that are not; returns whether there were any.
bool copy_side_files(const fs::path& from, const fs::path& to, bool of_tokenizer) {
  bool any = false;
  for (const fs::path name : rh::side_files(from)) {
    if (is_tokenizer_file(name) != of_tokenizer) continue;
    fs::create_directories((to / name).parent_path());
    fs::copy_file(from / name, to / name);
    any = true;
  }
  return any;
}

}  // namespace

ModelFiles::ModelFiles(Catalogue& catalogue, const fs::path& model, const fs::path& tokenizer,
                       const std::string& tokenizer_place)
    : folder_(model), model_(model), tokenizer_(tokenizer) {
  const bool is_folder = fs::is_directory(model);
  if (is_folder && fs::exists(model / "config.json")) {
    if (tokenizer.empty()) return;
    make_folder(fs::canonical(model).filename());
    fs::copy_file(model / "config.json", folder_ / "config.json");
    copy_side_files(model, folder_, /*of_tokenizer=*/false);
  } else {
    const std::string format = format_of(catalogue, model);
    if (format.empty() && !is_folder)
      throw Error(cat(model.string(), " is a file that no loaded format reads; the folder of a model is expected"));
    if (format.empty()) return;  // what is missing is told by whoever looks for it
    ExportedCheckpoint checkpoint(catalogue.format(format), model, nlohmann::json::object());
    const auto config = checkpoint.facts().find("config");
    if (config == checkpoint.facts().end()) return;
    if (const auto problem = checkpoint.facts().find("config_problem"); problem != checkpoint.facts().end())
      problem_ = cat(model.string(), ": ", problem->is_string() ? problem->get<std::string>() : problem->dump());
    make_folder(is_folder ? fs::canonical(model).filename() : model.stem());
    write_file(folder_ / "config.json", config->dump(2) + "\n");
    tokenizer_is_beside_ =
        tokenizer.empty() && copy_side_files(is_folder ? model : fs::absolute(model).parent_path(), folder_, true);
    if (tokenizer.empty() && !tokenizer_is_beside_)
      for (const char* name : kTokenizerFiles)
        if (const auto contents = checkpoint.side_file(name)) write_file(folder_ / name, *contents);
  }
  if (!tokenizer.empty() && !copy_side_files(tokenizer, folder_, true))
    throw Error(cat(tokenizer_place, tokenizer_place.empty() ? "" : ": ", "tokenizer: ", tokenizer.string(),
                    " has no file of a tokenizer"));
}

void ModelFiles::require_config() const {
  if (!problem_.empty())
    throw Error(
        cat(problem_, ": take the model's own folder, or put its config.json and tokenizer files beside the weights"));
}

// "": the folder.
std::string ModelFiles::users_name(const fs::path& file) const {
  const bool of_tokenizer = is_tokenizer_file(file);
  if (of_tokenizer && !tokenizer_.empty()) return (tokenizer_ / file).string();
  if (fs::exists(model_ / "config.json")) return file.empty() ? model_.string() : (model_ / file).string();
  if (file.empty()) return model_.string();
  if (of_tokenizer && tokenizer_is_beside_)
    return ((fs::is_directory(model_) ? model_ : model_.parent_path()) / file).string();
  return cat(model_.string(), " (its metadata, as ", file.string(), ")");
}

std::string ModelFiles::in_users_names(const std::string& text) const {
  if (!scratch_) return text;
  const std::string folder = folder_.string();
  std::string told;
  size_t begin = 0;
  for (size_t at; (at = text.find(folder, begin)) != std::string::npos;) {
    told += text.substr(begin, at - begin);
    begin = at + folder.size();
    const size_t end = text.substr(begin, 1) == "/" ? std::min(text.find_first_of(":, ", begin), text.size()) : begin;
    told += users_name(text.substr(std::min(begin + 1, end), end - std::min(begin + 1, end)));
    begin = end;
  }
  return told + text.substr(begin);
}

// In a temporary folder, so that what is named after the model's folder has the model's name.
void ModelFiles::make_folder(const std::string& name) {
  folder_ = scratch_.emplace().path() / name;
  fs::create_directory(folder_);
}

}  // namespace roundhouse

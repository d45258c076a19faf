#include "host/discovery/model_files.h"

#include <stdlib.h>

#include <algorithm>
#include <iterator>
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

// Copies the tokenizer's files; returns whether there were any.
bool copy_tokenizer(const fs::path& from, const fs::path& to) {
  bool any = false;
  for (const char* name : kTokenizerFiles) {
    if (!fs::is_regular_file(from / name)) continue;
    fs::copy_file(from / name, to / name);
    any = true;
  }
  return any;
}

bool is_tokenizer_file(const fs::path& path) {
  return std::find(std::begin(kTokenizerFiles), std::end(kTokenizerFiles), path.filename()) !=
         std::end(kTokenizerFiles);
}

}  // namespace

ModelFiles::ModelFiles(Catalogue& catalogue, const fs::path& model, const fs::path& tokenizer) : folder_(model) {
  const bool is_folder = fs::is_directory(model);
  if (is_folder && fs::exists(model / "config.json")) {
    if (tokenizer.empty()) return;
    make_folder(fs::canonical(model).filename());
    for (const auto& entry : fs::directory_iterator(model))
      if (entry.is_regular_file() && entry.path().extension() == ".json" && !is_tokenizer_file(entry.path()))
        fs::copy_file(entry.path(), folder_ / entry.path().filename());
  } else {
    const std::string format = format_of(catalogue, model);
    if (format.empty() && !is_folder)
      throw Error(cat(model.string(), " is a file that no loaded format reads; the folder of a model is expected"));
    if (format.empty()) return;  // what is missing is told by whoever looks for it
    ExportedCheckpoint checkpoint(catalogue.format(format), model, nlohmann::json::object());
    const auto config = checkpoint.facts().find("config");
    if (config == checkpoint.facts().end()) return;
    make_folder(is_folder ? fs::canonical(model).filename() : model.stem());
    write_file(folder_ / "config.json", config->dump(2) + "\n");
    if (tokenizer.empty() && !copy_tokenizer(is_folder ? model : fs::absolute(model).parent_path(), folder_))
      for (const char* name : kTokenizerFiles)
        if (const auto contents = checkpoint.side_file(name)) write_file(folder_ / name, *contents);
  }
  if (!tokenizer.empty() && !copy_tokenizer(tokenizer, folder_))
    throw Error(cat("tokenizer: ", tokenizer.string(), " has no file of a tokenizer"));
}

// In a temporary folder, so that what is named after the model's folder has the model's name.
void ModelFiles::make_folder(const std::string& name) {
  std::string pattern = (fs::temp_directory_path() / "roundhouse.XXXXXX").string();
  if (!::mkdtemp(pattern.data())) throw Error(cat("cannot make a folder in ", fs::temp_directory_path().string()));
  temporary_ = pattern;
  folder_ = temporary_ / name;
  fs::create_directory(folder_);
}

ModelFiles::~ModelFiles() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

ModelFiles::ModelFiles(ModelFiles&& other) noexcept
    : folder_(std::move(other.folder_)), temporary_(std::exchange(other.temporary_, {})) {}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/base/model_folder.h"

#include <algorithm>
#include <vector>

#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/words.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kRepository = "models--";  // then the id, with "--" for its slash
constexpr const char* kSeparator = "--";

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// Of a repository on the hub. The hub's ids have no other characters, and one slash at most.
struct HubId {
  std::string name, revision;  // "org/name"; "": main
};

// "org/name", "org/name@revision", or the address of the model's page.
std::optional<HubId> parse_id(std::string text) {
  for (const char* page : {"https://huggingface.co/", "hf.co/"})
    if (text.starts_with(page)) text.erase(0, std::string_view(page).size());
  const size_t at = text.find('@');
  HubId id{text.substr(0, at), at == std::string::npos ? "" : text.substr(at + 1)};
  const auto valid = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/'; };
  if (id.name.empty() || !std::isalnum(static_cast<unsigned char>(id.name.front())) || id.name.back() == '/' ||
      std::count(id.name.begin(), id.name.end(), '/') > 1 || !std::all_of(id.name.begin(), id.name.end(), valid) ||
      (at != std::string::npos && id.revision.empty()))
    return std::nullopt;
  return id;
}

}  // namespace

fs::path hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const std::string folder = environment_variable(name); !folder.empty()) return expand_home(folder);
  if (const std::string home = environment_variable("HF_HOME"); !home.empty()) return expand_home(home) / "hub";
  const fs::path cache = xdg_folder("XDG_CACHE_HOME", ".cache");
  return cache.empty() ? cache : cache / "huggingface/hub";
}

namespace {

std::string download(const HubId& id) {
  return cat("hf download ", id.name, id.revision.empty() ? "" : cat(" --revision ", shell_quoted(id.revision)));
}

// The commits of which a repository's folder has a snapshot.
std::vector<std::string> commits_in(const fs::path& repository) {
  std::vector<std::string> commits;
  if (is_folder(repository / "snapshots"))
    for (const auto& entry : fs::directory_iterator(repository / "snapshots"))
      commits.push_back(entry.path().filename());
  std::sort(commits.begin(), commits.end());
  return commits;
}

// The snapshot of a repository's folder; empty when it is not there. A commit may be shortened; one that was fetched by
// its commit alone leaves no reference.
fs::path snapshot(const fs::path& repository, const std::string& revision) {
  const fs::path reference = repository / "refs" / (revision.empty() ? "main" : revision);
  std::string commit = revision;
  if (fs::is_regular_file(reference)) {
    commit = read_file(reference);
    commit.erase(std::find_if(commit.begin(), commit.end(), [](unsigned char c) { return std::isspace(c); }),
                 commit.end());
  }
  const std::vector<std::string> commits = commits_in(repository);
  const auto begins = [&](const std::string& known) { return known.starts_with(commit); };
  if ((commit.empty() && commits.size() == 1) ||
      (commit.size() >= 4 && std::count_if(commits.begin(), commits.end(), begins) == 1))
    commit = *std::find_if(commits.begin(), commits.end(), begins);
  const fs::path folder = repository / "snapshots" / commit;
  return commit.empty() || !is_folder(folder) ? fs::path() : folder;
}

bool is_repository(const fs::path& folder) {
  return is_folder(folder / "snapshots") && !is_there(folder / "config.json");
}

// The id of a repository's folder, or "".
std::string id_of(const fs::path& repository) {
  const std::string folder = repository.filename();
  if (!folder.starts_with(kRepository)) return "";
  const std::string name = folder.substr(std::string_view(kRepository).size());
  const size_t at = name.find(kSeparator);
  return at == std::string::npos ? name : cat(name.substr(0, at), "/", name.substr(at + 2));
}

// The repositories in a folder that is no model.
std::vector<fs::path> repositories_in(const fs::path& folder) {
  std::vector<fs::path> found;
  if (!is_folder(folder) || is_there(folder / "config.json")) return found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (!id_of(entry.path()).empty() && is_repository(entry.path())) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

fs::path from_repository(const fs::path& folder) {
  if (fs::path found = snapshot(folder, ""); !found.empty()) return found;
  const std::string id = id_of(folder);
  throw Error(cat(folder.string(),
                  " is a repository in the Hugging Face cache, but its refs/main leads to no snapshot.",
                  id.empty() ? " Name one of the folders in its snapshots/" : cat(" Fetch it: ", download({id, ""}))));
}

fs::path from_cache(const fs::path& folder, const std::vector<fs::path>& repositories) {
  if (repositories.size() == 1) return from_repository(repositories[0]);
  std::vector<std::string> ids;
  for (const fs::path& repository : repositories) ids.push_back(id_of(repository));
  throw Error(cat(folder.string(), " is a Hugging Face cache; name one of its models: ", joined(ids)));
}

fs::path from_hub(const HubId& id, const fs::path& path) {
  const fs::path cache = hub_cache();
  std::string folder = cat(kRepository, id.name);
  if (const size_t slash = folder.find('/'); slash != std::string::npos) folder.replace(slash, 1, kSeparator);
  if (!cache.empty())
    if (fs::path found = snapshot(cache / folder, id.revision); !found.empty()) return found;
  if (const std::vector<std::string> commits = commits_in(cache / folder); !cache.empty() && !commits.empty())
    throw Error(cat("the Hugging Face cache ", cache.string(), " has ", id.name, ", but not of the revision ",
                    id.revision.empty() ? "main" : id.revision, ". It has ", joined(commits), ": name one, as in ",
                    id.name, "@", commits.front(), ", or fetch it: ", download(id)));
  throw Error(cat("there is no folder ", path.string(), ", and the Hugging Face cache ",
                  cache.empty() ? "(which is unknown: set HF_HOME) " : cat(cache.string(), " "), "has no ", id.name,
                  id.revision.empty() ? "" : cat(" of revision ", id.revision), ". Fetch it: ", download(id)));
}

// An object that may be missing or something else.
json object_at(const json& from, const char* key) {
  const auto found = from.is_object() ? from.find(key) : from.end();
  return found != from.end() && found->is_object() ? *found : json::object();
}

std::string text_at(const json& from, const char* key) {
  const auto found = from.find(key);
  return found != from.end() && found->is_string() ? found->get<std::string>() : "";
}

// Throws Error for the output of a run with several formats, which has a folder of each beside the run's notes.
void require_one_export(const fs::path& path) {
  if (!fs::is_directory(path / kNotesFolder)) return;
  std::vector<std::string> exports;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && !name.starts_with('.')) return;  // a checkpoint's own
    if (entry.is_directory() && name != kNotesFolder && !name.starts_with('.')) exports.push_back(name);
  }
  std::sort(exports.begin(), exports.end());
  if (!exports.empty())
    throw Error(cat(path.string(), " holds the exports of a run in several formats: ", joined(exports),
                    ". Give the folder of one, such as ", (path / exports.front()).string()));
}

fs::path found_model(const std::string& said, const fs::path& path) {
  if (is_there(path)) {
    require_one_export(path);
    if (is_repository(path)) return from_repository(path);
    const std::vector<fs::path> repositories = repositories_in(path);
    return repositories.empty() ? path : from_cache(path, repositories);
  }
  if (const auto id = parse_id(said)) return from_hub(*id, path);
  throw Error(cat("there is no folder ", path.string()));
}

// Throws Error for a pipe, socket or device, which whoever reads the model would open by its name, and wait.
void require_regular(const fs::path& path) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (fs::is_other(status))
    throw Error(cat(path.string(),
                    " is a pipe, socket or device; a model consists of files. Remove it, or put the file "
                    "in its place"));
  if (!fs::is_directory(status)) return;
  for (const auto& entry : fs::directory_iterator(path, ignored))
    if (!entry.is_directory(ignored)) require_regular(entry.path());
}

}  // namespace

fs::path find_model(const std::string& said, const fs::path& path) {
  fs::path found = found_model(said, path);
  require_regular(found);
  return found;
}

fs::path find_model(const std::string& said) { return find_model(said, expand_home(said)); }

std::string fetch_hint(const fs::path& folder) {
  const fs::path snapshots = fs::absolute(folder).lexically_normal().parent_path();
  const std::string id = snapshots.filename() == "snapshots" ? id_of(snapshots.parent_path()) : "";
  return id.empty() ? "" : cat(" Fetch it: ", download({id, folder.filename()}));
}

void require_linked(const fs::path& file) {
  std::error_code ignored;
  if (fs::is_symlink(file, ignored) && !fs::exists(file, ignored))
    throw Error(
        cat(file.string(), " is a link to a file that is missing. Download it again.", fetch_hint(file.parent_path())),
        Failure::kNotFound);
}

void require_config(const fs::path& folder) {
  if (is_there(folder / "config.json")) return;
  if (is_there(folder / "adapter_config.json")) {
    const std::string base = text_at(read_json_object(folder / "adapter_config.json"), "base_model_name_or_path");
    throw Error(cat(folder.string(), " is a LoRA adapter, not a model. Merge it into ",
                    base.empty() ? "its base model" : base,
                    " with peft (merge_and_unload(), then save_pretrained(folder)), and give that folder"));
  }
  require_linked(folder / "config.json");
  throw Error(
      cat(folder.string(), " has no config.json: a Hugging Face model folder is expected.", fetch_hint(folder)));
}

std::optional<std::string> quantization_method(const fs::path& folder) {
  const json config = is_there(folder / "config.json") ? read_json_object(folder / "config.json") : json::object();
  bool unnamed = false;
  for (const char* key : {"quantization_config", "compression_config"}) {
    const json said = config.contains(key) ? object_at(config, key) : object_at(object_at(config, "text_config"), key);
    if (const std::string method = text_at(said, "quant_method"); !method.empty()) return method;
    // Before quant_method there were the flags of bitsandbytes alone.
    if (said.contains("load_in_4bit") || said.contains("load_in_8bit")) return "bitsandbytes";
    unnamed = unnamed || !said.empty();
  }
  if (object_at(config, "quantization").contains("bits")) return "mlx";
  if (unnamed) return "by a method that config.json does not name";
  if (!is_there(folder / "hf_quant_config.json")) return std::nullopt;
  const json file = read_json_object(folder / "hf_quant_config.json");
  const std::string producer = text_at(object_at(file, "producer"), "name");
  const std::string algorithm = text_at(object_at(file, "quantization"), "quant_algo");
  return cat(producer.empty() ? "hf_quant_config.json" : producer, algorithm.empty() ? "" : " ", algorithm);
}

}  // namespace roundhouse

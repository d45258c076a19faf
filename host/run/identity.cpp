// SPDX-License-Identifier: Apache-2.0
#include "host/run/identity.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <vector>

#include "host/base/cpu.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/sha256.h"
#include "host/tuning/device.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kDigested = 4 << 20;  // bytes of a file: the headers of weights, most other files whole

constexpr const char *kRecipe = "the recipe", *kProgram = "the program's version", *kDevice = "the device";

std::string file_identity(const fs::path& file) {
  return cat(fs::file_size(file), " bytes of ", fs::last_write_time(file).time_since_epoch().count(), ", ",
             sha256_of_file(file, 0, kDigested));
}

// The model itself, or the files right in its folder, but for those that nothing is computed from and that may be written
// to: a log of the run itself, a README.
std::vector<fs::path> files_of(const fs::path& model) {
  if (!fs::is_directory(model)) return {model};
  static const std::set<std::string> texts = {".err", ".log", ".md", ".out", ".txt"};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(model))
    if (const fs::path& file = entry.path();
        entry.is_regular_file() &&
        (!texts.contains(file.extension()) || file.filename() == "vocab.txt" || file.filename() == "merges.txt"))
      files.push_back(file);
  return files;
}

void add_files(json& identity, const fs::path& model) {
  for (const fs::path& file : files_of(model)) identity[file.string()] = file_identity(file);
}

FileStamp stamp_of(const fs::path& file) {
  struct stat info = {};
  if (::stat(file.c_str(), &info) != 0) return {};
  return {info.st_dev, info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
}

// The plugins whose code the bytes come from.
std::set<fs::path> plugins_of(const Plan& plan, const Original& original, const Catalogue& catalogue) {
  std::set<fs::path> plugins;
  for (const LayerPlan& layer : plan.layers)
    for (const auto& side : {layer.scheme.weight, layer.scheme.activation})
      if (const DtypeRecord* dtype = side ? catalogue.find_dtype(side->dtype) : nullptr) plugins.insert(dtype->plugin);
  std::vector<std::string> formats{original.format};
  for (const FormatPlan& format : plan.formats) formats.push_back(format.id);
  for (const std::string& id : formats)
    if (const FormatRecord* record = catalogue.find_format(id)) plugins.insert(record->plugin);
  return plugins;
}

std::string importance_digest(const Importance& importance) {
  Sha256 digest;
  for (const auto& [layer, squares] : importance) {
    digest.add(layer.c_str(), layer.size() + 1);
    digest.add(squares.sums.data(), squares.sums.bytes());
    digest.add(&squares.count, sizeof squares.count);
  }
  return digest.hex();
}

// The file that this code is in: two builds may have one version.
fs::path program_file() {
  const fs::path here = file_of_code(reinterpret_cast<const void*>(&importance_digest));
  return fs::exists(here) ? here : "/proc/self/exe";
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

size_t indent(const std::string& line) { return std::min(line.find_first_not_of(' '), line.size()); }

// A line of YAML with the keys above it and the lines within it: "tuning.iters: 200".
std::string with_keys(const std::vector<std::string>& lines, size_t at) {
  if (at >= lines.size()) return "not there";
  std::string text = lines[at].substr(indent(lines[at]));
  for (size_t i = at + 1; i < lines.size() && indent(lines[i]) > indent(lines[at]); ++i)
    text += " " + lines[i].substr(indent(lines[i]));
  if (constexpr size_t kMost = 300; text.size() > kMost) text = text.substr(0, kMost) + "...";
  for (size_t i = at, inner = indent(lines[at]); i-- > 0 && inner > 0;) {
    if (indent(lines[i]) >= inner) continue;
    inner = indent(lines[i]);
    const std::string key = lines[i].substr(inner, lines[i].find(':') - inner);
    text = cat(key, ".", text);
  }
  return text;
}

std::string recipe_difference(const std::string& before, const std::string& now) {
  const std::vector<std::string> old = lines_of(before), present = lines_of(now);
  size_t at = 0;
  while (at < old.size() && at < present.size() && old[at] == present[at]) ++at;
  return cat("the recipe has \"", with_keys(present, at), "\", and had \"", with_keys(old, at), "\"");
}

}  // namespace

FilesInUse::FilesInUse(const fs::path& model) {
  for (const fs::path& file : files_of(model)) stamps_[file] = stamp_of(file);
}

void FilesInUse::require_unchanged() const {
  for (const auto& [file, stamp] : stamps_) {
    const FileStamp now = stamp_of(file);
    if (now == stamp || now.device != stamp.device || now.inode != stamp.inode) continue;
    throw Error(cat(file.string(), " was written to while the run read it, so that the exports would hold a part of ",
                    "each. Run again when it is whole."));
  }
}

json run_identity(const Plan& plan, const Original& original, const Catalogue& catalogue, const std::string& device,
                  const Texts& texts) {
  const std::string kernels = kernels_digest(device);
  Recipe recipe = plan.recipe;
  recipe.output.clear();
  recipe.evaluation.reset();
  recipe.memory.reset();
  recipe.threads = 0;
  recipe.device = {};  // that which it means here is in the identity
  json identity{{kProgram, ROUNDHOUSE_VERSION},
                {kRecipe, to_yaml(recipe)},
                {"the program", sha256_of_file(program_file())},
                {"libtorch", libtorch_version()},
                {kDevice, cat(device_model(device), computes_in_bfloat16(device != "cpu") ? ", bfloat16" : ", float32",
                              kernels.empty() ? "" : ", kernels ", kernels)}};
  add_files(identity, recipe.model);
  if (recipe.tokenizer) add_files(identity, *recipe.tokenizer);
  for (const fs::path& plugin : plugins_of(plan, original, catalogue))
    identity[cat("the plugin ", plugin.filename().string())] = sha256_of_file(plugin);
  const fs::path description = original.architecture.descriptor_file();
  identity[cat("the architecture's description ", description.filename().string())] = sha256_of_file(description);
  Sha256 tokens;
  for (const std::vector<int32_t>& sample : texts.calibration)
    tokens.add(sample.data(), sample.size() * sizeof sample.front());
  identity["what the calibration texts say"] = tokens.hex();
  identity["the importance matrix"] = importance_digest(plan.importance);
  return identity;
}

json without_device(json identity) {
  identity.erase(kDevice);
  return identity;
}

std::string difference(const json& before, const json& now) {
  if (before == now) return "";
  // An older program may have written another recipe for the same file.
  for (const char* first : {kProgram, kRecipe}) {
    const std::string old = before.value(first, ""), present = now.value(first, "");
    if (old == present) continue;
    return first == kRecipe ? recipe_difference(old, present) : cat(first, " is ", present, ", and was ", old);
  }
  for (const auto& [name, text] : now.items()) {
    if (!before.contains(name)) return cat(name, " is new");
    if (before.at(name) != text)
      return text.get<std::string>().find(' ') == std::string::npos || fs::path(name).is_absolute()
                 ? cat(name, " has changed")
                 : cat(name, " is ", text.get<std::string>(), ", and was ", before.at(name).get<std::string>());
  }
  for (const auto& [name, text] : before.items())
    if (!now.contains(name)) return cat(name, " is gone");
  return "";
}

}  // namespace roundhouse

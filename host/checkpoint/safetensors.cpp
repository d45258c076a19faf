// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <tuple>
#include <utility>

#include "host/base/error.h"
#include "host/base/model_folder.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse_folder(const fs::path& folder, const std::vector<fs::path>& safetensors, bool pickled) {
  if (safetensors.size() > 1)
    throw Error(cat(folder.string(), " has ", safetensors.size(), " .safetensors files (",
                    safetensors[0].filename().string(), ", ", safetensors[1].filename().string(),
                    "...) but no model.safetensors.index.json that says what is in",
                    " each. Get the index, or name one file."));
  if (pickled)
    throw Error(cat(folder.string(),
                    " has only PyTorch pickles (.bin, .pt, .pth), which can run code when they are read.",
                    " Convert them to safetensors: load the model with transformers and call",
                    " save_pretrained(folder, safe_serialization=True)."));
  throw Error(
      cat(folder.string(), " has no .safetensors file: a Hugging Face model folder is expected.", fetch_hint(folder)));
}

// The file to read: an index, or the only safetensors file. model.safetensors wins over an index, as in transformers.
fs::path main_file(const fs::path& folder) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"})
    if (std::error_code ignored; fs::exists(fs::symlink_status(folder / name, ignored))) return folder / name;
  std::vector<fs::path> found;
  bool pickled = false;
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    const fs::path extension = it->path().extension();
    if (extension == ".safetensors") found.push_back(it->path());
    pickled |= extension == ".bin" || extension == ".pt" || extension == ".pth";
  }
  if (code) throw Error(cat("cannot list ", folder.string(), ": ", code.message()), failure_of(code.value()));
  std::sort(found.begin(), found.end());
  if (found.size() != 1) refuse_folder(folder, found, pickled);
  return found.front();
}

}  // namespace

SafetensorsFolder::SafetensorsFolder(fs::path folder_or_file) : location_(std::move(folder_or_file)) {
  std::error_code code;
  const fs::file_status status = fs::status(location_, code);
  if (status.type() == fs::file_type::not_found)
    throw Error(cat("no model at ", location_.string(), ": there is no such file or folder"), Failure::kNotFound);
  if (code) throw Error(cat("cannot read ", location_.string(), ": ", code.message()), failure_of(code.value()));
  const fs::path file = fs::is_directory(status) ? main_file(location_) : location_;
  if (file.extension() == ".json") {
    add_shards(file);
  } else {
    auto mapped = std::make_shared<const MappedFile>(file);
    SafetensorsHeader header = parse_safetensors_header(*mapped);
    metadata_ = header.metadata;
    add_file(std::move(mapped), std::move(header));
  }
}

void SafetensorsFolder::add_file(std::shared_ptr<const MappedFile> file, SafetensorsHeader header) {
  for (auto& tensor : header.tensors) {
    by_name_[tensor.name] = stored_.size();
    stored_.push_back({std::move(tensor), file, {}});
  }
  for (auto& [name, target] : header.metadata) aliases_.emplace(name, target);
}

// The index names the files; what is in them their headers say, as in transformers: an index may leave a tensor out, or
// place it in another of its files. Of a tensor that several files hold, the last by the files' names counts.
void SafetensorsFolder::add_shards(const fs::path& index) {
  const auto file_of = parse_safetensors_index(MappedFile(index));
  std::set<std::string> names;
  for (const auto& [tensor, shard] : file_of) names.insert(shard);

  std::string missing;
  for (const std::string& shard : names)
    if (std::error_code ignored; !fs::exists(index.parent_path() / shard, ignored))
      missing += (missing.empty() ? "" : ", ") + shard;
  if (!missing.empty())
    throw Error(cat(index.string(), " names files that are missing beside it: ", missing,
                    ". Download the checkpoint again.", fetch_hint(index.parent_path())),
                Failure::kDataLoss);

  struct Shard {
    std::string name;
    std::shared_ptr<const MappedFile> file;
    SafetensorsHeader header;
  };
  std::vector<Shard> shards;
  std::unordered_map<std::string, std::string> chosen;  // tensor -> the file that counts
  for (const std::string& name : names) {
    auto mapped = std::make_shared<const MappedFile>(index.parent_path() / name);
    SafetensorsHeader header = parse_safetensors_header(*mapped);
    for (const auto& tensor : header.tensors) chosen[tensor.name] = name;
    shards.push_back({name, std::move(mapped), std::move(header)});
  }
  for (const auto& [tensor, shard] : file_of)
    if (!chosen.contains(tensor))
      throw Error(cat(index.string(), " places tensor ", tensor, " in ", shard,
                      ", but it is not there, nor in its other files.",
                      " The index and the files do not belong together: download the checkpoint again.",
                      fetch_hint(index.parent_path())),
                  Failure::kDataLoss);
  metadata_ = shards.front().header.metadata;
  for (Shard& shard : shards) {
    std::erase_if(shard.header.tensors, [&](const auto& tensor) {
      if (chosen.at(tensor.name) == shard.name) return false;
      passed_over_.push_back({tensor, shard.file, {}});
      return true;
    });
    add_file(std::move(shard.file), std::move(shard.header));
  }
}

void SafetensorsFolder::rename(const std::function<std::string(const std::string&)>& new_name) {
  std::vector<Stored> kept;
  for (Stored& stored : stored_) {
    stored.tensor.name = new_name(stored.tensor.name);
    if (!stored.tensor.name.empty()) kept.push_back(std::move(stored));
  }
  stored_ = std::move(kept);
  by_name_.clear();
  for (size_t i = 0; i < stored_.size(); ++i) by_name_[stored_[i].tensor.name] = i;
  std::unordered_map<std::string, std::string> aliases;
  for (const auto& [name, target] : aliases_) aliases.emplace(new_name(name), new_name(target));
  aliases_ = std::move(aliases);
}

void SafetensorsFolder::add(const std::string& name, Tensor tensor) {
  by_name_[name] = stored_.size();
  stored_.push_back(
      {{name, std::string(safetensors_name(tensor.dtype())), tensor.shape()}, nullptr, std::move(tensor)});
}

std::vector<DifferingCopies> SafetensorsFolder::differing_copies() const {
  std::vector<DifferingCopies> differing;
  for (const Stored& other : passed_over_) {
    const Stored* const kept = find(other.tensor.name);
    if (!kept) continue;  // renamed
    const auto& [a, b] = std::tie(kept->tensor, other.tensor);
    const uint64_t bytes = a.end - a.begin;
    if (a.dtype == b.dtype && a.shape == b.shape &&
        std::memcmp(kept->file->data() + a.begin, other.file->data() + b.begin, bytes) == 0)
      continue;
    differing.push_back({b.name, other.file->path().filename(), kept->file->path().filename()});
  }
  for (const Stored& other : passed_over_) other.file->release();
  return differing;
}

std::vector<fs::path> SafetensorsFolder::files() const {
  std::vector<fs::path> files;
  for (const Stored& stored : stored_)
    if (stored.file && (files.empty() || files.back() != stored.file->path())) files.push_back(stored.file->path());
  return files;
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::vector<std::string> names;
  for (const Stored& stored : stored_) names.push_back(stored.tensor.name);
  return names;
}

const SafetensorsFolder::Stored* SafetensorsFolder::find(const std::string& name) const {
  auto it = by_name_.find(name);
  if (it == by_name_.end())
    if (const auto alias = aliases_.find(name); alias != aliases_.end()) it = by_name_.find(alias->second);
  return it == by_name_.end() ? nullptr : &stored_[it->second];
}

const SafetensorsFolder::Stored& SafetensorsFolder::get(const std::string& name) const {
  const Stored* stored = find(name);
  if (!stored) throw Error(cat("tensor ", name, " is not in ", location_.string()), Failure::kNotFound);
  return *stored;
}

DType SafetensorsFolder::dtype(const Stored& stored) const {
  try {
    return dtype_from_safetensors(stored.tensor.dtype);
  } catch (const Error& e) {
    throw Error(cat(stored.file->path().string(), ": tensor ", stored.tensor.name, ": ", e.what()), e.failure());
  }
}

bool SafetensorsFolder::contains(const std::string& name) const { return find(name) != nullptr; }

TensorInfo SafetensorsFolder::info(const std::string& name) {
  const Stored& stored = get(name);
  return {dtype(stored), stored.tensor.shape, stored.file ? stored.file->path().string() : location()};
}

Tensor SafetensorsFolder::load(const std::string& name) {
  return borrow(name,
                [](const auto& file, uint64_t begin, uint64_t end) { return MappedFile::lease(file, begin, end); });
}

Tensor SafetensorsFolder::load_matrix(const std::string& name, int64_t index) {
  const Stored& stored = get(name);
  const std::vector<int64_t>& shape = stored.tensor.shape;
  return borrow(name,
                [&](const auto& file, uint64_t begin, uint64_t end) {
                  const uint64_t bytes = (end - begin) / static_cast<uint64_t>(shape.at(0));
                  begin += bytes * static_cast<uint64_t>(index);
                  return MappedFile::lease(file, begin, begin + bytes);
                })
      .matrix(index);
}

Tensor SafetensorsFolder::map(const std::string& name) {
  return borrow(name, [](const auto& file, uint64_t, uint64_t) { return file; });
}

void SafetensorsFolder::release_pages() const {
  for (const Stored& stored : stored_)
    if (stored.file && (&stored == &stored_.front() || stored.file != (&stored - 1)->file)) stored.file->release();
}

Tensor SafetensorsFolder::borrow(const std::string& name, const Hold& hold) {
  const Stored& stored = get(name);
  if (!stored.file) return stored.made;
  const DType type = dtype(stored);
  const uint64_t begin = stored.tensor.begin, end = stored.tensor.end;
  if (begin == end) return Tensor(type, stored.tensor.shape);
  auto lease = hold(stored.file, begin, end);
  const std::byte* data = stored.file->data() + begin;
  const size_t alignment = bits_of(type) % 8 ? 1 : size_of(type);
  if (reinterpret_cast<uintptr_t>(data) % alignment == 0)
    return Tensor(type, stored.tensor.shape, const_cast<std::byte*>(data), std::move(lease));
  Tensor copy(type, stored.tensor.shape);
  std::memcpy(copy.data(), data, end - begin);
  return copy;
}

bool holds_safetensors(const fs::path& folder) {
  std::error_code code;
  int files = 0;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    const fs::path& file = it->path();
    if (file.filename() == "model.safetensors" || file.filename() == "model.safetensors.index.json") return true;
    files += file.extension() == ".safetensors";
  }
  return files == 1;
}

}  // namespace roundhouse

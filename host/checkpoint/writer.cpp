#include "host/checkpoint/writer.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "host/base/error.h"
#include "host/checkpoint/safetensors_header.h"

namespace roundhouse {
namespace {

// The order in which the safetensors library lays out element types: by descending size, so that every tensor is
// aligned.
constexpr std::array kLayoutOrder{
    DType::kU64,        DType::kI64,    DType::kF64,    DType::kC64,    DType::kF32, DType::kU32,
    DType::kI32,        DType::kBF16,   DType::kF16,    DType::kU16,    DType::kI16, DType::kF8E5M2Fnuz,
    DType::kF8E4M3Fnuz, DType::kF8E8M0, DType::kF8E4M3, DType::kF8E5M2, DType::kI8,  DType::kU8,
    DType::kF6E3M2,     DType::kF6E2M3, DType::kF4E2M1, DType::kBool};

auto layout_rank(DType dtype) { return std::find(kLayoutOrder.begin(), kLayoutOrder.end(), dtype); }

std::string quoted(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error("a tensor name or its metadata is not valid UTF-8, which safetensors cannot hold");
  }
}

std::string json_object(const std::vector<std::string>& members) {
  std::string json = "{";
  for (const std::string& member : members) json += cat(&member == &members.front() ? "" : ",", member);
  return json + "}";
}

std::string temporary_name(size_t shard) { return cat("shard-", shard, ".safetensors"); }

std::string final_name(size_t shard, size_t count) {
  if (count == 1) return "model.safetensors";
  std::array<char, 80> name;
  std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", shard + 1, count);
  return name.data();
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(OutputFolder& folder, uint64_t max_shard_bytes,
                                     std::map<std::string, std::string> metadata)
    : folder_(folder), max_shard_bytes_(max_shard_bytes), metadata_(std::move(metadata)) {}

void SafetensorsWriter::add(const std::string& name, DType dtype, const std::vector<int64_t>& shape, const void* data) {
  assert(!finished_);
  if (name == "__metadata__") throw Error("a tensor cannot be called __metadata__: safetensors reserves that name");
  if (!names_.insert(name).second) throw Error(cat("tensor ", name, " would be written twice"));
  const uint64_t bytes = bytes_of(dtype, shape);
  if (spool_ && spool_->size() > 0 && spool_->size() + bytes > max_shard_bytes_) close_shard();
  if (!spool_) {
    spool_.emplace(folder_.partial() / "spool");
    ::unlink(spool_->path().c_str());  // it goes with its descriptor, whatever happens
  }
  pending_.push_back({name, dtype, shape, spool_->size(), bytes});
  spool_->write(data, bytes);
  total_bytes_ += bytes;
}

std::string SafetensorsWriter::header() const {
  std::vector<std::string> members;
  if (!metadata_.empty()) {
    std::vector<std::string> texts;
    for (const auto& [key, value] : metadata_) texts.push_back(cat(quoted(key), ":", quoted(value)));
    members.push_back(cat("\"__metadata__\":", json_object(texts)));
  }
  uint64_t offset = 0;
  for (const Pending& tensor : pending_) {
    members.push_back(cat(quoted(tensor.name), ":{\"dtype\":\"", safetensors_name(tensor.dtype),
                          "\",\"shape\":", nlohmann::json(tensor.shape).dump(), ",\"data_offsets\":[", offset, ",",
                          offset + tensor.bytes, "]}"));
    offset += tensor.bytes;
  }
  std::string json = json_object(members);
  json.resize((json.size() + 7) / 8 * 8, ' ');  // the data begin at a multiple of 8
  if (json.size() > kMaxSafetensorsHeader)
    throw Error(cat(pending_.size(), " tensors are too many for one safetensors file. Choose a smaller shard size."));
  return json;
}

void SafetensorsWriter::close_shard() {
  std::sort(pending_.begin(), pending_.end(), [](const Pending& a, const Pending& b) {
    const auto left = layout_rank(a.dtype), right = layout_rank(b.dtype);
    return left != right ? left < right : a.name < b.name;
  });
  const std::string json = header();
  const uint64_t length = json.size();  // little-endian, as this machine
  OutputFolder::File file = folder_.create(temporary_name(shards_.size()));
  file.write(&length, sizeof length);
  file.write(json.data(), json.size());
  std::vector<std::string> names;
  for (const Pending& tensor : pending_) {
    file.append(spool_->fd(), spool_->path(), tensor.offset, tensor.bytes);
    names.push_back(tensor.name);
  }
  file.commit();
  shards_.push_back(std::move(names));
  pending_.clear();
  spool_.reset();
}

void SafetensorsWriter::finish() {
  assert(!finished_);
  finished_ = true;
  if (spool_ || shards_.empty()) close_shard();
  nlohmann::json index{{"metadata", {{"total_size", total_bytes_}}}, {"weight_map", nlohmann::json::object()}};
  for (size_t i = 0; i < shards_.size(); ++i) {
    const std::string name = final_name(i, shards_.size());
    folder_.rename(temporary_name(i), name);
    for (const std::string& tensor : shards_[i]) index["weight_map"][tensor] = name;
  }
  if (shards_.size() > 1) folder_.write_text("model.safetensors.index.json", index.dump(2) + "\n");
}

void write_safetensors_file(const std::filesystem::path& file,
                            const std::vector<std::pair<std::string, Tensor>>& tensors) {
  // The writer fills a folder; the one file is moved out of it, and the folder goes.
  OutputFolder folder(cat(file.string(), ".folder"), false);
  SafetensorsWriter writer(folder, UINT64_MAX, {});
  for (const auto& [name, tensor] : tensors) writer.add(name, tensor.dtype(), tensor.shape(), tensor.data());
  writer.finish();
  std::error_code code;
  std::filesystem::rename(folder.partial() / "model.safetensors", file, code);
  if (code) throw Error(cat("cannot write ", file.string(), ": ", code.message()));
}

}  // namespace roundhouse

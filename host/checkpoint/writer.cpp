// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/writer.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "host/base/error.h"
#include "host/base/files.h"
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

std::string described(DType dtype, const std::vector<int64_t>& shape) {
  return cat(safetensors_name(dtype), " ", shape_text(shape));
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(OutputFolder& folder, uint64_t max_shard_bytes,
                                     const std::map<std::string, std::string>& metadata,
                                     const std::vector<TensorSpec>& tensors, std::string_view saved)
    : folder_(folder) {
  divide(tensors, max_shard_bytes);
  std::string about;
  if (!metadata.empty()) {
    std::vector<std::string> texts;
    for (const auto& [key, value] : metadata) texts.push_back(cat(quoted(key), ":", quoted(value)));
    about = cat("\"__metadata__\":", json_object(texts));
  }
  for (Shard& shard : shards_) {
    std::sort(shard.names.begin(), shard.names.end(), [&](const std::string& a, const std::string& b) {
      const auto left = layout_rank(tensors_.at(a).dtype), right = layout_rank(tensors_.at(b).dtype);
      return left != right ? left < right : a < b;
    });
    shard.missing = shard.names.size();
    shard.head = head(shard, about);
  }
  if (!saved.empty()) restore(saved);
}

void SafetensorsWriter::divide(const std::vector<TensorSpec>& tensors, uint64_t max_shard_bytes) {
  shards_.emplace_back();
  uint64_t shard_bytes = 0;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name == "__metadata__")
      throw Error("a tensor cannot be called __metadata__: safetensors reserves that name");
    const uint64_t bytes = bytes_of(tensor.dtype, tensor.shape);
    if (static_cast<uint64_t>(count_elements(tensor.shape)) * bits_of(tensor.dtype) != bytes * 8)
      throw Error(cat("tensor ", tensor.name, ": ", described(tensor.dtype, tensor.shape),
                      " does not fill whole bytes, as safetensors wants it"));
    if (shard_bytes > 0 && shard_bytes + bytes > max_shard_bytes) {
      shards_.emplace_back();
      shard_bytes = 0;
    }
    if (!tensors_.emplace(tensor.name, Placed{tensor.dtype, tensor.shape, shards_.size() - 1, 0, false}).second)
      throw Error(cat("tensor ", tensor.name, " would be written twice"));
    shards_.back().names.push_back(tensor.name);
    shard_bytes += bytes;
    total_bytes_ += bytes;
  }
}

std::string SafetensorsWriter::head(const Shard& shard, const std::string& metadata) {
  std::vector<std::string> members;
  if (!metadata.empty()) members.push_back(metadata);
  uint64_t offset = 0;  // from the beginning of the data
  for (const std::string& name : shard.names) {
    Placed& tensor = tensors_.at(name);
    tensor.offset = offset;
    offset += bytes_of(tensor.dtype, tensor.shape);
    members.push_back(cat(quoted(name), ":{\"dtype\":\"", safetensors_name(tensor.dtype),
                          "\",\"shape\":", nlohmann::json(tensor.shape).dump(), ",\"data_offsets\":[", tensor.offset,
                          ",", offset, "]}"));
  }
  std::string json = json_object(members);
  json.resize((json.size() + 7) / 8 * 8, ' ');  // the data begin at a multiple of 8
  if (json.size() > kMaxSafetensorsHeader)
    throw Error(
        cat(shard.names.size(), " tensors are too many for one safetensors file. Choose a smaller shard size."));
  const uint64_t length = json.size();  // little-endian, as this machine
  json.insert(0, reinterpret_cast<const char*>(&length), sizeof length);
  for (const std::string& name : shard.names) tensors_.at(name).offset += json.size();
  return json;
}

uint64_t SafetensorsWriter::bytes() const {
  uint64_t bytes = total_bytes_;
  for (const Shard& shard : shards_) bytes += shard.head.size();
  return bytes;
}

std::string SafetensorsWriter::file_name(size_t shard) const {
  if (shards_.size() == 1) return "model.safetensors";
  std::array<char, 80> name;
  std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", shard + 1, shards_.size());
  return name.data();
}

void SafetensorsWriter::add(const std::string& name, DType dtype, const std::vector<int64_t>& shape, const void* data) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Error(cat("tensor ", name, " was not announced when the file was begun"));
  Placed& tensor = found->second;
  if (dtype != tensor.dtype || shape != tensor.shape)
    throw Error(cat("tensor ", name, " is ", described(dtype, shape), ", but was announced as ",
                    described(tensor.dtype, tensor.shape)));
  if (tensor.added) throw Error(cat("tensor ", name, " would be written twice"));
  Shard& shard = shards_[tensor.shard];
  if (!shard.file) {
    shard.file.emplace(folder_.create(file_name(tensor.shard)));
    shard.file->write(shard.head.data(), shard.head.size());
  }
  shard.file->write_at(tensor.offset, data, bytes_of(dtype, shape));
  tensor.added = true;
  if (--shard.missing > 0) return;
  shard.file->commit();
  shard.file.reset();
}

// {"added": "1101", one digit for each tensor in the order of their names, "lengths": {file name: bytes}}
std::string SafetensorsWriter::save() {
  std::string added;
  for (const auto& [name, tensor] : tensors_) added += tensor.added ? '1' : '0';
  nlohmann::json saved{{"added", added}, {"lengths", nlohmann::json::object()}};
  for (size_t i = 0; i < shards_.size(); ++i)
    if (shards_[i].file) saved["lengths"][file_name(i)] = shards_[i].file->sync();
  return saved.dump();
}

void SafetensorsWriter::restore(std::string_view saved) {
  const nlohmann::json state = nlohmann::json::parse(saved, nullptr, /*allow_exceptions=*/false);
  if (!state.is_object() || !state.contains("added") || !state["added"].is_string() || !state.contains("lengths") ||
      !state["lengths"].is_object() || state["added"].get<std::string>().size() != tensors_.size())
    throw Error("what was saved of the safetensors files is damaged, or of other tensors", Failure::kDataLoss);
  const std::string added = state["added"];
  size_t next = 0;
  for (auto& [name, tensor] : tensors_) {
    tensor.added = added[next++] == '1';
    if (tensor.added) --shards_[tensor.shard].missing;
  }
  for (size_t i = 0; i < shards_.size(); ++i) {
    Shard& shard = shards_[i];
    if (shard.missing == shard.names.size()) continue;  // nothing of it was there
    const std::string name = file_name(i);
    const auto length = state["lengths"].find(name);
    const bool open = length != state["lengths"].end() && length->is_number_unsigned();
    if (open != (shard.missing > 0))
      throw Error("what was saved of the safetensors files is damaged", Failure::kDataLoss);
    // Of a whole file the length follows from its last tensor.
    const Placed& last = tensors_.at(shard.names.back());
    const uint64_t bytes = open ? length->get<uint64_t>() : last.offset + bytes_of(last.dtype, last.shape);
    try {
      OutputFolder::File file = folder_.reopen(name, bytes);
      std::string head(shard.head.size(), '\0');
      file.read_at(0, head.data(), head.size());
      if (head != shard.head)
        throw Error(cat(file.path().string(), " was begun with other tensors"), Failure::kDataLoss);
      if (open)
        shard.file.emplace(std::move(file));
      else
        file.commit();
    } catch (const Error& e) {
      if (e.failure() != Failure::kNotFound) throw;
      throw Error(cat((folder_.partial() / name).string(), " is missing"), Failure::kDataLoss);
    }
  }
}

void SafetensorsWriter::finish() {
  assert(!finished_);
  finished_ = true;
  for (const auto& [name, tensor] : tensors_)
    if (!tensor.added) throw Error(cat("tensor ", name, " was announced but never added"), Failure::kPrecondition);
  if (tensors_.empty()) folder_.write_text(file_name(0), shards_[0].head);
  if (shards_.size() == 1) return;
  nlohmann::json index{{"metadata", {{"total_size", total_bytes_}}}, {"weight_map", nlohmann::json::object()}};
  for (const auto& [name, tensor] : tensors_) index["weight_map"][name] = file_name(tensor.shard);
  folder_.write_text("model.safetensors.index.json", index.dump(2) + "\n");
}

void write_safetensors_file(const std::filesystem::path& given,
                            const std::vector<std::pair<std::string, Tensor>>& tensors,
                            const std::map<std::string, std::string>& metadata) {
  const std::filesystem::path file = replaceable(given);
  // The writer fills a folder; the one file is moved out of it, and the folder goes.
  OutputFolder folder(cat(file.string(), ".folder"), false);
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.dtype(), tensor.shape()});
  SafetensorsWriter writer(folder, UINT64_MAX, metadata, specs);
  for (const auto& [name, tensor] : tensors) writer.add(name, tensor.dtype(), tensor.shape(), tensor.data());
  writer.finish();
  std::error_code code;
  std::filesystem::rename(folder.partial() / "model.safetensors", file, code);
  if (code) throw Error(cat("cannot write ", file.string(), ": ", code.message()));
}

}  // namespace roundhouse

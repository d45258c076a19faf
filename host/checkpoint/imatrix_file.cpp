// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/imatrix_file.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "host/base/error.h"
#include "host/checkpoint/gguf_file.h"

namespace roundhouse {
namespace {

constexpr std::string_view kSquares = ".in_sum2", kCounts = ".counts";

ImatrixEntries read_gguf(const std::shared_ptr<const MappedFile>& mapped) {
  const GgufFile file(mapped);
  ImatrixEntries entries;
  for (const GgufFile::Entry& tensor : file.tensors()) {
    const auto stem = [&](std::string_view suffix) {
      return tensor.name.ends_with(suffix) ? tensor.name.substr(0, tensor.name.size() - suffix.size()) : "";
    };
    if (const std::string name = stem(kSquares); !name.empty()) {
      entries[name].squares = file.load_f32(tensor);
    } else if (const std::string name = stem(kCounts); !name.empty()) {
      const Tensor counts = file.load_f32(tensor);
      entries[name].counts.assign(counts.as<float>(), counts.as<float>() + counts.elements());
    }
  }
  if (entries.empty())
    throw Error(cat(mapped->path().string(), " holds no importance matrix: it has no tensors *", kSquares));
  return entries;
}

ImatrixEntries read_legacy(const MappedFile& file) {
  std::string_view rest = file.text();
  const auto fail = [&] {
    throw Error(cat(file.path().string(), " is no importance matrix, or damaged: neither GGUF nor llama.cpp's .dat"));
  };
  const auto take = [&](uint64_t bytes) {
    if (bytes > rest.size()) fail();
    const std::string_view taken = rest.substr(0, bytes);
    rest.remove_prefix(bytes);
    return taken;
  };
  const auto number = [&] {
    int32_t value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    if (value < 0) fail();
    return value;
  };
  ImatrixEntries entries;
  const int32_t count = number();
  if (count == 0) fail();
  for (int32_t i = 0; i < count; ++i) {
    ImatrixEntry& entry = entries[std::string(take(static_cast<uint64_t>(number())))];
    entry.counts = {static_cast<double>(number())};
    const int64_t values = number();
    const std::string_view data = take(static_cast<uint64_t>(values) * sizeof(float));
    entry.squares = Tensor(DType::kF32, {values});
    std::copy(data.begin(), data.end(), entry.squares.as<char>());
  }
  return entries;
}

}  // namespace

bool is_imatrix(const std::filesystem::path& path) {
  const auto mapped = std::make_shared<const MappedFile>(path);
  if (!GgufFile::is_gguf(*mapped)) return false;
  const GgufFile file(mapped);
  return std::any_of(file.tensors().begin(), file.tensors().end(),
                     [](const GgufFile::Entry& tensor) { return tensor.name.ends_with(kSquares); });
}

ImatrixEntries read_imatrix(const std::filesystem::path& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  return GgufFile::is_gguf(*file) ? read_gguf(file) : read_legacy(*file);
}

void write_imatrix(const std::filesystem::path& file, const Imatrix& imatrix) {
  const nlohmann::ordered_json metadata{{"general.type", "imatrix"},
                                        {"imatrix.datasets", nlohmann::ordered_json::array({imatrix.dataset})},
                                        {"imatrix.chunk_count", static_cast<uint32_t>(imatrix.chunk_count)},
                                        {"imatrix.chunk_size", static_cast<uint32_t>(imatrix.chunk_size)}};
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, entry] : imatrix.entries) {
    const Tensor& squares = entry.squares;
    const auto rows = static_cast<int64_t>(entry.counts.size());
    tensors.emplace_back(name + std::string(kSquares),
                         Tensor(DType::kF32, {rows, squares.elements() / rows}, squares.data(), squares.storage()));
    const Tensor counts(DType::kF32, {rows, 1});
    std::transform(entry.counts.begin(), entry.counts.end(), counts.as<float>(),
                   [](double count) { return static_cast<float>(count); });
    tensors.emplace_back(name + std::string(kCounts), counts);
  }
  write_gguf_file(file, metadata, tensors);
}

}  // namespace roundhouse

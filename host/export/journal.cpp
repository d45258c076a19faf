// SPDX-License-Identifier: Apache-2.0
#include "host/export/journal.h"

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/process_state.h"
#include "host/base/sha256.h"
#include "host/checkpoint/mapped_file.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kAlignment = 64;  // of tensors, as those of the host
constexpr const char *kData = ".data", *kIndex = ".json";

}  // namespace

RecordWriter::RecordWriter(fs::path file) : file_(std::move(file)) {
  const std::string head(kAlignment, '\n');  // no file is empty
  write(head.data(), head.size());
}

void RecordWriter::begin(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
  const std::string gap((kAlignment - file_.size() % kAlignment) % kAlignment, '\0');
  write(gap.data(), gap.size());
  tensors_[name] = {{"dtype", safetensors_name(dtype)}, {"shape", shape}, {"offset", file_.size()}};
}

void RecordWriter::add(const std::string& name, const Tensor& tensor) {
  begin(name, tensor.dtype(), tensor.shape());
  append(tensor);
}

void RecordWriter::add(const std::string& name, std::string_view bytes) {
  begin(name, DType::kU8, {static_cast<int64_t>(bytes.size())});
  write(bytes.data(), bytes.size());
}

Tensor JournalRecord::tensor(const std::string& name) const {
  const nlohmann::json& about = index_.at("tensors").at(name);
  return {dtype_from_safetensors(about.at("dtype").get<std::string>()), about.at("shape").get<std::vector<int64_t>>(),
          const_cast<std::byte*>(data_->data()) + about.at("offset").get<uint64_t>(), data_};
}

std::map<std::string, Tensor> JournalRecord::tensors(const std::string& prefix) const {
  std::map<std::string, Tensor> found;
  for (const auto& [name, about] : index_.at("tensors").items()) {
    if (!name.starts_with(prefix)) continue;
    const Tensor mapped = tensor(name);
    Tensor copy(mapped.dtype(), mapped.shape());
    if (mapped.bytes() > 0) std::memcpy(copy.data(), mapped.data(), mapped.bytes());
    found.emplace(name.substr(prefix.size()), std::move(copy));
  }
  return found;
}

std::string JournalRecord::bytes(const std::string& name) const {
  const Tensor mapped = tensor(name);
  return {mapped.as<const char>(), mapped.bytes()};
}

fs::path Journal::file(int64_t record, const char* extension) const { return folder_ / cat(record, extension); }

void Journal::remove(int64_t record) const {
  ::unlink(file(record, kIndex).c_str());
  ::unlink(file(record, kData).c_str());
}

void Journal::begin(const std::function<void(RecordWriter&)>& write, const std::function<void()>& counts) {
  assert(!forcing_.valid());
  const std::vector<int64_t> before = records();
  const int64_t number = before.empty() ? 1 : before.front() + 1;
  try {
    std::error_code code;
    if (fs::create_directories(folder_, code)) sync_folder(folder_.parent_path());
    if (code) throw Error(cat("cannot create ", folder_.string(), ": ", code.message()), failure_of(code.value()));
    for (size_t i = 1; i < before.size(); ++i) remove(before[i]);
    auto record = std::make_shared<RecordWriter>(file(number, kData));
    write(*record);
    // Where no thread can be had, settle() does it.
    forcing_ = std::async(std::launch::async | std::launch::deferred, [this, number, record, counts] {
      force(number, *record);
      counts();
    });
  } catch (const std::exception&) {
    remove(number);
    throw;
  }
}

void Journal::force(int64_t number, RecordWriter& record) const {
  const OwnDescriptors beside_plugins;
  const fs::path index = file(number, kIndex), temporary = index.string() + ".tmp";
  try {
    record.file_.sync_and_close();
    const std::string text = nlohmann::json{{"identity", identity_},
                                            {"state", std::move(record.state)},
                                            {"tensors", std::move(record.tensors_)},
                                            {"data", sha256_of_file(file(number, kData))}}
                                 .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    AppendFile out(temporary);
    const std::string lines = sha256(text) + "\n" + text;
    out.write(lines.data(), lines.size());
    out.sync_and_close();
    if (::rename(temporary.c_str(), index.c_str()) != 0)
      throw Error(cat("cannot rename ", temporary.string(), ": ", std::strerror(errno)), failure_of(errno));
    sync_folder(folder_);
  } catch (const std::exception&) {
    ::unlink(temporary.c_str());
    remove(number);
    throw;
  }
}

std::vector<int64_t> Journal::records() const {
  std::vector<int64_t> numbers;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder_, none)) {
    const std::string stem = entry.path().stem().string();
    int64_t number = 0;
    const auto [end, code] = std::from_chars(stem.data(), stem.data() + stem.size(), number);
    if (entry.path().extension() == kIndex && code == std::errc() && end == stem.data() + stem.size())
      numbers.push_back(number);
  }
  std::sort(numbers.rbegin(), numbers.rend());
  return numbers;
}

JournalRecord Journal::open(int64_t record) const {
  const fs::path index = file(record, kIndex), data = file(record, kData);
  const auto damaged = [](const fs::path& file) {
    return Error(cat(file.string(), " is damaged"), Failure::kDataLoss);
  };
  const std::string text = read_file(index);
  const size_t line = text.find('\n');
  if (line == std::string::npos || sha256(std::string_view(text).substr(line + 1)) != text.substr(0, line))
    throw damaged(index);
  JournalRecord opened;
  opened.number_ = record;
  opened.index_ = nlohmann::json::parse(text.substr(line + 1));
  if (sha256_of_file(data) != opened.index_.at("data").get<std::string>()) throw damaged(data);
  opened.data_ = std::make_shared<const MappedFile>(data);
  return opened;
}

}  // namespace roundhouse

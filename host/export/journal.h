// SPDX-License-Identifier: Apache-2.0
// The journal of a run: what a later process needs to go on where this one was broken off.
//
// A folder with two files a record: N.data has tensors, one after the other, and N.json says what they are, which run
// the record belongs to, and the digest of both. N.json appears when all of its record is on the disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/tensor.h"
#include "host/checkpoint/append_file.h"

namespace roundhouse {

class MappedFile;

// A record that is being written. All throw Error.
class RecordWriter {
 public:
  explicit RecordWriter(std::filesystem::path file);

  nlohmann::json state = nlohmann::json::object();  // what is small

  // REQUIRES: the name is new.
  void add(const std::string& name, const Tensor& tensor);
  void add(const std::string& name, std::string_view bytes);
  // A tensor whose elements come by append(), before anything else is added.
  void begin(const std::string& name, DType dtype, const std::vector<int64_t>& shape);
  void append(const Tensor& part) { write(part.data(), part.bytes()); }

 private:
  friend class Journal;
  void write(const void* data, uint64_t bytes) { file_.write(data, bytes); }

  AppendFile file_;
  nlohmann::json tensors_ = nlohmann::json::object();
};

// A whole record.
class JournalRecord {
 public:
  const nlohmann::json& identity() const { return index_.at("identity"); }
  const nlohmann::json& state() const { return index_.at("state"); }
  // Borrows the mapped file. Throws Error when there is none of that name.
  Tensor tensor(const std::string& name) const;
  // Copies of those whose names begin with `prefix`, by the rest of the name.
  std::map<std::string, Tensor> tensors(const std::string& prefix) const;
  std::string bytes(const std::string& name) const;
  int64_t number() const { return number_; }

 private:
  friend class Journal;
  int64_t number_ = 0;
  nlohmann::json index_;
  std::shared_ptr<const MappedFile> data_;
};

class Journal {
 public:
  // `identity` of the run: an object.
  Journal(std::filesystem::path folder, nlohmann::json identity)
      : folder_(std::move(folder)), identity_(std::move(identity)) {}

  // Writes a record, and begins to force it to the disk, which a thread does; then it counts, and the thread calls
  // `counts`. The one before it stays, older ones go first, and stay gone after an exception. Throws Error.
  // REQUIRES: the record before is settled.
  void begin(const std::function<void(RecordWriter&)>& write, const std::function<void()>& counts);
  // Waits until the last record counts. Throws Error when it does not.
  void settle() {
    if (forcing_.valid()) forcing_.get();
  }
  // Both.
  void add(const std::function<void(RecordWriter&)>& write) {
    begin(write, [] {});
    settle();
  }
  // The numbers of the records, the newest first.
  std::vector<int64_t> records() const;
  // Throws Error when the record is damaged.
  JournalRecord open(int64_t record) const;

  void remove(int64_t record) const;

 private:
  std::filesystem::path file(int64_t record, const char* extension) const;
  void force(int64_t number, RecordWriter& record) const;

  std::filesystem::path folder_;
  nlohmann::json identity_;
  std::future<void> forcing_;  // of the last record; its destructor waits
};

}  // namespace roundhouse

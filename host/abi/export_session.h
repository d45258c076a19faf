// SPDX-License-Identifier: Apache-2.0
// One export in progress, as a format plugin sees it.
#pragma once

#include <roundhouse/format.h>

#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "host/abi/services.h"
#include "host/checkpoint/output.h"

namespace roundhouse {

// Owns the rh_export that a format writes through: files go to `folder`, facts come from here. Must outlive the
// format's writer; `folder` must outlive both. One thread at a time.
class ExportSession {
 public:
  // Writes a layer's weight, dequantized by the data type that encoded it, to `output`. May throw.
  using Decode = std::function<void(const rh_encoded_layer&, rh_tensor& output)>;

  struct Facts {
    std::map<std::string, nlohmann::json> json;  // by the keys of rh_model.json
    std::map<std::string, std::string> paths;    // by the keys of rh_model.path
    // Facts of rh_model.json that are large: made when a format first asks.
    std::map<std::string, std::function<nlohmann::json()>> large{};
  };

  // `plan` must outlive the session. `host` is what the format was started with.
  ExportSession(OutputFolder& folder, const Facts& facts, const rh_plan& plan, uint64_t max_shard_bytes, Decode decode,
                const rh_host* host = host_table());
  ExportSession(const ExportSession&) = delete;
  ExportSession& operator=(const ExportSession&) = delete;

  const rh_export* get() const { return &table_; }

  // The session behind a table that a plugin hands back.
  static const ExportSession& of(const rh_export* table) { return *static_cast<const ExportSession*>(table->data); }
  OutputFolder& folder() const { return folder_; }
  uint64_t max_shard_bytes() const { return table_.max_shard_bytes; }
  // NULL when there is no such fact. May be called from any thread.
  const char* json(const std::string& key) const;
  const char* path(const std::string& key) const;
  void decode(const rh_encoded_layer& layer, rh_tensor& output) const { decode_(layer, output); }
  // Bytes of the safetensors files that the format has begun, once they are written.
  uint64_t announced() const { return announced_; }
  void announce(uint64_t bytes) const { announced_ += bytes; }

 private:
  OutputFolder& folder_;
  mutable std::map<std::string, std::string> json_;
  mutable std::mutex mutex_;  // of json_
  std::map<std::string, std::function<nlohmann::json()>> large_;
  std::map<std::string, std::string> paths_;
  Decode decode_;
  mutable uint64_t announced_ = 0;
  rh_export table_;
};

// Lets what readers of plugins have mapped leave this process's resident memory; their views stay valid.
void release_reader_pages();

}  // namespace roundhouse

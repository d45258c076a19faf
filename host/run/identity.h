// SPDX-License-Identifier: Apache-2.0
// What the bytes of a run depend on: only a run with the same of all goes on with what another one has left.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "host/discovery/catalogue.h"
#include "host/plan/original.h"
#include "host/plan/plan.h"
#include "host/run/texts.h"

namespace roundhouse {

// A file and its state, as stat() tells them.
struct FileStamp {
  uint64_t device = 0, inode = 0;
  int64_t size = 0, seconds = 0, nanoseconds = 0;
  bool operator==(const FileStamp&) const = default;
};

// The files of a model while a run reads them.
class FilesInUse {
 public:
  explicit FilesInUse(const std::filesystem::path& model);
  // Throws Error when one was written to. Another one in its place is none of what the run reads.
  void require_unchanged() const;

 private:
  std::map<std::filesystem::path, FileStamp> stamps_;
};

// Texts by what they are of. Threads, memory, evaluation and the output's place are not among them: no byte depends on
// them. Reads the beginning of each of the model's files. Throws Error.
nlohmann::json run_identity(const Plan& plan, const Original& original, const Catalogue& catalogue,
                            const std::string& device, const Texts& texts);

// An identity of exports that are complete: any device may evaluate them.
nlohmann::json without_device(nlohmann::json identity);

// What differs first, as a clause: the recipe has "tuning.iters: 100", and had "tuning.iters: 200"; "": nothing does.
std::string difference(const nlohmann::json& before, const nlohmann::json& now);

}  // namespace roundhouse

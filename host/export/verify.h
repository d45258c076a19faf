// SPDX-License-Identifier: Apache-2.0
// Whether a checkpoint on the disk is what a run made.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "host/abi/format_query.h"
#include "host/base/tensor.h"
#include "host/model/architecture.h"

namespace roundhouse {

// A number for each row of a tensor, the sum of its elements under fixed random signs: enough to tell two tensors apart
// and, as Johnson and Lindenstrauss showed, to estimate how far apart they are.
class Fingerprints {
 public:
  Fingerprints() = default;
  // Reads what write() wrote. Throws Error.
  static Fingerprints read(const std::filesystem::path& file);

  // Floating-point tensors only; others are passed over.
  void add(const std::string& name, const Tensor& tensor);
  // What add() has made of a tensor.
  void set(const std::string& name, std::vector<float> rows) { all_[name] = std::move(rows); }
  void write(const std::filesystem::path& file) const;

  const std::map<std::string, std::vector<float>>& all() const { return all_; }

  // The recipe's `architecture`, by which the checkpoint is read again.
  std::string family;

 private:
  std::map<std::string, std::vector<float>> all_;
};

// Where a run of that output folder leaves its fingerprints.
std::filesystem::path fingerprint_file(const std::filesystem::path& output);
// Those of a checkpoint, which lies in the output folder of its run, or is that; empty where there are none. Throws Error.
Fingerprints find_fingerprints(const std::filesystem::path& checkpoint);

struct Verification {
  int64_t files = 0;     // that were compared with their digests
  int64_t tensors = 0;   // that were read
  int64_t compared = 0;  // of them, with fingerprints of the run
  double largest = 0;    // relative difference among those
  std::string largest_of;
  std::vector<std::string> problems;  // empty: the checkpoint is good
  std::vector<std::string> notes;     // what is right, but worth knowing
};

// Reads every tensor once, one at a time: all that the architecture needs are there in the shapes that config.json
// says, and each agrees with its fingerprint (`fingerprints` may be empty). It judges the export, never the model: what
// is not finite or one constant by its fingerprint too was so before. A tensor that cannot be read is a problem, not an
// exception.
Verification verify(const Architecture& architecture, TensorSource& checkpoint, const Fingerprints& fingerprints);
// The same, added to what `result` has.
void verify(const Architecture& architecture, TensorSource& checkpoint, const Fingerprints& fingerprints,
            Verification& result);
// Adds what engines will stumble over: an error is a problem, a warning a note. What several engines share is told once.
void add_findings(Verification& result, const std::vector<Finding>& findings);
// Notes of the same, for an export that reads back as it was made: those of an engine that will not load it begin with
// "error ". What the format cannot look at is a note too.
std::vector<std::string> finding_notes(const LoadedFormat& format, const std::filesystem::path& checkpoint,
                                       const nlohmann::json& architecture);
// One line: how many tensors were read and compared, and the largest difference.
std::string verification_text(const Verification& result);

}  // namespace roundhouse

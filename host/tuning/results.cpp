// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/results.h"

#include "host/export/journal.h"

namespace roundhouse {
namespace {

// What names of tensors begin with.
const std::string kRange = "range/", kImportance = "importance/";

constexpr const char* kCounts = "importance_counts";

}  // namespace

void add_observations(RecordWriter& record, const Observations& seen) {
  for (const auto& [layer, range] : seen.ranges) record.add(kRange + layer, range);
  nlohmann::json& counts = record.state[kCounts] = nlohmann::json::object();
  for (const auto& [layer, squares] : seen.importance) {
    record.add(kImportance + layer, squares.sums);
    counts[layer] = squares.count;
  }
}

void take_observations(const JournalRecord& record, Observations& seen) {
  seen.ranges = record.tensors(kRange);
  seen.importance.clear();
  for (const auto& [layer, sums] : record.tensors(kImportance))
    seen.importance[layer] = {sums, record.state().at(kCounts).at(layer)};
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Writing what a run produces through the format plugins, each into its own folder.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "host/discovery/catalogue.h"
#include "host/export/encoded_layer.h"
#include "host/export/verify.h"
#include "host/plan/plan.h"

namespace roundhouse {

class JournalRecord;
class OutputFolder;
class RecordWriter;
class ReplayLog;

struct ExportTarget {
  std::string format;            // id
  nlohmann::json options;        // the format's own
  std::filesystem::path folder;  // appears whole at finish(), or not at all
};

// The targets of a recipe: one format writes the recipe's output folder itself, several write <output>/<format id>.
std::vector<ExportTarget> export_targets(const Recipe& recipe);

// An output is replaced as a whole. Throws Error when it holds what no run has put there: a model in a folder whose name is
// no format's, or files that its digests do not know.
void require_own_files(const std::filesystem::path& output, const Catalogue& catalogue);

// Feeds every format with the same layers and tensors. Destroyed before finish(): nothing is left behind.
class Exporter {
 public:
  // Writes into `output`, the recipe's, which must outlive it. `from`: a record that save() has a part in, to go on from
  // there. Throws Error; of kDataLoss when the folder no longer holds what was saved.
  Exporter(Catalogue& catalogue, const Plan& plan, const Architecture& architecture,
           const std::filesystem::path& model_folder, OutputFolder& output, const JournalRecord* from = nullptr);
  ~Exporter();

  // Bytes of the weights of each format's export, as far as it has laid its files out before the first layer comes.
  std::map<std::string, uint64_t> laid_out() const;
  void layer(const EncodedLayer& layer);
  void tensor(const std::string& name, const Tensor& tensor);
  // From now on save() may be called. REQUIRES: nothing was added since the constructor.
  void start_saving();
  // Forces to the disk what was written. After an Error the exports cannot go on. REQUIRES: start_saving().
  void save();
  // Adds what the last save() gave, and the fingerprints.
  void add_to(RecordWriter& record) const;
  // Ends all formats, adds their digests, `notes` (texts by file name) and the fingerprints, then makes all appear at
  // once. Returns the fingerprints of all that was written.
  Fingerprints finish(const std::map<std::string, std::string>& notes = {});

 private:
  struct Target;
  // Which formats get a layer or tensor.
  enum class To { kAll, kReplayed };
  void give(const EncodedLayer& layer, To to);
  void give(const std::string& name, const Tensor& tensor, To to);
  const Catalogue& catalogue_;
  OutputFolder& output_;
  std::vector<std::unique_ptr<Target>> targets_;
  nlohmann::json about_;  // the architecture's facts
  Fingerprints fingerprints_;
  std::set<std::string> omitted_;          // tensors that a format leaves out, on purpose: they have no fingerprint
  const EncodedLayer* current_ = nullptr;  // what the decode extension decodes
  std::vector<Tensor> decoded_;            // of that, in the element types that were asked for; for replay_
  std::unique_ptr<ReplayLog> replay_;      // where a format cannot save
  nlohmann::json saved_replay_;            // by replay_->save(), last
  uint64_t packed_since_trim_ = 0;         // bytes
};

// Begins all exports in a temporary folder and gives each layer that `body` makes to them, so that what formats refuse
// before or at a layer is known without an output. Throws Error as the exports would.
void rehearse(Catalogue& catalogue, const Plan& plan, const Architecture& architecture,
              const std::filesystem::path& model_folder, const std::function<void(Exporter&)>& body = {});

}  // namespace roundhouse

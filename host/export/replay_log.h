// SPDX-License-Identifier: Apache-2.0
// What the formats of a run got, for those that cannot save what they have: a later process gives it to them again.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/base/sha256.h"
#include "host/checkpoint/append_file.h"
#include "host/export/encoded_layer.h"

namespace roundhouse {

// One file, beside the records of a journal: for each layer or tensor a line of JSON and the bytes of its tensors.
// All throw Error.
class ReplayLog {
 public:
  // `saved`: what save() gave, to go on from there; null: from the beginning. Throws Error of kDataLoss when the file no
  // longer holds what was saved.
  ReplayLog(const std::filesystem::path& file, const nlohmann::json& saved);

  // decoded: what the formats had decoded of the layer, in each element type that they asked for.
  void layer(const EncodedLayer& layer, const std::vector<Tensor>& decoded);
  void tensor(const std::string& name, const Tensor& tensor);
  // Forces all to the disk.
  nlohmann::json save();

  // Calls back for all that was saved, in its order.
  void replay(const Plan& plan, const std::function<void(const EncodedLayer&)>& layer,
              const std::function<void(const std::string&, const Tensor&)>& tensor) const;

 private:
  void add(nlohmann::json about, const std::vector<Tensor>& tensors);

  AppendFile file_;
  Sha256 digest_;
};

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// What only the weights themselves tell of a plan. No libtorch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "host/base/tensor.h"
#include "host/discovery/catalogue.h"
#include "host/model/architecture.h"
#include "host/plan/plan.h"

namespace roundhouse {

struct WeightCheck {
  const Plan& plan;
  const Architecture& architecture;
  TensorSource& source;
  Catalogue& catalogue;
  std::filesystem::path model_folder;                                    // as Exporter takes it
  std::function<void(int64_t index, const std::string& name)> progress;  // tensor by tensor, of source.names()
};

// Reads every tensor once. Collects NaN and infinity, and the layers whose scales their data type or a format of the
// recipe cannot store, then throws Error with all of them. Asks the plugins on the CPU, where they name the place, and
// no device is waited for. Returns warnings: of tensors that no part of the model computes with, which are carried as
// they are.
std::vector<std::string> check_weights(const WeightCheck& check);

}  // namespace roundhouse

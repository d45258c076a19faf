// SPDX-License-Identifier: Apache-2.0
// Other tensors for a copied model.
#pragma once

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"

namespace roundhouse {

inline void edit_tensors(const std::filesystem::path& model,
                         const std::function<void(std::map<std::string, Tensor>&)>& edit) {
  std::map<std::string, Tensor> tensors;
  SafetensorsFolder source(model);
  for (const std::string& name : source.names()) {
    const Tensor stored = source.load(name);
    Tensor copy(stored.dtype(), stored.shape());
    std::memcpy(copy.data(), stored.data(), stored.bytes());
    tensors[name] = std::move(copy);
  }
  edit(tensors);
  write_safetensors_file(model / "new", {tensors.begin(), tensors.end()});
  std::filesystem::rename(model / "new", model / "model.safetensors");
}

}  // namespace roundhouse

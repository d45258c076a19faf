// SPDX-License-Identifier: Apache-2.0
#include "host/export/replay_log.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "host/base/error.h"

namespace roundhouse {
namespace {

constexpr uint64_t kRead = 1 << 20;  // bytes at a time

AppendFile open_log(const std::filesystem::path& file, const nlohmann::json& saved) {
  if (!saved.is_null()) return {file, saved.at("bytes").get<uint64_t>()};
  std::filesystem::create_directories(file.parent_path());
  return AppendFile(file);
}

}  // namespace

ReplayLog::ReplayLog(const std::filesystem::path& file, const nlohmann::json& saved) : file_(open_log(file, saved)) {
  if (saved.is_null()) return;
  std::vector<char> buffer(kRead);
  for (uint64_t at = 0; at < file_.size(); at += kRead) {
    const uint64_t bytes = std::min(kRead, file_.size() - at);
    file_.read_at(at, buffer.data(), bytes);
    digest_.add(buffer.data(), bytes);
  }
  if (digest_.hex() != saved.at("digest").get<std::string>())
    throw Error(cat(file.string(), " is damaged"), Failure::kDataLoss);
}

void ReplayLog::add(nlohmann::json about, const std::vector<Tensor>& tensors) {
  about["tensors"] = nlohmann::json::array();
  for (const Tensor& t : tensors) about["tensors"].push_back({safetensors_name(t.dtype()), t.shape()});
  const std::string line = about.dump();
  const uint64_t length = line.size();
  const auto write = [&](const void* data, uint64_t bytes) {
    file_.write(data, bytes);
    digest_.add(data, bytes);
  };
  write(&length, sizeof length);
  write(line.data(), length);
  for (const Tensor& t : tensors) write(t.data(), t.bytes());
}

void ReplayLog::layer(const EncodedLayer& layer, const std::vector<Tensor>& decoded) {
  std::vector<Tensor> tensors{layer.bias};
  for (const auto* more : {&layer.tensors, &layer.activation_tensors, &decoded})
    tensors.insert(tensors.end(), more->begin(), more->end());
  add({{"layer", layer.plan.info.name},
       {"encoded", layer.tensors.size()},
       {"activation", layer.activation_tensors.size()}},
      tensors);
}

void ReplayLog::tensor(const std::string& name, const Tensor& tensor) { add({{"tensor", name}}, {tensor}); }

nlohmann::json ReplayLog::save() {
  file_.sync();
  return {{"bytes", file_.size()}, {"digest", digest_.hex()}};
}

void ReplayLog::replay(const Plan& plan, const std::function<void(const EncodedLayer&)>& layer,
                       const std::function<void(const std::string&, const Tensor&)>& tensor) const {
  std::map<std::string, const LayerPlan*> layers;
  for (const LayerPlan& planned : plan.layers) layers[planned.info.name] = &planned;
  uint64_t at = 0;
  const auto read = [&](void* data, uint64_t bytes) {
    file_.read_at(at, data, bytes);
    at += bytes;
  };
  const uint64_t end = file_.size();
  while (at < end) {
    uint64_t length = 0;
    read(&length, sizeof length);
    std::string line(length, '\0');
    read(line.data(), length);
    const nlohmann::json about = nlohmann::json::parse(line);
    std::vector<Tensor> tensors;
    for (const nlohmann::json& t : about.at("tensors")) {
      tensors.emplace_back(dtype_from_safetensors(t[0].get<std::string>()), t[1].get<std::vector<int64_t>>());
      read(tensors.back().data(), tensors.back().bytes());
    }
    if (about.contains("tensor")) {
      tensor(about.at("tensor").get<std::string>(), tensors.front());
      continue;
    }
    const LayerPlan& planned = *layers.at(about.at("layer").get<std::string>());
    const auto encoded_end = tensors.begin() + 1 + about.at("encoded").get<std::ptrdiff_t>();
    const auto activation_end = encoded_end + about.at("activation").get<std::ptrdiff_t>();
    const std::vector<Tensor> encoded(tensors.begin() + 1, encoded_end);
    const auto decode = [&](const rh_tensor* const*, rh_tensor& output) {
      const auto weight = std::find_if(activation_end, tensors.end(),
                                       [&](const Tensor& t) { return t.dtype() == from_rh(output.dtype); });
      if (weight == tensors.end())
        throw Error(cat(planned.info.name, " is decoded as another element type than when it came first"));
      std::memcpy(static_cast<char*>(output.data) + output.byte_offset, weight->data(), weight->bytes());
    };
    EncodedLayer given{planned, planned.encoding->get(), encoded, tensors.front(), decode};
    if (planned.activation_encoding) given.activation_encoding = &planned.activation_encoding->get();
    given.activation_tensors.assign(encoded_end, activation_end);
    layer(given);
  }
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Layers in any encoding, with what is done to their input, through a format plugin.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/formats/format_fixture.h"

namespace roundhouse::formats {

// An encoding, and its tensors by name.
struct Encoded {
  std::string id;
  nlohmann::json parameters;
  std::vector<std::pair<std::string, Tensor>> tensors{};

  const Tensor& tensor(const std::string& name) const;
};

// Same id, parameters, and tensors bit for bit.
void expect_same(const Encoded& a, const Encoded& b);
void expect_same_bits(const Tensor& a, const Tensor& b, const std::string& name);

struct EncodedLayer {
  std::string name;
  int64_t rows, cols;
  Encoded weight;
  std::optional<Encoded> activation{};
};

// Random bytes below 2^bits.
Tensor random_codes(int64_t rows, int64_t cols, int bits);
// f32 powers of two times 1 or 1.5.
Tensor random_scales(std::vector<int64_t> shape, DType dtype = DType::kF32);

// The empty string, or what the format says against the layer.
std::string check(const FormatPlugin& format, const EncodedLayer& layer, const std::string& options = "{}");

// Writes an export of all layers. `kept`: names of the plan's layers that are not quantized; `tensors` are carried
// over. The empty string, or the plugin's message.
std::string write(const FormatPlugin& format, const std::filesystem::path& folder,
                  const std::vector<EncodedLayer>& layers, const std::vector<std::string>& kept = {},
                  const nlohmann::json& options = nlohmann::json::object(),
                  const std::vector<std::pair<std::string, Tensor>>& tensors = {});

// The layer as it would come from a data type.
EncodedLayer read_layer(const TestReader& reader, const std::string& weight_name);

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/encoded_layer.h"

namespace roundhouse::formats {

std::vector<uint8_t> rounded(const std::vector<float>& values, rh_data_type dtype) {
  std::vector<uint8_t> bytes(values.size() * (dtype.bits / 8));
  const rh_tensor output{bytes.data(), {RH_DEVICE_CPU, 0}, 0, dtype, nullptr, nullptr, 0};
  for (size_t i = 0; i < values.size(); ++i) rh_store(&output, static_cast<int64_t>(i), values[i]);
  return bytes;
}

}  // namespace roundhouse::formats

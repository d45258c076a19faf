#include "plugins/formats/lib/encoded_layer.h"

namespace roundhouse::formats {

float element(const rh_tensor& tensor, int64_t i) {
  if (rh::same_type(tensor.dtype, rh::kF32)) return rh::data<float>(tensor)[i];
  if (rh::same_type(tensor.dtype, rh::kF16)) return kernels::float_from_half(rh::data<uint16_t>(tensor)[i]);
  if (rh::same_type(tensor.dtype, rh::kBF16)) return kernels::float_from_bfloat(rh::data<uint16_t>(tensor)[i]);
  throw rh::Error(RH_INVALID_ARGUMENT, "a scale must be f16, bf16 or f32");
}

std::vector<uint8_t> rounded(const std::vector<float>& values, rh_data_type dtype) {
  std::vector<uint8_t> bytes(values.size() * (dtype.bits / 8));
  rh_tensor output{bytes.data(), {RH_DEVICE_CPU, 0}, 0, dtype, nullptr, nullptr, 0};
  write_weights(output, [&](auto* out, auto convert) {
    for (size_t i = 0; i < values.size(); ++i) out[i] = convert(values[i]);
  });
  return bytes;
}

}  // namespace roundhouse::formats

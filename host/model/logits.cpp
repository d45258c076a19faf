// SPDX-License-Identifier: Apache-2.0
#include "host/model/logits.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "host/model/accelerator.h"
#include "host/model/decoder.h"

namespace roundhouse {

Tensor logits(const Architecture& architecture, TensorSource& source, const std::vector<int32_t>& ids,
              const InputHook& input_hook, const std::string& device) {
  const at::NoGradGuard no_grad;
  const OnRunDevice on_device{at::Device(device)};
  Decoder decoder(architecture, source, at::kFloat, at::Device(device));
  decoder.set_input_hook(input_hook);
  at::Tensor hidden = decoder.embed(at::tensor(ids, at::kInt).to(at::kLong).unsqueeze(0));
  const PositionData positions = decoder.positions(static_cast<int64_t>(ids.size()));
  for (int64_t i = 0; i < architecture.blocks(); ++i) hidden = decoder.block(i).forward(hidden, positions);
  return from_torch(decoder.head(hidden)[0].cpu().contiguous());
}

}  // namespace roundhouse

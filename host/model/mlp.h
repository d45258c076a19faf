// SPDX-License-Identifier: Apache-2.0
// The MLP of a loaded block.
#pragma once

#include "host/model/linears.h"
#include "host/model/loading.h"
#include "host/model/ops.h"

namespace roundhouse {

class Mlp {
 public:
  // Its linears are those of `info`, in the slots from `first` on.
  Mlp(MlpInfo info, size_t first, const Loader& load);

  // x, result: [..., hidden]
  at::Tensor forward(const Linears& linears, const at::Tensor& x) const {
    return forward(linears, x, linears.input_hook);
  }
  // With this hook in place of the linears' own. gathered: of an expert of many, for its weights' gradients.
  at::Tensor forward(const Linears& linears, const at::Tensor& x, const InputHook& hook,
                     const std::shared_ptr<GatheredRows>& gathered = nullptr) const;

 private:
  MlpInfo info_;
  size_t first_;
  std::optional<Xielu> xielu_;
};

}  // namespace roundhouse

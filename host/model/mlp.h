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

  // x, result: [batch, seq, hidden]
  at::Tensor forward(const Linears& linears, const at::Tensor& x) const;

 private:
  MlpInfo info_;
  size_t first_;
  std::optional<Xielu> xielu_;
};

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// The data type "emulated_q4_0": blocks of "q4_0" whose CUDA kernels run on the processor.
#include <roundhouse/plugin.hpp>

#include "plugins/dtypes/ggml/ggml_quantizer.h"

namespace {

using roundhouse::ggml::BlockType;

class EmulatedQ4_0 : public rh::Dtype {
 public:
  EmulatedQ4_0()
      : Dtype("emulated_q4_0", "q4_0 with emulated CUDA kernels", RH_ENCODING_GGML_BLOCK,
              RH_SUPPORTS_CPU | RH_SUPPORTS_CUDA | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_SEARCH | RH_SUPPORTS_TUNING |
                  RH_SUPPORTS_TUNED_SEARCH,
              {}) {}
  void check(const rh_layer& layer) const override { roundhouse::ggml::make_ggml_layer(BlockType::kQ4_0, layer); }
  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<roundhouse::ggml::GgmlQuantizer>(BlockType::kQ4_0, layer);
  }
};

struct EmulatedPlugin {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<EmulatedQ4_0>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(EmulatedPlugin, "emulated_q4_0", "Roundhouse", "0.1.0", "q4_0 with emulated CUDA kernels")

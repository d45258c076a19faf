// SPDX-License-Identifier: Apache-2.0
// The data type "emulated_int": weights of "int" whose CUDA kernels run on the processor.
#include <roundhouse/plugin.hpp>

#include "plugins/dtypes/int/int_weight.h"
#include "plugins/dtypes/lib/affine/affine_check.h"

namespace {

class EmulatedInt : public rh::Dtype {
 public:
  EmulatedInt()
      : Dtype("emulated_int", "int with emulated CUDA kernels", RH_ENCODING_AFFINE_INT,
              kAffineDevices | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_SEARCH | RH_SUPPORTS_TUNING, {}) {}
  void check(const rh_layer& layer) const override { int_layer(layer); }
  std::unique_ptr<rh::Quantizer> create(const rh_layer& layer) const override {
    return std::make_unique<IntWeight>(layer);
  }
};

struct EmulatedPlugin {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<EmulatedInt>());
    return contents;
  }
};

}  // namespace

RH_PLUGIN(EmulatedPlugin, "emulated_int", "Roundhouse", "0.1.0", "int with emulated CUDA kernels")

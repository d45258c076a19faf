// SPDX-License-Identifier: Apache-2.0
// The format `mxfp4`, only read: gpt-oss. A stack S of `count` experts with [rows, cols] weights:
//
//   S_blocks  u8 [count, rows, cols / 32, 16]  fp4_e2m1, the even column in the low bits
//   S_scales  u8 [count, rows, cols / 32]      E8M0
//
// Each expert is a layer: of ....experts.gate_up_proj the fourth is ....experts.3.gate_up_proj. All else, the stack's
// S_bias too, stays as it is.
#include "plugins/formats/lib/float_layout.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

bool is_own(const Json& quantization) { return text_at(quantization, "quant_method") == "mxfp4"; }

class Mxfp4 : public ReadOnlyFormat {
 public:
  Mxfp4() : ReadOnlyFormat("mxfp4", "gpt-oss: stacks of mxfp4 experts. Only read.") {}

  int32_t probe(const std::string& folder) const override {
    return is_own(quantization_of(read_config_or_empty(folder))) ? 100 : 0;
  }
  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder), quantization = quantization_of(config);
    rh::require(is_own(quantization), folder + "/config.json: quant_method is not mxfp4");
    const rh_data_type dtype = config_dtype(config, folder);
    return std::make_unique<LayerReader>(
        folder, quantization, [dtype](const std::string& name, const LayerReader::Tensors& tensors) {
          const FloatLayer::Tensors parts{find(tensors, "weight_packed"), find(tensors, "weight_scale"), nullptr};
          return std::make_unique<FloatLayer>(name, rh::Mx(RH_MX_FP4_E2M1), parts, dtype);
        });
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<Mxfp4>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "mxfp4", "Roundhouse", "0.1.0", "Reads the mxfp4 checkpoints of gpt-oss.")

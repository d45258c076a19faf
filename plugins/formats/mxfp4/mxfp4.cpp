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

constexpr std::string_view kBlocks = "_blocks", kScales = "_scales";
constexpr int64_t kGroup = 32;

bool is_own(const Json& quantization) { return text_at(quantization, "quant_method") == "mxfp4"; }

class StackReader : public rh::Reader {
 public:
  StackReader(const std::string& folder, rh_data_type dtype) : tensors_(folder) {
    for (const TensorReader::Entry& entry : tensors_.entries()) {
      const std::string& name = entry.name;
      const auto stack_of = [&](std::string_view suffix) { return name.substr(0, name.size() - suffix.size()); };
      if (name.ends_with(kScales) && tensors_.find(stack_of(kScales) + std::string(kBlocks))) continue;
      if (name.ends_with(kBlocks))
        add_stack(folder, stack_of(kBlocks), *entry.view, dtype);
      else
        items_.push_back({&entry, nullptr});
    }
  }

  uint64_t count() const override { return items_.size(); }
  void item(uint64_t index, rh_item& out) override {
    const Item& item = at(index);
    if (item.tensor) return describe_tensor(*item.tensor, out);
    item.expert->layer.describe(out);
    out.stack = &item.expert->stack;
  }
  void read(uint64_t index, rh_tensor& output) override {
    const Item& item = at(index);
    if (item.tensor) return copy_tensor(*item.tensor, output);
    const FloatLayer& layer = item.expert->layer;
    rh::require(output.ndim == 2 && output.shape[0] == layer.rows() && output.shape[1] == layer.cols(),
                layer.name() + ": the output has another shape");
    layer.read(output);
  }
  void read_encoded(uint64_t index, rh_tensor* const* tensors) override {
    const Item& item = at(index);
    rh::require(!item.tensor, "the tensor is not quantized");
    item.expert->layer.read_encoded(tensors);
  }

 private:
  struct Expert {
    std::string stack_name;
    rh::View codes, scale;
    FloatLayer layer;
    rh_stack stack;

    Expert(const std::string& stack_of, const std::string& name, int64_t index, int64_t count, const uint8_t* blocks,
           const uint8_t* scales, int64_t rows, int64_t cols, rh_data_type dtype)
        : stack_name(stack_of),
          codes(const_cast<uint8_t*>(blocks), rh::kU8, {rows, cols / 2}),
          scale(const_cast<uint8_t*>(scales), rh::kU8, {rows, cols / kGroup}),
          layer(name, rh::Mx(RH_MX_FP4_E2M1), FloatLayer::Tensors{codes.get(), scale.get(), nullptr}, dtype),
          stack{sizeof stack, 0, stack_name.c_str(), index, count} {}
  };
  struct Item {
    const TensorReader::Entry* tensor;  // nullptr: an expert
    std::unique_ptr<Expert> expert;
  };

  void add_stack(const std::string& folder, const std::string& name, const rh_tensor& blocks, rh_data_type dtype) {
    const rh_tensor* scales = tensors_.find(name + std::string(kScales));
    if (blocks.ndim != 4 || blocks.shape[3] != kGroup / 2 || !rh::same_type(blocks.dtype, rh::kU8) ||
        rh::elements(blocks) == 0 || !scales || scales->ndim != 3 || !rh::same_type(scales->dtype, rh::kU8) ||
        !std::equal(scales->shape, scales->shape + 3, blocks.shape))
      throw rh::Error(RH_DATA_LOSS, cat(folder, ": ", name, kBlocks, " of ", shape_text(blocks),
                                        " is not U8 [experts, rows, groups, 16] with ", name, kScales,
                                        " of U8 [experts, rows, groups]"));
    const int64_t count = blocks.shape[0], rows = blocks.shape[1], cols = blocks.shape[2] * kGroup;
    const size_t dot = name.rfind('.');
    const std::string before = dot == std::string::npos ? "" : name.substr(0, dot + 1);
    for (int64_t i = 0; i < count; ++i)
      items_.push_back({nullptr, std::make_unique<Expert>(name, cat(before, i, ".", name.substr(before.size())), i,
                                                          count, rh::data<const uint8_t>(blocks) + i * rows * cols / 2,
                                                          rh::data<const uint8_t>(*scales) + i * rows * cols / kGroup,
                                                          rows, cols, dtype)});
  }
  const Item& at(uint64_t index) const {
    if (index >= items_.size()) throw rh::Error(RH_OUT_OF_RANGE, "no such tensor");
    return items_[index];
  }

  const TensorReader tensors_;
  std::vector<Item> items_;
};

class Mxfp4 : public ReadOnlyFormat {
 public:
  Mxfp4() : ReadOnlyFormat("mxfp4", "gpt-oss: stacks of mxfp4 experts. Only read.") {}

  int32_t probe(const std::string& folder) const override {
    return is_own(quantization_of(read_config_or_empty(folder))) ? 100 : 0;
  }
  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder);
    rh::require(is_own(quantization_of(config)), folder + "/config.json: quant_method is not mxfp4");
    return std::make_unique<StackReader>(folder, config_dtype(config, folder));
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

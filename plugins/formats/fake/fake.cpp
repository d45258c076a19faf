// SPDX-License-Identifier: Apache-2.0
// The format `fake`: a plain checkpoint with the dequantized weights, in the source's element types and under its
// names. Any engine loads it. The smallest format there is: copy this folder to write another.
#include <roundhouse/ext/decode.h>

#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {
namespace {

// Marks our own in config.json, where engines ignore keys that they do not know.
constexpr const char* kMarker = "roundhouse_format";

class FakeWriter : public rh::SafetensorsWriter {
 public:
  explicit FakeWriter(const rh_export& target)
      : SafetensorsWriter(target), decoder_(rh::required_extension<rh_decode>(RH_EXT_DECODE)) {}

 private:
  void store_layer(const rh_encoded_layer& encoded, TensorWriter& out) override {
    const rh_format_layer& layer = *encoded.layer;
    const std::string name = layer.name;
    out.add(name + ".weight", layer.dtype, {layer.rows, layer.cols}, [&] {
      std::vector<char> weight(layer.rows * layer.cols * (layer.dtype.bits / 8));
      int64_t shape[] = {layer.rows, layer.cols};
      rh_tensor output{weight.data(), {RH_DEVICE_CPU, 0}, 2, layer.dtype, shape, nullptr, 0};
      rh::host_call([&](rh_error* e) { return decoder_.decode(&target(), &encoded, &output, e); });
      return weight;
    });
    if (encoded.bias) out.add(name + ".bias", *encoded.bias);
  }

  void write_files() override {
    Json config = model_json(target(), "config");
    config[kMarker] = "fake";
    write_json(target(), "config.json", config);
    copy_side_files(target());
  }

  const rh_decode& decoder_;
};

class FakeReader : public rh::Reader {
 public:
  explicit FakeReader(const std::string& folder) : tensors_(folder) {}
  uint64_t count() const override { return tensors_.entries().size(); }
  void item(uint64_t index, rh_item& out) override { describe_tensor(tensors_.entries().at(index), out); }
  void read(uint64_t index, rh_tensor& output) override { copy_tensor(tensors_.entries().at(index), output); }

 private:
  TensorReader tensors_;
};

class Fake : public rh::Format {
 public:
  Fake()
      : Format("fake", "The dequantized weights as a plain checkpoint, for engines that know no quantization.", {"*"}) {
  }

  void check(const rh_format_layer&, const char*) const override {}
  void plan(const rh_plan&, std::vector<rh::Answer>& answers) const override {
    for (rh::Answer& answer : answers) answer.what = RH_TENSOR_COPIED;
  }
  const char* backends_json() const override {
    return R"([{"engine": "transformers", "devices": ["cpu", "cuda"], "priority": 0}])";
  }
  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<FakeWriter>(target);
  }
  bool resumes() const override { return true; }
  int32_t probe(const std::string& folder) const override {
    return text_at(read_config_or_empty(folder), kMarker) == "fake" ? 1 : 0;
  }
  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    return std::make_unique<FakeReader>(source.path);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<Fake>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "fake", "Roundhouse", "0.1.0", "Writes dequantized checkpoints.")

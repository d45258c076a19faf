// SPDX-License-Identifier: Apache-2.0
#include "tests/formats/encoded_fixture.h"

#include <cmath>
#include <cstring>
#include <random>

#include "host/abi/services.h"

namespace roundhouse::formats {
namespace {

// What crosses the boundary for one encoding; borrows from it.
struct EncodingView {
  explicit EncodingView(const Encoded& from) : parameters(from.parameters.dump()) {
    for (const auto& [name, tensor] : from.tensors) {
      const auto& shape = tensor.shape();
      if (shape.size() == 1) specs.add(name.c_str(), to_rh(tensor.dtype()), {shape[0]});
      if (shape.size() == 2) specs.add(name.c_str(), to_rh(tensor.dtype()), {shape[0], shape[1]});
      views.push_back(tensor.view());
    }
    for (const rh_tensor& view : views) tensors.push_back(&view);
    encoding = {sizeof encoding, specs.count(), from.id.c_str(), parameters.c_str(), specs.data()};
  }
  EncodingView(const EncodingView&) = delete;

  std::string parameters;
  rh::Specs specs;
  std::vector<rh_tensor> views;
  std::vector<const rh_tensor*> tensors;
  rh_encoding encoding;
};

struct LayerView {
  explicit LayerView(const EncodedLayer& layer) : weight(layer.weight) {
    if (layer.activation) activation.emplace(*layer.activation);
    about.struct_size = sizeof about;
    about.name = layer.name.c_str();
    about.role = "";
    about.rows = layer.rows;
    about.cols = layer.cols;
    about.dtype = to_rh(DType::kBF16);
    about.encoding = &weight.encoding;
    about.activation_encoding = activation ? &activation->encoding : nullptr;
  }

  EncodingView weight;
  std::optional<EncodingView> activation;
  rh_format_layer about{};
};

// Runs call(rh_error*).
template <typename Call>
std::string message_of(Call&& call) {
  rh_error error{};
  return call(&error) == RH_OK ? "" : error.message;
}

// Tensors that an encoding declares, and views of them to fill.
struct Output {
  explicit Output(const rh_encoding& encoding) : encoded{encoding.id, nlohmann::json::parse(encoding.parameters_json)} {
    for (uint32_t i = 0; i < encoding.tensor_count; ++i) {
      const rh_tensor_spec& spec = *encoding.tensors[i];
      encoded.tensors.emplace_back(
          spec.name, Tensor(from_rh(spec.dtype), std::vector<int64_t>(spec.shape, spec.shape + spec.ndim)));
    }
    for (const auto& [name, tensor] : encoded.tensors) views.push_back(tensor.view());
    for (rh_tensor& view : views) pointers.push_back(&view);
  }

  Encoded encoded;
  std::vector<rh_tensor> views;
  std::vector<rh_tensor*> pointers;
};

}  // namespace

const Tensor& Encoded::tensor(const std::string& name) const {
  for (const auto& [key, tensor] : tensors) {
    if (key == name) return tensor;
  }
  throw Error("there is no tensor " + name);
}

void expect_same_bits(const Tensor& a, const Tensor& b, const std::string& name) {
  ASSERT_EQ(a.dtype(), b.dtype()) << name;
  ASSERT_EQ(a.shape(), b.shape()) << name;
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0) << name;
}

void expect_same(const Encoded& a, const Encoded& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.parameters, b.parameters);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    EXPECT_EQ(a.tensors[i].first, b.tensors[i].first);
    expect_same_bits(a.tensors[i].second, b.tensors[i].second, a.tensors[i].first);
  }
}

Tensor random_codes(int64_t rows, int64_t cols, int bits) {
  std::mt19937 random(static_cast<unsigned>(rows * 31 + cols * 7 + bits));
  Tensor codes(DType::kU8, {rows, cols});
  for (int64_t i = 0; i < rows * cols; ++i) codes.as<uint8_t>()[i] = static_cast<uint8_t>(random() >> (32 - bits));
  return codes;
}

Tensor random_scales(std::vector<int64_t> shape, DType dtype) {
  std::mt19937 random(static_cast<unsigned>(count_elements(shape)));
  Tensor scales(DType::kF32, std::move(shape));
  for (int64_t i = 0; i < scales.elements(); ++i) {
    scales.as<float>()[i] = std::ldexp(random() % 2 ? 1.0f : 1.5f, -static_cast<int>(random() % 8));
  }
  return scales.to(dtype);
}

std::string check(const FormatPlugin& format, const EncodedLayer& layer, const std::string& options) {
  const LayerView view(layer);
  return message_of([&](rh_error* error) { return format->check(format.get(), &view.about, options.c_str(), error); });
}

std::string write(const FormatPlugin& format, const std::filesystem::path& path,
                  const std::vector<EncodedLayer>& layers, const std::vector<std::string>& kept,
                  const nlohmann::json& options, const std::vector<std::pair<std::string, Tensor>>& tensors) {
  OutputFolder folder(path, false);
  ExportSession::Facts facts;
  facts.json["config"] = {{"model_type", "llama"}, {"dtype", "bfloat16"}};
  facts.json["tuning"] = {{"iters", 0}};
  facts.json["plan"] = {{"data_type", nullptr}, {"layers", nlohmann::json::object()}};
  TestPlan plan(options);
  for (const EncodedLayer& layer : layers) {
    const LayerView view(layer);
    plan.add_layer(layer.name, layer.rows, layer.cols, DType::kBF16, view.weight.encoding,
                   view.activation ? &view.activation->encoding : nullptr);
  }
  for (const auto& name : kept) plan.add_tensor(name + ".weight", {2, 3}, DType::kBF16);
  for (const auto& [name, tensor] : tensors) plan.add_tensor(name, tensor.shape(), tensor.dtype());
  if (const std::string refusal = plan.refusal(format); !refusal.empty()) return refusal;
  facts.paths["model"] = "/nonexistent";
  ExportSession session(folder, facts, plan.get(), uint64_t{1} << 30,
                        [](const rh_encoded_layer&, rh_tensor&) { throw Error("no format asks for weights here"); });
  rh_writer* writer = nullptr;
  const std::string begun =
      message_of([&](rh_error* error) { return format->begin(format.get(), session.get(), &writer, error); });
  if (!begun.empty()) return begun;
  for (const EncodedLayer& layer : layers) {
    const LayerView view(layer);
    rh_encoded_layer encoded{};
    encoded.struct_size = sizeof encoded;
    encoded.layer = &view.about;
    encoded.tensors = view.weight.tensors.data();
    encoded.activation_tensors = view.activation ? view.activation->tensors.data() : nullptr;
    const std::string failure = message_of([&](rh_error* error) { return writer->add_layer(writer, &encoded, error); });
    if (!failure.empty()) {
      writer->abort(writer);
      return failure;
    }
  }
  for (const auto& [name, tensor] : tensors) {
    const rh_tensor view = tensor.view();
    EXPECT_EQ(message_of([&](rh_error* e) { return writer->add_tensor(writer, name.c_str(), &view, e); }), "");
  }
  for (const auto& name : kept) {
    const Tensor weight(DType::kBF16, {2, 3});
    const rh_tensor view = weight.view();
    const std::string tensor = name + ".weight";
    EXPECT_EQ(message_of([&](rh_error* e) { return writer->add_tensor(writer, tensor.c_str(), &view, e); }), "");
  }
  const std::string failure = message_of([&](rh_error* error) { return writer->finish(writer, error); });
  if (failure.empty()) folder.finish();
  return failure;
}

EncodedLayer read_layer(const TestReader& reader, const std::string& weight_name) {
  const rh_item item = reader.item(weight_name);
  EncodedLayer layer{
      weight_name.substr(0, weight_name.size() - std::strlen(".weight")), item.shape[0], item.shape[1], {}};
  rh_reader* table = reader.get();
  const uint64_t index = reader.index(weight_name);
  Output weight(*item.encoding);
  EXPECT_EQ(message_of([&](rh_error* e) { return table->read_encoded(table, index, weight.pointers.data(), e); }), "");
  layer.weight = weight.encoded;
  if (item.activation_encoding) {
    Output activation(*item.activation_encoding);
    EXPECT_EQ(
        message_of([&](rh_error* e) { return table->read_activation(table, index, activation.pointers.data(), e); }),
        "");
    layer.activation = activation.encoded;
  }
  return layer;
}

}  // namespace roundhouse::formats

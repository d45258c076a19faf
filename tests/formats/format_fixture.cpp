// SPDX-License-Identifier: Apache-2.0
#include "tests/formats/format_fixture.h"

#include <cstring>
#include <fstream>
#include <random>

#include "host/abi/services.h"
#include "kernels/floats.h"

namespace roundhouse::formats {
namespace {

using kernels::bfloat_from_float;
using kernels::float_from_bfloat;
using kernels::float_from_half;

// What crosses the boundary for one layer; borrows from the TestLayer.
struct EncodedView {
  explicit EncodedView(const TestLayer& layer) {
    parameters =
        nlohmann::json{
            {"bits", layer.bits}, {"group_cols", layer.group_cols()}, {"group_rows", 1}, {"symmetric", layer.symmetric}}
            .dump();
    specs.add("codes", rh::kU8, {layer.rows, layer.cols});
    specs.add("scale", to_rh(layer.scale.dtype()), {layer.rows, layer.groups()});
    codes = layer.codes.view();
    scale = layer.scale.view();
    tensors = {&codes, &scale};
    if (!layer.symmetric) {
      specs.add("zero_point", rh::kU8, {layer.rows, layer.groups()});
      zero_point = layer.zero_point.view();
      tensors.push_back(&zero_point);
    }
    if (layer.outer_scale.elements() == 1) {
      specs.add("outer_scale", rh::kF32, {1});
      outer_scale = layer.outer_scale.view();
      tensors.push_back(&outer_scale);
    }
    encoding = {sizeof encoding, specs.count(), RH_ENCODING_AFFINE_INT, parameters.c_str(), specs.data()};
    bias = layer.bias.view();
  }
  EncodedView(const EncodedView&) = delete;
  EncodedView& operator=(const EncodedView&) = delete;

  std::string parameters;
  rh::Specs specs;
  rh_tensor codes, scale, zero_point, outer_scale, bias;
  std::vector<const rh_tensor*> tensors;
  rh_encoding encoding;
};

rh_format_layer layer_view(const TestLayer& layer, const EncodedView& view, bool activated) {
  rh_format_layer out{};
  out.struct_size = sizeof out;
  out.dtype = to_rh(layer.dtype);
  out.name = layer.name.c_str();
  out.role = "";
  out.rows = layer.rows;
  out.cols = layer.cols;
  out.encoding = &view.encoding;
  out.activation_encoding = activated ? &view.encoding : nullptr;
  return out;
}

std::string message(rh_code code, const rh_error& error) { return code == RH_OK ? "" : error.message; }

// Runs call(rh_error*).
template <typename Call>
std::string run(Call&& call) {
  rh_error error{};
  return message(call(&error), error);
}

// What the host does for a format that asks for weights.
void decode(const std::vector<TestLayer>& layers, const rh_encoded_layer& encoded, rh_tensor& output) {
  for (const TestLayer& layer : layers) {
    if (layer.name != encoded.layer->name) continue;
    for (int64_t i = 0; i < layer.rows * layer.cols; ++i) {
      const float weight = layer.weight(i / layer.cols, i % layer.cols);
      if (rh::same_type(output.dtype, rh::kF32)) rh::data<float>(output)[i] = weight;
      if (rh::same_type(output.dtype, rh::kBF16)) rh::data<uint16_t>(output)[i] = bfloat_from_float(weight);
    }
  }
}

}  // namespace

float TestLayer::weight(int64_t row, int64_t col) const {
  const int64_t i = row * groups() + col / group_cols();
  const float s = scale.dtype() == DType::kF32   ? scale.as<float>()[i]
                  : scale.dtype() == DType::kF16 ? float_from_half(scale.as<uint16_t>()[i])
                                                 : float_from_bfloat(scale.as<uint16_t>()[i]);
  const int zp = symmetric ? 1 << (bits - 1) : zero_point.as<uint8_t>()[i];
  return s * static_cast<float>(codes.as<uint8_t>()[row * cols + col] - zp);
}

TestLayer random_layer(const std::string& name, int bits, int64_t rows, int64_t cols, int64_t group_size,
                       bool symmetric, DType scale_dtype) {
  TestLayer layer{name, bits, rows, cols, group_size, symmetric};
  std::mt19937 random(static_cast<unsigned>(bits * 1000 + cols + symmetric));
  layer.codes = Tensor(DType::kU8, {rows, cols});
  for (int64_t i = 0; i < rows * cols; ++i)
    layer.codes.as<uint8_t>()[i] = static_cast<uint8_t>(random() >> (32 - bits));
  const int64_t count = rows * layer.groups();
  Tensor scale(DType::kF32, {rows, layer.groups()});
  for (int64_t i = 0; i < count; ++i) {
    // Exact in bfloat16 and float16, so that no scale type loses anything.
    scale.as<float>()[i] = (random() % 2 ? 1.0f : -1.0f) * static_cast<float>(64 + random() % 64) / 8192.0f;
  }
  layer.scale = scale.to(scale_dtype);
  if (!symmetric) {
    layer.zero_point = Tensor(DType::kU8, {rows, layer.groups()});
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t pick = random();
      const int largest = (1 << bits) - 1;
      layer.zero_point.as<uint8_t>()[i] = static_cast<uint8_t>(pick % 4 == 0   ? 0
                                                               : pick % 4 == 1 ? largest
                                                                               : (pick >> 8) % (largest + 1));
    }
  }
  return layer;
}

FormatPlugin::FormatPlugin(const std::string& name)
    : library_(std::filesystem::path(ROUNDHOUSE_BUILD) / "lib/roundhouse/plugins" / ("librh_format_" + name + ".so")) {}

std::string check(const FormatPlugin& format, const TestLayer& layer, bool activated) {
  const EncodedView view(layer);
  const rh_format_layer asked = layer_view(layer, view, activated);
  return run([&](rh_error* error) { return format->check(format.get(), &asked, "{}", error); });
}

TestPlan::TestPlan(const nlohmann::json& options, const nlohmann::json& architecture)
    : view_(std::make_unique<PlanView>(options, architecture)) {}

void TestPlan::add_layer(const std::string& name, int64_t rows, int64_t cols, DType dtype, const rh_encoding& encoding,
                         const rh_encoding* activation) {
  auto layer = std::make_unique<FormatLayer>();
  *layer = {name,
            "",
            rows,
            cols,
            dtype,
            std::make_shared<EncodingCopy>(encoding),
            activation ? std::make_shared<EncodingCopy>(*activation) : nullptr};
  view_->add(name + ".weight", {rows, cols}, dtype, false, std::move(layer));
}

void TestPlan::add_tensor(const std::string& name, std::vector<int64_t> shape, DType dtype) {
  view_->add(name, std::move(shape), dtype, false, nullptr);
}

std::string TestPlan::refusal(const FormatPlugin& format) const {
  try {
    for (const TensorAnswer& answer : ask_plan({format.get(), "the format"}, get()))
      if (answer.what == RH_TENSOR_REFUSED) return answer.reason;
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

TestExport::TestExport(const FormatPlugin& format, std::filesystem::path folder, const std::vector<TestLayer>& layers,
                       const std::vector<std::string>& skipped, std::filesystem::path source)
    : folder_(std::move(folder), false) {
  ExportSession::Facts facts;
  facts.json["config"] = {{"model_type", "llama"}, {"dtype", std::string(config_name(layers.at(0).dtype))}};
  facts.json["tuning"] = {{"iters", 0}};
  facts.json["plan"] = {{"data_type", "int"}, {"layers", nlohmann::json::object()}};
  for (const TestLayer& layer : layers) {
    plan_.add_layer(layer.name, layer.rows, layer.cols, layer.dtype, EncodedView(layer).encoding);
    if (layer.bias.elements() > 0) plan_.add_tensor(layer.name + ".bias", layer.bias.shape(), layer.bias.dtype());
  }
  for (const auto& name : skipped) plan_.add_tensor(name + ".weight", {2, 3}, DType::kBF16);
  if (const std::string refusal = plan_.refusal(format); !refusal.empty()) throw Error(refusal);
  facts.paths["model"] = source.empty() ? "/nonexistent" : source.string();
  session_ = std::make_unique<ExportSession>(
      folder_, facts, plan_.get(), uint64_t{1} << 30,
      [layers](const rh_encoded_layer& encoded, rh_tensor& output) { decode(layers, encoded, output); });
  const std::string failure =
      run([&](rh_error* error) { return format->begin(format.get(), session_->get(), &writer_, error); });
  if (!failure.empty()) throw Error(failure);
}

TestExport::~TestExport() {
  if (writer_) writer_->abort(writer_);
}

std::string TestExport::add_layer(const TestLayer& layer) {
  const EncodedView view(layer);
  rh_encoded_layer encoded{};
  encoded.struct_size = sizeof encoded;
  const rh_format_layer about = layer_view(layer, view, false);
  encoded.layer = &about;
  encoded.tensors = view.tensors.data();
  encoded.bias = layer.bias.elements() ? &view.bias : nullptr;
  return run([&](rh_error* error) { return writer_->add_layer(writer_, &encoded, error); });
}

std::string TestExport::add_tensor(const std::string& name, const Tensor& tensor) {
  const rh_tensor view = tensor.view();
  return run([&](rh_error* error) { return writer_->add_tensor(writer_, name.c_str(), &view, error); });
}

std::string TestExport::finish() {
  rh_writer* writer = std::exchange(writer_, nullptr);
  const std::string failure = run([&](rh_error* error) { return writer->finish(writer, error); });
  if (failure.empty()) folder_.finish();
  return failure;
}

void write_export(const FormatPlugin& format, const std::filesystem::path& folder, const std::vector<TestLayer>& layers,
                  const std::vector<std::string>& skipped) {
  TestExport target(format, folder, layers, skipped);
  for (const TestLayer& layer : layers) ASSERT_EQ(target.add_layer(layer), "");
  for (const auto& name : skipped) ASSERT_EQ(target.add_tensor(name + ".weight", Tensor(DType::kBF16, {2, 3})), "");
  ASSERT_EQ(target.finish(), "");
}

TestReader::TestReader(const FormatPlugin& format, const std::filesystem::path& folder,
                       const nlohmann::json& architecture) {
  const std::string facts = architecture.dump();
  const rh_open source{sizeof source, 0, folder.c_str(), facts.c_str(), nullptr};
  error_ = run([&](rh_error* error) { return format->open(format.get(), &source, &reader_, error); });
}

TestReader::~TestReader() {
  if (reader_) reader_->close(reader_);
}

std::vector<std::string> TestReader::names() const {
  std::vector<std::string> names;
  for (uint64_t i = 0; i < reader_->count(reader_); ++i) {
    rh_item item{};
    item.struct_size = sizeof item;
    if (reader_->item(reader_, i, &item, nullptr) == RH_OK) names.push_back(item.name);
  }
  return names;
}

uint64_t TestReader::index(const std::string& name) const {
  const auto all = names();
  const auto found = std::find(all.begin(), all.end(), name);
  if (found == all.end()) throw Error("the reader has no " + name);
  return static_cast<uint64_t>(found - all.begin());
}

rh_item TestReader::item(const std::string& name) const {
  rh_item item{};
  item.struct_size = sizeof item;
  reader_->item(reader_, index(name), &item, nullptr);
  return item;
}

Tensor TestReader::read(const std::string& name, DType dtype) const {
  const rh_item info = item(name);
  Tensor out(dtype, {info.shape, info.shape + info.ndim});
  rh_tensor view = out.view();
  const std::string failure = run([&](rh_error* error) { return reader_->read(reader_, index(name), &view, error); });
  if (!failure.empty()) throw Error(failure);
  return out;
}

std::string TestReader::read_encoded(const std::string& weight_name, const std::vector<rh_tensor*>& tensors) const {
  return run(
      [&](rh_error* error) { return reader_->read_encoded(reader_, index(weight_name), tensors.data(), error); });
}

TestLayer TestReader::read_encoded(const std::string& weight_name) const {
  const rh_item info = item(weight_name);
  const auto parameters = nlohmann::json::parse(info.encoding->parameters_json);
  TestLayer layer{weight_name.substr(0, weight_name.size() - std::strlen(".weight")),
                  parameters.at("bits"),
                  info.shape[0],
                  info.shape[1],
                  parameters.at("group_cols"),
                  parameters.at("symmetric"),
                  from_rh(info.dtype)};
  std::vector<Tensor> tensors;
  for (uint32_t i = 0; i < info.encoding->tensor_count; ++i) {
    const rh_tensor_spec& spec = *info.encoding->tensors[i];
    tensors.emplace_back(from_rh(spec.dtype), std::vector<int64_t>(spec.shape, spec.shape + spec.ndim));
  }
  std::vector<rh_tensor> views;
  for (const Tensor& tensor : tensors) views.push_back(tensor.view());
  std::vector<rh_tensor*> pointers;
  for (rh_tensor& view : views) pointers.push_back(&view);
  const std::string failure = read_encoded(weight_name, pointers);
  if (!failure.empty()) throw Error(failure);
  layer.codes = tensors.at(0);
  layer.scale = tensors.at(1);
  if (!layer.symmetric) layer.zero_point = tensors.at(2);
  return layer;
}

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

}  // namespace roundhouse::formats

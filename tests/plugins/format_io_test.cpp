// Writing and reading a checkpoint through a format plugin that uses every extension of the host.
#include <cstring>

#include "host/abi/format_query.h"
#include "host/abi/format_reader.h"
#include "host/abi/format_writer.h"
#include "host/abi/quantizer.h"
#include "host/checkpoint/safetensors.h"
#include "host/discovery/open_checkpoint.h"
#include "tests/plugins/sandbox.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

class FormatIo : public Sandbox {
 protected:
  FormatIo() : catalogue_(discover_in(install("a", {"good", "format"}))) {
    fs::create_directories(root_ / "model");
    std::ofstream(root_ / "model/tokenizer.json") << "{}";
    for (int i = 0; i < 4; ++i) codes_.as<int8_t>()[i] = static_cast<int8_t>(i - 2);
  }

  ExportSession::Facts facts() const {
    return {{{"config", {{"model_type", "tiny"}}}}, {{"model", (root_ / "model").string()}}};
  }

  static void decode(const rh_encoded_layer& layer, rh_tensor& output) {
    for (int64_t i = 0; i < layer.rows * layer.cols; ++i)
      static_cast<float*>(output.data)[i] = 0.5f * static_cast<const int8_t*>(layer.tensors[0]->data)[i];
  }

  // One layer and one plain tensor into `output`.
  void write(const fs::path& output, int64_t cols = 2) {
    OutputFolder folder(output, false);
    const ExportSession session(folder, facts(), {{"level", 3}}, 1 << 20, &decode);
    FormatWriter writer(catalogue_.format("fixture_format"), session);
    const rh_tensor codes = codes_.view();
    const rh_tensor* tensors[] = {&codes};
    rh_encoded_layer layer{};
    layer.name = "layers.0.down";
    layer.rows = 4 / cols;
    layer.cols = cols;
    layer.tensors = tensors;
    writer.add_layer(layer);
    const Tensor norm(DType::kBF16, {3});
    writer.add_tensor("norm.weight", norm.view());
    writer.finish();
    folder.finish();
  }

  Catalogue catalogue_;
  Tensor codes_{DType::kI8, {2, 2}};
};

TEST_F(FormatIo, WritesThroughTheHostsExtensions) {
  write(root_ / "out");
  std::ifstream file(root_ / "out/facts.json");
  EXPECT_EQ(nlohmann::json::parse(file),
            (nlohmann::json{{"config", {{"model_type", "tiny"}}}, {"unknown", nullptr}, {"options", {{"level", 3}}}}));
  EXPECT_TRUE(fs::exists(root_ / "out/tokenizer.json"));
  SafetensorsFolder written(root_ / "out");
  EXPECT_EQ(written.metadata().at("format"), "fixture");
  EXPECT_EQ(written.load("layers.0.down.decoded").as<float>()[0], -1.0f);  // through the session's decode
}

TEST_F(FormatIo, ReadsBackUnderTheSourcesNames) {
  write(root_ / "out");
  std::string format;
  const auto checkpoint = open_checkpoint(catalogue_, root_ / "out", nlohmann::json::object(), &format);
  EXPECT_EQ(format, "fixture_format");
  EXPECT_TRUE(checkpoint->contains("layers.0.down.weight"));
  EXPECT_FALSE(checkpoint->contains("layers.0.down.codes"));
  const Tensor weight = checkpoint->load("layers.0.down.weight");
  EXPECT_EQ(weight.shape(), (std::vector<int64_t>{2, 2}));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(weight.as<float>()[i], static_cast<float>(i - 2));
  EXPECT_EQ(checkpoint->load("norm.weight").dtype(), DType::kBF16);
  EXPECT_CONTAINS(error_of([&] { checkpoint->load("none"); }), "no tensor none in " + (root_ / "out").string());
}

TEST_F(FormatIo, AFailureAbortsAndLeavesNothing) {
  const std::string message = error_of([&] { write(root_ / "out", 1); });
  EXPECT_EQ(message, "plugin fixture_format (" + (root_ / "a/librh_fixture_format.so").string() +
                         "), add_layer of layers.0.down: odd columns");
  EXPECT_FALSE(fs::exists(root_ / "out"));
  EXPECT_FALSE(fs::exists(root_ / "out.partial"));
}

TEST_F(FormatIo, CheckGivesTheFormatsReason) {
  rh_format_query query{};
  query.name = "layers.1.up";
  query.cols = 3;
  EXPECT_CONTAINS(error_of([&] { check_format(catalogue_.format("fixture_format"), query); }),
                  "check of layers.1.up: an even number of columns is needed");
  query.cols = 4;
  EXPECT_NO_THROW(check_format(catalogue_.format("fixture_format"), query));
}

TEST_F(FormatIo, AnUnclaimedFolderIsAnOriginalCheckpointUnlessItSaysQuantized) {
  write(root_ / "out");
  Catalogue without = discover_in(install("b", {"good"}));
  std::string format = "?";
  EXPECT_TRUE(
      open_checkpoint(without, root_ / "out", nlohmann::json::object(), &format)->contains("layers.0.down.codes"));
  EXPECT_EQ(format, "");

  std::ofstream(root_ / "out/config.json") << R"({"quantization_config": {"bits": 4}})";
  const std::string message = error_of([&] { open_checkpoint(without, root_ / "out", nlohmann::json::object()); });
  EXPECT_CONTAINS(message, "is quantized (config.json has quantization_config), but no loaded format reads it");
  EXPECT_CONTAINS(message, "Loaded formats: none.");
}

}  // namespace
}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Writing and reading a checkpoint through a format plugin that uses every extension of the host.
#include <cstring>
#include <functional>

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
    for (int64_t i = 0; i < layer.layer->rows * layer.layer->cols; ++i)
      static_cast<float*>(output.data)[i] = 0.5f * static_cast<const int8_t*>(layer.tensors[0]->data)[i];
  }

  static FormatLayer layer(const std::string& name, int64_t rows, int64_t cols) {
    static const rh_encoding encoding{sizeof encoding, 0, "example.com/rounded/1", "{}", nullptr};
    return {name, "", rows, cols, DType::kF32, std::make_shared<EncodingCopy>(encoding), nullptr};
  }

  // One layer and one plain tensor into `output`.
  void write(const fs::path& output, int64_t cols = 2) {
    PlanView plan({{"level", 3}}, nlohmann::json::object());
    const FormatLayer down = layer("layers.0.down", 4 / cols, cols);
    plan.add("layers.0.down.weight", {down.rows, down.cols}, DType::kF32, false,
             std::make_unique<const FormatLayer>(down));
    plan.add("norm.weight", {3}, DType::kBF16, false, nullptr);
    OutputFolder folder(output, false);
    const ExportSession session(folder, facts(), *plan.get(), 1 << 20, &decode);
    FormatWriter writer(catalogue_.format("fixture_format"), session);
    const rh_tensor codes = codes_.view();
    const rh_tensor* tensors[] = {&codes};
    rh_stack stack;
    const rh_format_layer written = view(down, stack);
    rh_encoded_layer encoded{};
    encoded.layer = &written;
    encoded.tensors = tensors;
    writer.add_layer(encoded);
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
  EXPECT_EQ(written.metadata().at("format"), "pt");
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
  const LoadedFormat format = catalogue_.format("fixture_format");
  EXPECT_CONTAINS(error_of([&] { check_format(format, layer("layers.1.up", 1, 3), nlohmann::json::object()); }),
                  "check of layers.1.up: an even number of columns is needed");
  EXPECT_NO_THROW(check_format(format, layer("layers.1.up", 1, 4), nlohmann::json::object()));
}

TEST_F(FormatIo, APlanIsAnsweredForEachTensor) {
  PlanView plan({{"omit", "norm.weight"}}, nlohmann::json::object());
  plan.add("down.weight", {2, 2}, DType::kF32, false, std::make_unique<const FormatLayer>(layer("down", 2, 2)));
  plan.add("norm.weight", {3}, DType::kBF16, false, nullptr);
  plan.add("other", {3}, DType::kBF16, true, nullptr);
  const std::vector<TensorAnswer> answers = ask_plan(catalogue_.format("fixture_format"), *plan.get());
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].what, RH_TENSOR_PACKED);
  EXPECT_EQ(answers[1].what, RH_TENSOR_OMITTED);
  EXPECT_EQ(answers[1].reason, "the options say so");
  EXPECT_EQ(answers[2].what, RH_TENSOR_COPIED);
}

// A format whose answers to a plan are `way`'s.
using Answer = void (*)(void* context, uint64_t tensor, int32_t what, const char* reason);
std::function<void(Answer, void*)> way;
rh_code plan_by_way(const rh_format*, const rh_plan*, Answer answer, void* context, rh_error*) {
  way(answer, context);
  return RH_OK;
}

TEST_F(FormatIo, AFaultyAnswerToAPlanIsAnError) {
  rh_format table{};
  table.struct_size = sizeof table;
  table.plan = &plan_by_way;
  const LoadedFormat format{&table, "plugin faulty"};
  PlanView plan(nlohmann::json::object(), nlohmann::json::object());
  for (const char* name : {"a", "b"}) plan.add(name, {1}, DType::kF32, false, nullptr);
  const auto ask = [&](std::function<void(Answer, void*)> answers) {
    way = std::move(answers);
    return error_of([&] { ask_plan(format, *plan.get()); });
  };
  const std::string fault = "plugin faulty, plan: the answer does not say of each tensor once what is done with it";

  EXPECT_EQ(ask([](Answer answer, void* c) { answer(c, 1, RH_TENSOR_COPIED, nullptr), answer(c, 0, 2, "not used"); }),
            "");
  EXPECT_EQ(ask([](Answer, void*) {}), fault);
  EXPECT_EQ(ask([](Answer answer, void* c) { answer(c, 0, RH_TENSOR_COPIED, nullptr); }), fault);
  EXPECT_EQ(ask([](Answer answer, void* c) {
              for (uint64_t i : {0, 1, 1}) answer(c, i, RH_TENSOR_COPIED, nullptr);
            }),
            fault);
  EXPECT_EQ(ask([](Answer answer, void* c) {
              for (uint64_t i : {0, 1, 2}) answer(c, i, RH_TENSOR_COPIED, nullptr);
            }),
            fault);
  for (int32_t what : {-1, 4})
    EXPECT_EQ(ask([what](Answer answer, void* c) {
                for (uint64_t i : {0, 1}) answer(c, i, what, "a reason");
              }),
              fault);
  for (const char* reason : {static_cast<const char*>(nullptr), ""})
    EXPECT_EQ(ask([reason](Answer answer, void* c) {
                for (uint64_t i : {0, 1}) answer(c, i, RH_TENSOR_REFUSED, reason);
              }),
              fault);

  table.struct_size = offsetof(rh_format, plan);
  EXPECT_EQ(ask([](Answer, void*) {}), "plugin faulty has no plan, which an export needs");
}

TEST_F(FormatIo, FactsThatAreNoObjectAreAnError) {
  write(root_ / "out");
  const auto facts_error = [&](const char* facts) {
    ::setenv("FIXTURE_FACTS", facts, 1);
    const std::string message = error_of([&] { open_checkpoint(catalogue_, root_ / "out", nlohmann::json::object()); });
    ::unsetenv("FIXTURE_FACTS");
    return message;
  };
  EXPECT_EQ(facts_error(R"({"tuning": {"iters": 1}})"), "");
  for (const char* facts : {"", "[1]", "{\"tuning\": "})
    EXPECT_CONTAINS(facts_error(facts), "facts_json of " + (root_ / "out").string() + ": the answer is no JSON object");
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
  EXPECT_CONTAINS(message,
                  "is quantized already (by a method that config.json does not name), and no loaded format reads that: "
                  "give the original model. Loaded formats: none.");
}

}  // namespace
}  // namespace roundhouse

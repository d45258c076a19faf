// SPDX-License-Identifier: Apache-2.0
// `roundhouse qdq` on the fixture: which tensors it takes, which it writes, what it says.
#include "host/checkpoint/output.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "host/run/qdq_file.h"
#include "tests/plugins/sandbox.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using Names = std::vector<std::string>;

class Qdq : public Sandbox {
 protected:
  Qdq() : catalogue_(discover_in(install("a", {"good"}))) {}

  static Tensor filled(std::vector<int64_t> shape, float value) {
    Tensor tensor(DType::kF32, std::move(shape));
    std::fill_n(tensor.as<float>(), tensor.elements(), value);
    return tensor;
  }

  // Writes the tensors, runs, and gives what came out.
  std::unique_ptr<SafetensorsFolder> run(const std::vector<std::pair<std::string, Tensor>>& tensors,
                                         const json& options = {{"bits", 8}}, const std::string& dtype = "fixture") {
    write_safetensors_file(root_ / "in.safetensors", tensors);
    run_qdq(catalogue_, dtype, options, root_ / "in.safetensors", root_ / "out.safetensors");
    return std::make_unique<SafetensorsFolder>(root_ / "out.safetensors");
  }
  static Names sorted_names(const SafetensorsFolder& folder) {
    Names names = folder.names();
    std::sort(names.begin(), names.end());
    return names;
  }

  Catalogue catalogue_;
  Tensor weight_ = filled({2, 3}, 1.4f);
};

TEST_F(Qdq, PlainRoundingWithoutTunables) {
  const auto out = run({{"weight", weight_}, {"qdq", filled({1}, 7)}, {"other", filled({1}, 7)}});
  EXPECT_EQ(sorted_names(*out), (Names{"qdq", "scale"}));
  EXPECT_EQ(out->load("qdq").as<float>()[5], 1.0f);
  EXPECT_EQ(out->load("qdq").shape(), weight_.shape());
}

TEST_F(Qdq, TunablesInAnyShapeAndTheirGradientsInTheSame) {
  const auto out = run({{"weight", weight_}, {"v", filled({3, 2}, 0.2f)}, {"grad_qdq", filled({2, 3}, 5)}});
  EXPECT_EQ(sorted_names(*out), (Names{"grad_v", "qdq", "scale"}));
  EXPECT_EQ(out->load("qdq").as<float>()[0], 2.0f);
  EXPECT_EQ(out->load("grad_v").shape(), (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(out->load("grad_v").as<float>()[0], 5.0f);
}

TEST_F(Qdq, ANameThatMeansPlainRoundingIgnoresTunables) {
  const auto out = run({{"weight", weight_}, {"v", filled({2, 3}, 0.2f)}},
                       {{"bits", 8}, {"data_type", "x"}, {"imatrix", true}}, "rtn_fixture_plain");
  EXPECT_EQ(out->load("qdq").as<float>()[0], 1.0f);
}

TEST_F(Qdq, SaysWhatIsWrongAndLeavesNoFile) {
  EXPECT_CONTAINS(error_of([&] { run({{"v", weight_}}); }), "has no tensor \"weight\"");
  EXPECT_CONTAINS(error_of([&] {
                    run({{"weight", filled({6}, 1)}});
                  }),
                  "\"weight\" is float32 [6]; it must have two dimensions");
  EXPECT_EQ(
      error_of([&] {
        run({{"weight", weight_}, {"v", filled({4}, 0)}});
      }),
      "\"v\" is float32 [4]; for this weight and scheme it must be float32 [2, 3] or have as many (6) elements in "
      "another shape");
  EXPECT_CONTAINS(error_of([&] {
                    run({{"weight", weight_}}, {{"bits", 8}, {"groupsize", 3}});
                  }),
                  "there is no field \"groupsize\" (did you mean group_size?)");
  EXPECT_CONTAINS(error_of([&] { run({{"weight", weight_}}, json::array()); }), "must be a JSON object");
  EXPECT_CONTAINS(error_of([&] { run({{"weight", weight_}}, json::object()); }), "create of weight: bits must be 8");
  for (const auto& entry : std::filesystem::directory_iterator(root_))
    EXPECT_EQ(entry.path().filename().string().find("out"), std::string::npos) << entry.path();
}

}  // namespace
}  // namespace roundhouse

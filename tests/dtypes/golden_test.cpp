// SPDX-License-Identifier: Apache-2.0
// Every data type against the reference's recorded results, as the lists tests/data/goldens/*.json name them, one list
// a family.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "host/run/qdq_file.h"
#include "tests/dtypes/built_plugins.h"

namespace roundhouse {
namespace {

using nlohmann::json;

const std::string kGoldens = TEST_DATA "/goldens/";

// Of gradients, relative to the tensor's largest. The range's are differences of sums that the reference rounds to the
// scale's element type (float16: 5e-4 of each sum; bfloat16: 4e-3), two of them where one scale serves both ends.
double tolerance(const std::string& gradient, const json& golden, SafetensorsFolder& expected) {
  if (gradient == "grad_v") return 1e-5;
  if (expected.contains("scale.scale") && expected.info("scale.scale").dtype == DType::kBF16) return 1.2e-2;
  return golden.at("dtype") == "int_sym_gptq" ? 3e-3 : 2e-3;
}

std::vector<json> cases() {
  std::vector<json> all;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldens)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    const json list = json::parse(file);
    for (const json& golden : list.at("cases")) all.push_back(golden);
  }
  std::sort(all.begin(), all.end(), [](const json& a, const json& b) { return a.at("file") < b.at("file"); });
  return all;
}

std::vector<std::string> files() {
  std::vector<std::string> names;
  for (const json& golden : cases()) names.push_back(golden.at("file"));
  return names;
}

json find_case(const std::string& file) {
  for (const json& golden : cases())
    if (golden.at("file") == file) return golden;
  throw Error(cat("no list names ", file));
}

void expect_same_bits(const std::string& name, const Tensor& actual, const Tensor& expected) {
  ASSERT_EQ(config_name(actual.dtype()), config_name(expected.dtype())) << name;
  ASSERT_EQ(shape_text(actual.shape()), shape_text(expected.shape())) << name;
  const size_t size = size_of(actual.dtype());
  const Tensor shown_actual = actual.to(DType::kF32), shown_expected = expected.to(DType::kF32);
  int shown = 0;
  for (int64_t i = 0; i < actual.elements() && shown < 5; ++i) {
    if (std::memcmp(actual.as<char>() + i * size, expected.as<char>() + i * size, size) == 0) continue;
    ADD_FAILURE() << name << "[" << i << "] is " << shown_actual.as<float>()[i] << ", expected "
                  << shown_expected.as<float>()[i];
    ++shown;
  }
}

void expect_near(const std::string& name, const Tensor& actual, const Tensor& expected, double tolerance) {
  ASSERT_EQ(shape_text(actual.shape()), shape_text(expected.shape())) << name;
  const Tensor a = actual.to(DType::kF32), e = expected.to(DType::kF32);
  double largest = 0;
  for (int64_t i = 0; i < e.elements(); ++i) largest = std::max<double>(largest, std::fabs(e.as<float>()[i]));
  int shown = 0;
  for (int64_t i = 0; i < a.elements() && shown < 5; ++i) {
    const double x = a.as<float>()[i], y = e.as<float>()[i];
    // The reference divides zero by zero for the range of a group of zeros, whose gradient is 0.
    if (std::isnan(y) ? x == 0 : std::fabs(x - y) <= tolerance * largest) continue;
    ADD_FAILURE() << name << "[" << i << "] is " << x << ", expected " << y << "; the largest is " << largest;
    ++shown;
  }
}

// Sum of importance * (qdq - weight)^2 over a weight.
double weighted_error(SafetensorsFolder& inputs, const Tensor& qdq) {
  const Tensor weight = inputs.load("weight").to(DType::kF32), q = qdq.to(DType::kF32);
  const bool weighs = inputs.contains("imatrix");
  const Tensor importance = weighs ? inputs.load("imatrix") : weight;
  const int64_t cols = weight.dim(1);
  double sum = 0;
  for (int64_t i = 0; i < weight.elements(); ++i) {
    const double error = q.as<float>()[i] - weight.as<float>()[i];
    sum += (weighs ? importance.as<float>()[i % cols] : 1.0f) * error * error;
  }
  return sum;
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, MatchesTheReference) {
  const json golden = find_case(GetParam());
  const std::string in = kGoldens + GetParam();
  const std::string out = testing::TempDir() + "golden_" + GetParam();
  Catalogue catalogue = discover_built_plugins();
  run_qdq(catalogue, golden.at("dtype"), golden.at("options"), in, out);

  SafetensorsFolder expected(in), actual(out);
  if (golden.value("compare", "") == "weighted_error") {
    // Of a search; the last bits of its sums may lead to other codes.
    EXPECT_LE(weighted_error(expected, actual.load("qdq")), 1.001 * weighted_error(expected, expected.load("qdq")));
    std::filesystem::remove(out);
    return;
  }
  for (const std::string name : golden.at("tensors")) {
    const bool gradient = name.rfind("grad_", 0) == 0 && name != "grad_qdq";
    const bool result = name == "qdq" || name.rfind("scale", 0) == 0 || name.rfind("zp", 0) == 0;
    if (!gradient && !result) continue;
    ASSERT_TRUE(actual.contains(name)) << name;
    if (gradient)
      expect_near(name, actual.load(name), expected.load(name), tolerance(name, golden, expected));
    else
      expect_same_bits(name, actual.load(name), expected.load(name));
  }
  std::filesystem::remove(out);
}

INSTANTIATE_TEST_SUITE_P(Index, Golden, testing::ValuesIn(files()),
                         [](const auto& info) { return info.param.substr(0, info.param.find('.')); });

}  // namespace
}  // namespace roundhouse

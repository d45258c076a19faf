// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/importance.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/model/torch_tensor.h"
#include "host/ranks/ranks.h"
#include "host/tuning/shares.h"

namespace roundhouse {
namespace {

constexpr int64_t kColumns = 64;  // of a chunk: a few cache lines of a row

// x: f32 [tokens, cols] on the CPU -> f64 [cols]
at::Tensor sum_of_squares(const at::Tensor& x) {
  const int64_t tokens = x.size(0), cols = x.size(1);
  at::Tensor sums = at::zeros({cols}, at::kDouble);
  const float* const data = x.const_data_ptr<float>();
  double* const sum = sums.mutable_data_ptr<double>();
  parallel_for(cols, kColumns, [&](int64_t begin, int64_t end) {
    for (int64_t token = 0; token < tokens; ++token) {
      const float* const row = data + token * cols;
      for (int64_t c = begin; c < end; ++c) sum[c] += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    }
  });
  return sums;
}

}  // namespace

void ImportanceCollector::add(const LinearInfo& linear, const at::Tensor& input, int64_t unit) {
  if (!layers_.contains(linear.name)) return;
  const std::string& key = linear.siblings.empty() ? linear.name : linear.siblings;
  by_layer_[linear.name] = key;
  Sum& sum = sums_[key];
  if (sum.first.empty()) sum.first = linear.name;
  if (sum.first != linear.name) return;
  const at::Tensor x = input.detach().reshape({-1, input.size(-1)}).to(at::kFloat).contiguous();
  sum.count += static_cast<double>(x.size(0));
  sum.squares.skip_to(unit);
  sum.squares.add(x.is_cpu() ? sum_of_squares(x) : x.to(at::kDouble).square_().sum(0));
}

void ImportanceCollector::join_ranks() {
  if (rank_count() == 1) return;
  nlohmann::json counts = nlohmann::json::object();
  for (const auto& [key, sum] : sums_) counts[key] = sum.count;
  std::map<std::string, double> tokens;  // an expert may have some on other ranks alone
  for (const std::string& text : ranks()->from_all(nlohmann::json{by_layer_, counts}.dump())) {
    const nlohmann::json told = nlohmann::json::parse(text);
    by_layer_.merge(told[0].get<std::map<std::string, std::string>>());
    for (const auto& [key, count] : told[1].items()) tokens[key] += count.get<double>();
  }
  for (const auto& [key, count] : tokens) {
    Sum& sum = sums_[key];
    sum.count = count;
    sum.squares.add(joined_over_ranks(sum.squares.take()));
  }
}

Importance ImportanceCollector::take() {
  Importance importance;
  std::map<std::string, at::Tensor> by_key;
  for (auto& [key, sum] : sums_) by_key[key] = sum.squares.take().to(at::kFloat).cpu();
  for (const auto& [layer, key] : by_layer_) {
    const at::Tensor& squares = by_key.at(key);
    if (!at::isfinite(squares).all().item<bool>())
      throw Error(
          cat("the inputs of ", layer, " are not finite on the calibration texts, so its channels have no ",
              "importance: the block overflows in this arithmetic; set tuning.search to false for plain rounding"));
    importance[layer] = {from_torch(squares), sums_.at(key).count};
  }
  sums_.clear();
  by_layer_.clear();
  return importance;
}

}  // namespace roundhouse

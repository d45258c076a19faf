// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/hand_over.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "host/base/error.h"

namespace roundhouse {
namespace {

constexpr int64_t kElements = 16;
const uint64_t kItem = Tensor(DType::kF32, {kElements}).bytes();

// Keeps the names, in the order in which they come.
struct Names : QuantizeSink {
  std::vector<std::string> names;
  std::thread::id thread;
  std::function<void(const std::string&)> look = [](const std::string&) {};
  std::function<void(const EncodedLayer&)> layers = [](const EncodedLayer&) { ADD_FAILURE(); };

  void layer(const EncodedLayer& layer) override { layers(layer); }
  void tensor(const std::string& name, const Tensor&) override {
    thread = std::this_thread::get_id();
    look(name);
    names.push_back(name);
  }
  void iteration(int64_t, int64_t, double) override {}
  void block_done(const BlockReport&) override {}
};

// Waits until it holds; a minute at most.
void wait_for(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!holds()) {
    ASSERT_LT(std::chrono::steady_clock::now(), end);
    std::this_thread::yield();
  }
}

TEST(HandOver, WithoutAThreadEachIsGivenBeforeItsCallReturns) {
  Names sink;
  HandOver hand_over(sink, /*in_thread=*/false, 0);
  hand_over.tensor("a", Tensor(DType::kF32, {kElements}));
  EXPECT_EQ(sink.names, std::vector<std::string>{"a"});
  EXPECT_EQ(sink.thread, std::this_thread::get_id());
  hand_over.finish();
}

TEST(HandOver, TheCallerGoesOnUntilTooMuchWaits) {
  Names sink;
  std::atomic<int64_t> added = 0;
  int64_t given = 0;
  sink.look = [&](const std::string&) {
    if (given == 0) wait_for([&] { return added == 2; });  // the caller has not waited for this one
    EXPECT_LE(added, ++given + 1) << "at most two that have not been given";
  };
  HandOver hand_over(sink, /*in_thread=*/true, 2 * kItem);
  std::vector<std::string> expected;
  for (int i = 0; i < 50; ++i) {
    expected.push_back(std::to_string(i));
    hand_over.tensor(expected.back(), Tensor(DType::kF32, {kElements}));
    ++added;
  }
  hand_over.finish();
  EXPECT_EQ(sink.names, expected);
  EXPECT_NE(sink.thread, std::this_thread::get_id());
}

TEST(HandOver, WhatIsLargerThanTheLimitIsGivenAlone) {
  Names sink;
  HandOver hand_over(sink, /*in_thread=*/true, 0);
  for (const char* name : {"a", "b", "c"}) {
    hand_over.tensor(name, Tensor(DType::kF32, {kElements}));
    hand_over.tensor(std::string(name) + " empty", Tensor(DType::kF32, {0}));
  }
  hand_over.finish();
  EXPECT_EQ(sink.names, (std::vector<std::string>{"a", "a empty", "b", "b empty", "c", "c empty"}));
}

TEST(HandOver, AFailureOfTheSinkIsThrownByEachLaterCall) {
  Names sink;
  sink.look = [](const std::string& name) {
    if (name == "b") throw Error("the disk is full", Failure::kExhausted);
  };
  HandOver hand_over(sink, /*in_thread=*/true, uint64_t{1} << 20);
  const auto failure_of_call = [](const auto& call) {
    try {
      call();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  hand_over.tensor("a", Tensor(DType::kF32, {kElements}));
  hand_over.tensor("b", Tensor(DType::kF32, {kElements}));
  wait_for([&] { return !failure_of_call([&] { hand_over.check(); }).empty(); });
  EXPECT_EQ(failure_of_call([&] { hand_over.check(); }), "the disk is full");
  EXPECT_EQ(failure_of_call([&] { hand_over.tensor("c", Tensor(DType::kF32, {kElements})); }), "the disk is full");
  EXPECT_EQ(failure_of_call([&] { hand_over.finish(); }), "the disk is full");
  EXPECT_EQ(sink.names, std::vector<std::string>{"a"});
}

// Formats have laid their files out by what the plan said.
TEST(HandOver, AnEncodingOtherThanThePlannedOneIsAnError) {
  const int64_t shape[RH_MAX_DIMS] = {2, 4};
  rh_tensor_spec codes{};
  codes.struct_size = sizeof codes;
  codes.name = "codes";
  codes.dtype = to_rh(DType::kU8);
  codes.ndim = 2;
  std::copy_n(shape, 2, codes.shape);
  const rh_tensor_spec* specs[] = {&codes};
  rh_encoding planned{sizeof planned, 1, "example.com/grid/1", R"({"a": 1, "b": 2})", specs};
  LayerPlan plan;
  plan.info.name = "model.layers.0.mlp.up_proj";
  plan.encoding = std::make_shared<EncodingCopy>(planned);
  Names sink;
  sink.layers = [](const EncodedLayer&) {};
  HandOver hand_over(sink, /*in_thread=*/false, 0);
  const auto fault = [&](const rh_encoding& made) {
    try {
      hand_over.layer({plan, made, {Tensor(DType::kU8, {2, 4})}, Tensor(), {}});
      return std::string();
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  rh_encoding made = planned;
  made.parameters_json = R"({"b":2,"a":1})";
  EXPECT_EQ(fault(made), "");
  const std::string other = plan.info.name + ": its data type makes another encoding than it said";
  made.parameters_json = R"({"a": 1, "b": 3})";
  EXPECT_EQ(fault(made).substr(0, other.size()), other);
  made = planned;
  made.id = "example.com/grid/2";
  EXPECT_EQ(fault(made).substr(0, other.size()), other);
  made = planned;
  rh_tensor_spec wider = codes;
  wider.dtype = to_rh(DType::kI32);
  const rh_tensor_spec* wider_specs[] = {&wider};
  made.tensors = wider_specs;
  EXPECT_EQ(fault(made).substr(0, other.size()), other);
}

TEST(HandOver, WhatWaitsIsDroppedAtItsEnd) {
  Names sink;
  std::atomic<bool> begun = false, ends = false;
  sink.look = [&](const std::string&) {
    begun = true;
    wait_for([&] { return ends.load(); });
  };
  std::thread other;
  {
    HandOver hand_over(sink, /*in_thread=*/true, uint64_t{1} << 20);
    for (const char* name : {"a", "b", "c"}) hand_over.tensor(name, Tensor(DType::kF32, {kElements}));
    wait_for([&] { return begun.load(); });
    other = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the end is on its way
      ends = true;
    });
  }
  other.join();
  EXPECT_EQ(sink.names, std::vector<std::string>{"a"});
}

}  // namespace
}  // namespace roundhouse

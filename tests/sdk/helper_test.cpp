// SPDX-License-Identifier: Apache-2.0
// The C++ helper: exceptions become errors, and a plugin's tables say what its classes say.
#include <gtest/gtest.h>

#include <roundhouse/plugin.hpp>

namespace {

class Doubling : public rh::Quantizer {
 public:
  Doubling() { tunables_.add("v", rh::kF32, {2, 3}).initial = 0.5; }
  void forward(const rh_exec&, const rh_forward_args& args) override {
    const float* in = rh::data<float>(*args.input);
    float* out = rh::data<float>(*args.output);
    for (int64_t i = 0; i < rh::elements(*args.input); ++i) out[i] = 2 * in[i];
  }
};

class DoublingDtype : public rh::Dtype {
 public:
  DoublingDtype()
      : Dtype("doubling", "Doubles", "example.com/doubling/1", RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS,
              {{"double8", R"({"bits": 8})"}}) {}
  void check(const rh_layer& layer) const override { rh::require(layer.cols == 3, "only 3 columns"); }
  std::unique_ptr<rh::Quantizer> create(const rh_layer&) const override { return std::make_unique<Doubling>(); }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.dtypes.push_back(std::make_unique<DoublingDtype>());
    return contents;
  }
};
RH_PLUGIN(Definition, "test", "Roundhouse", "1.0", "A test")

const void* no_extension(const rh_host*, const char*) { return nullptr; }

class Helper : public testing::Test {
 protected:
  void SetUp() override {
    host_.struct_size = sizeof host_;
    host_.get_extension = no_extension;
    ASSERT_EQ(entry_->init(&host_, &error_), RH_OK);
    const auto* factory = static_cast<const rh_dtype_factory*>(entry_->get_factory(RH_DTYPE_FACTORY));
    ASSERT_NE(factory, nullptr);
    ASSERT_EQ(factory->count(), 1u);
    dtype_ = factory->get(0);
    EXPECT_EQ(factory->get(1), nullptr);
  }
  void TearDown() override { entry_->deinit(); }

  rh_layer layer(int64_t cols) const {
    static const rh_scheme scheme{};
    rh_layer l{};
    l.struct_size = sizeof l;
    l.name = "layer";
    l.scheme = &scheme;
    l.rows = 2;
    l.cols = cols;
    return l;
  }

  const rh_entry* entry_ = rh_get_entry();
  rh_host host_{};
  rh_error error_{};
  const rh_dtype* dtype_ = nullptr;
};

TEST_F(Helper, ParallelForEndsWhenTheCallIsCancelled) {
  volatile int32_t cancelled = 0;
  int64_t chunks = 0;
  const auto work = [&] {
    rh::parallel_for(100, 10, [&](int64_t begin, int64_t) {
      ++chunks;
      if (begin == 30) cancelled = 1;
    });
  };
  {
    const rh::Cancellation here(&cancelled);
    EXPECT_EQ(rh::guard(&error_, work), RH_CANCELLED);
    EXPECT_EQ(chunks, 4);
    EXPECT_EQ(rh::guard(&error_, work), RH_CANCELLED);
    EXPECT_EQ(chunks, 4);
    const rh::Cancellation inner(nullptr);
    EXPECT_EQ(rh::guard(&error_, work), RH_OK);
  }
  EXPECT_EQ(chunks, 14);
  EXPECT_EQ(rh::guard(&error_, work), RH_OK);
}

TEST_F(Helper, DeclaresWhatTheClassesSay) {
  EXPECT_EQ(entry_->get_factory(RH_FORMAT_FACTORY), nullptr);
  EXPECT_EQ(entry_->get_factory("roundhouse.dtype-factory/1x"), nullptr);
  EXPECT_STREQ(dtype_->descriptor->id, "doubling");
  ASSERT_EQ(dtype_->descriptor->alias_count, 1u);
  EXPECT_STREQ(dtype_->descriptor->aliases[0]->name, "double8");
}

TEST_F(Helper, AnExceptionBecomesAnError) {
  const rh_layer wrong = layer(4);
  EXPECT_EQ(dtype_->check(dtype_, &wrong, &error_), RH_INVALID_ARGUMENT);
  EXPECT_STREQ(error_.message, "only 3 columns");
  rh_quantizer* quantizer = nullptr;
  EXPECT_EQ(dtype_->create(dtype_, &wrong, &quantizer, &error_), RH_INVALID_ARGUMENT);
  EXPECT_EQ(quantizer, nullptr);
}

TEST_F(Helper, AQuantizerRunsThroughItsTable) {
  const rh_layer right = layer(3);
  rh_quantizer* quantizer = nullptr;
  ASSERT_EQ(dtype_->create(dtype_, &right, &quantizer, &error_), RH_OK);
  const rh_quantizer_info* info = quantizer->info(quantizer);
  ASSERT_EQ(info->tunable_count, 1u);
  EXPECT_EQ(info->tunables[0]->shape[1], 3);
  EXPECT_EQ(info->tunables[0]->initial, 0.5);
  EXPECT_FALSE(RH_HAS(quantizer, backward)) << "not declared in supports";

  float in[6] = {1, 2, 3, 4, 5, 6}, out[6] = {};
  rh::View input(in, rh::kF32, {2, 3}), output(out, rh::kF32, {2, 3});
  rh_tensor target = *output.get();
  const rh_forward_args args{sizeof args, 0, input.get(), nullptr, nullptr, &target, nullptr};
  const rh_exec exec{sizeof exec, 0, {RH_DEVICE_CPU, 0}, nullptr, nullptr, 0, nullptr, nullptr};
  EXPECT_EQ(quantizer->forward(quantizer, &exec, &args, &error_), RH_OK);
  EXPECT_EQ(out[5], 12);
  const rh_encode_args encode{};
  EXPECT_EQ(quantizer->encode(quantizer, &exec, &encode, &error_), RH_UNIMPLEMENTED);
  quantizer->destroy(quantizer);
}

TEST_F(Helper, InitIsCounted) {
  EXPECT_EQ(entry_->init(&host_, &error_), RH_OK);
  entry_->deinit();
  EXPECT_NE(entry_->get_factory(RH_DTYPE_FACTORY), nullptr) << "one user is left";
}

TEST(Guard, TurnsEveryExceptionIntoACode) {
  rh_error error{};
  EXPECT_EQ(rh::guard(&error, [] { throw std::runtime_error("why"); }), RH_INTERNAL);
  EXPECT_STREQ(error.message, "why");
  EXPECT_EQ(rh::guard(&error, [] { throw 3; }), RH_INTERNAL);
  EXPECT_EQ(rh::guard(&error, [] { throw std::bad_alloc(); }), RH_RESOURCE_EXHAUSTED);
  EXPECT_EQ(rh::guard(&error, [] { throw rh::Error(RH_DATA_LOSS, std::string(1000, 'x')); }), RH_DATA_LOSS);
  EXPECT_EQ(std::strlen(error.message), 507u) << "cut, and still terminated";
}

TEST(ParallelFor, CoversTheRangeWithoutAHost) {
  rh_host host{};
  host.struct_size = sizeof host;
  host.get_extension = no_extension;
  rh::host_slot() = &host;
  std::vector<int> hits(10);
  rh::parallel_for(10, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++hits[i];
  });
  EXPECT_EQ(hits, std::vector<int>(10, 1));
  EXPECT_THROW(rh::parallel_for(1, 1, [](int64_t, int64_t) { throw rh::Error(RH_UNKNOWN, "no"); }), rh::Error);
  rh::host_slot() = nullptr;
}

}  // namespace

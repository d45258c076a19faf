// SPDX-License-Identifier: Apache-2.0
// What the host's extensions answer to a plugin: codes say what failed, not which call it was.
#include "host/abi/services.h"

#include <roundhouse/ext/output.h>
#include <roundhouse/ext/safetensors.h>

#include <fstream>

#include "host/abi/export_session.h"
#include "host/abi/views.h"
#include "tests/checkpoint/file_limit.h"
#include "tests/temp_folder.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

class Services : public testing::Test {
 protected:
  static void expect(rh_code code, rh_code expected, const rh_error& error) {
    EXPECT_EQ(code, expected) << error.message;
    EXPECT_EQ(error.code, expected);
  }

  const rh_output& output_ = *static_cast<const rh_output*>(export_extension(RH_EXT_OUTPUT));
  const rh_safetensors& safetensors_ = *static_cast<const rh_safetensors*>(export_extension(RH_EXT_SAFETENSORS));
  TempFolder temporary_;
  OutputFolder folder_{temporary_.path() / "out", false};
  PlanView plan_{nlohmann::json::object(), nlohmann::json::object()};
  ExportSession session_{folder_, {}, *plan_.get(), 1 << 20, nullptr};
  const rh_export* target_ = session_.get();
  rh_error error_{};
};

TEST_F(Services, OutputSaysWhatFailed) {
  rh_file* file = nullptr;
  expect(output_.create(target_, "../elsewhere", &file, &error_), RH_INVALID_ARGUMENT, error_);
  expect(output_.copy(target_, "/nonexistent", "name", &error_), RH_NOT_FOUND, error_);
  expect(output_.copy(target_, "/nonexistent", "../elsewhere", &error_), RH_INVALID_ARGUMENT, error_);
  expect(output_.reopen(target_, "name", 0, &file, &error_), RH_NOT_FOUND, error_);
  ASSERT_EQ(output_.create(target_, "name", &file, &error_), RH_OK);
  ASSERT_EQ(output_.write(file, "abc", 3, &error_), RH_OK);
  uint64_t length = 0;
  ASSERT_EQ(output_.sync(file, &length, &error_), RH_OK);
  EXPECT_EQ(length, 3u);
  {
    const FileLimit full(5);
    expect(output_.write(file, "defghi", 6, &error_), RH_RESOURCE_EXHAUSTED, error_);
    expect(output_.write_at(file, 100, "x", 1, &error_), RH_RESOURCE_EXHAUSTED, error_);
  }
  ASSERT_EQ(output_.commit(file, &error_), RH_OK);
  expect(output_.reopen(target_, "name", 6, &file, &error_), RH_DATA_LOSS, error_);
  {
    std::ofstream(temporary_.path() / "long") << "0123456789";
    const FileLimit full(5);
    expect(output_.copy(target_, (temporary_.path() / "long").c_str(), "long", &error_), RH_RESOURCE_EXHAUSTED, error_);
  }
}

TEST_F(Services, SafetensorsSayWhatFailed) {
  rh_st_reader* reader = nullptr;
  expect(safetensors_.open(session_.get()->host, "/nonexistent", &reader, &error_), RH_NOT_FOUND, error_);
  std::ofstream(temporary_.path() / "bad.safetensors") << "no header";
  expect(safetensors_.open(session_.get()->host, (temporary_.path() / "bad.safetensors").c_str(), &reader, &error_),
         RH_DATA_LOSS, error_);

  const int64_t shape[] = {100}, negative[] = {-1};
  const rh_data_type u8{RH_KIND_UINT, 8, 1};
  const rh_st_tensor a{sizeof a, 1, "a", u8, 0, shape}, bad{sizeof a, 1, "bad", u8, 0, negative},
      nameless{sizeof a, 1, nullptr, u8, 0, shape};
  const rh_st_tensor *good_list[] = {&a}, *bad_list[] = {&a, &bad}, *nameless_list[] = {&nameless},
                     *twice_list[] = {&a, &a};
  rh_st_writer* writer = nullptr;
  expect(safetensors_.create(target_, nullptr, bad_list, 2, &writer, &error_), RH_INVALID_ARGUMENT, error_);
  expect(safetensors_.create(target_, nullptr, twice_list, 2, &writer, &error_), RH_INVALID_ARGUMENT, error_);
  expect(safetensors_.create(target_, nullptr, nameless_list, 1, &writer, &error_), RH_INVALID_ARGUMENT, error_);
  expect(safetensors_.create(target_, "[1]", good_list, 1, &writer, &error_), RH_INVALID_ARGUMENT, error_);
  expect(safetensors_.restore(target_, nullptr, good_list, 1, "{", 1, &writer, &error_), RH_DATA_LOSS, error_);
  expect(safetensors_.restore(target_, nullptr, good_list, 1, "", 0, &writer, &error_), RH_DATA_LOSS, error_);
  const auto tensor = [&](int64_t n) {
    static char bytes[200];
    static int64_t size;
    size = n;
    return rh_tensor{bytes, {RH_DEVICE_CPU, 0}, 1, u8, &size, nullptr, 0};
  };
  const rh_tensor right = tensor(100);
  for (const bool full : {false, true}) {
    ASSERT_EQ(safetensors_.create(target_, nullptr, good_list, 1, &writer, &error_), RH_OK) << error_.message;
    const rh_tensor wrong = tensor(99);
    expect(safetensors_.add(writer, "a", &wrong, &error_), RH_INVALID_ARGUMENT, error_);
    EXPECT_STREQ(error_.message, "tensor a is U8 [99], but was announced as U8 [100]");
    tensor(100);
    expect(safetensors_.add(writer, "b", &right, &error_), RH_INVALID_ARGUMENT, error_);
    if (full) {
      const FileLimit limit(80);
      expect(safetensors_.add(writer, "a", &right, &error_), RH_RESOURCE_EXHAUSTED, error_);
      safetensors_.abort(writer);
    } else {
      expect(safetensors_.finish(writer, &error_), RH_FAILED_PRECONDITION, error_);
    }
  }
}

}  // namespace
}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// A format plugin, loaded as the host loads it, and layers to feed it with.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "host/abi/export_session.h"
#include "host/abi/format_query.h"
#include "host/abi/views.h"
#include "host/base/tensor.h"
#include "host/discovery/library.h"
#include "plugins/formats/lib/affine_int.h"
#include "tests/temp_folder.h"

namespace roundhouse::formats {

inline std::filesystem::path exports() { return std::filesystem::path(TEST_DATA) / "exports"; }

// A quantized layer as a data type emits it.
struct TestLayer {
  std::string name;
  int bits;
  int64_t rows, cols;
  int64_t group_size;  // as a recipe writes it: -1 is one group a row
  bool symmetric;
  DType dtype = DType::kBF16;  // of the source's weight
  Tensor codes{}, scale{}, zero_point{};
  Tensor bias{};         // [rows] when it has rows elements
  Tensor outer_scale{};  // [1], or without elements: none

  int64_t group_cols() const { return group_size < 0 ? cols : group_size; }
  int64_t groups() const { return (cols + group_cols() - 1) / group_cols(); }
  // The normative formula of affine-int/1, in float32.
  float weight(int64_t row, int64_t col) const;
};

// Random codes, scales of both signs and, unless symmetric, zero points that include 0 and the largest.
TestLayer random_layer(const std::string& name, int bits, int64_t rows, int64_t cols, int64_t group_size,
                       bool symmetric, DType scale_dtype = DType::kF16);

class FormatPlugin {
 public:
  explicit FormatPlugin(const std::string& name);
  const rh_format* operator->() const { return library_.formats().at(0); }
  const rh_format* get() const { return library_.formats().at(0); }

 private:
  PluginLibrary library_;
};

// A plan of the tests: quantized layers, and the tensors beside them.
class TestPlan {
 public:
  explicit TestPlan(const nlohmann::json& options = nlohmann::json::object(),
                    const nlohmann::json& architecture = {
                        {"block_prefix", "model.layers"}, {"tied_head", false}, {"head", "lm_head"}});
  void add_layer(const std::string& name, int64_t rows, int64_t cols, DType dtype, const rh_encoding& encoding,
                 const rh_encoding* activation = nullptr);
  void add_tensor(const std::string& name, std::vector<int64_t> shape, DType dtype);
  const rh_plan& get() const { return *view_->get(); }
  // What the format answers: the first refusal, of the plan or of one of its tensors; "" when there is none.
  std::string refusal(const FormatPlugin& format) const;

 private:
  std::unique_ptr<PlanView> view_;
};

// The empty string, or what the format says against the layer. activated: its input is quantized in the same way.
std::string check(const FormatPlugin& format, const TestLayer& layer, bool activated = false);

// An export of `layers` and of unquantized tensors through one format.
class TestExport {
 public:
  // `skipped`: names of layers in the plan that stay as they are.
  TestExport(const FormatPlugin& format, std::filesystem::path folder, const std::vector<TestLayer>& layers,
             const std::vector<std::string>& skipped = {}, std::filesystem::path source = {});
  ~TestExport();

  // The empty string, or the plugin's message.
  std::string add_layer(const TestLayer& layer);
  std::string add_tensor(const std::string& name, const Tensor& tensor);
  std::string finish();

 private:
  TestPlan plan_;
  OutputFolder folder_;
  std::unique_ptr<ExportSession> session_;
  rh_writer* writer_ = nullptr;
};

// Writes all layers, finishes, and expects success.
void write_export(const FormatPlugin& format, const std::filesystem::path& folder, const std::vector<TestLayer>& layers,
                  const std::vector<std::string>& skipped = {});

// A checkpoint opened by a format plugin.
class TestReader {
 public:
  TestReader(const FormatPlugin& format, const std::filesystem::path& folder,
             const nlohmann::json& architecture = nlohmann::json::object());
  ~TestReader();

  const std::string& error() const { return error_; }  // why it did not open
  std::vector<std::string> names() const;
  rh_item item(const std::string& name) const;
  Tensor read(const std::string& name, DType dtype) const;
  Tensor read(const std::string& name) const { return read(name, from_rh(item(name).dtype)); }
  // Unpacks a layer into these tensors; the empty string, or the plugin's message.
  std::string read_encoded(const std::string& weight_name, const std::vector<rh_tensor*>& tensors) const;
  // The layer as a data type would have emitted it.
  TestLayer read_encoded(const std::string& weight_name) const;

  rh_reader* get() const { return reader_; }
  uint64_t index(const std::string& name) const;

 private:
  rh_reader* reader_ = nullptr;
  std::string error_;
};

nlohmann::json read_json(const std::filesystem::path& path);

}  // namespace roundhouse::formats

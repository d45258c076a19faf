// SPDX-License-Identifier: Apache-2.0
// What plugins see: schemes for data types; encodings, layers and plans, without a scheme, for formats.
#pragma once

#include <roundhouse/encoding.h>
#include <roundhouse/format.h>
#include <roundhouse/scheme.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "host/base/scheme.h"
#include "host/base/stack.h"
#include "host/base/tensor.h"

namespace roundhouse {

// A TensorScheme as plugins see it. Borrows strings from itself: keep it alive and in place for the call.
class SchemeView {
 public:
  explicit SchemeView(const TensorScheme& scheme);
  SchemeView(const SchemeView&) = delete;
  SchemeView& operator=(const SchemeView&) = delete;
  const rh_scheme* get() const { return &view_; }

 private:
  TensorScheme scheme_;
  std::string options_;
  rh_scheme view_;
};

// What a plugin said of an encoding, kept beyond the plugin's object.
class EncodingCopy {
 public:
  explicit EncodingCopy(const rh_encoding& encoding);
  EncodingCopy(const EncodingCopy&) = delete;
  EncodingCopy& operator=(const EncodingCopy&) = delete;

  const rh_encoding& get() const { return table_; }
  const std::string& id() const { return id_; }
  const nlohmann::json& parameters() const { return parameters_; }

 private:
  std::string id_, text_;
  nlohmann::json parameters_;
  std::vector<std::string> names_;
  std::vector<rh_tensor_spec> specs_;
  std::vector<const rh_tensor_spec*> pointers_;
  rh_encoding table_;
};

// Whether they are one: formats cannot tell what is encoded with one from what is encoded with the other.
bool same_encoding(const rh_encoding& a, const rh_encoding& b);

// A quantized layer.
struct FormatLayer {
  std::string name;  // "model.layers.0.mlp.down_proj"
  std::string role;
  int64_t rows = 0, cols = 0;
  DType dtype = DType::kF32;  // of the weight in the source
  std::shared_ptr<const EncodingCopy> encoding;
  std::shared_ptr<const EncodingCopy> activation_encoding;  // nullptr: the input is not quantized
  std::optional<StackPlace> stack = std::nullopt;
};

// Borrows from `layer` and from `stack`, which is filled in where the layer has one; both must stay where they are.
rh_format_layer view(const FormatLayer& layer, rh_stack& stack);

// The whole of an export, in the source's order. Owns what it points to.
class PlanView {
 public:
  PlanView(const nlohmann::json& options, const nlohmann::json& architecture);
  PlanView(const PlanView&) = delete;
  PlanView& operator=(const PlanView&) = delete;

  // layer: whose quantized weight it is, or nullptr. extra: the architecture does not know it. part: where the source has
  // it, if not as a tensor of its own.
  void add(const std::string& name, std::vector<int64_t> shape, DType dtype, bool extra,
           std::unique_ptr<const FormatLayer> layer, std::optional<StackedPart> part = std::nullopt);
  // Valid until the next add().
  const rh_plan* get() const;

 private:
  struct Entry {
    std::string name;
    std::vector<int64_t> shape;
    std::unique_ptr<const FormatLayer> layer;
    rh_format_layer layer_view;
    rh_stack stack_view;
    std::optional<StackedPart> part;
    rh_part part_view;
    rh_planned_tensor view;
  };
  std::string options_, architecture_;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<const rh_planned_tensor*> pointers_;
  mutable rh_plan table_{};
};

}  // namespace roundhouse

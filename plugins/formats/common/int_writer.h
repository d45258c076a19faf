// Writes a checkpoint whose quantized layers are stored as int_layout.h says.
#pragma once

#include <string>
#include <vector>

#include "plugins/formats/common/checkpoint.h"
#include "plugins/formats/common/int_layout.h"
#include "plugins/formats/common/int_plan.h"

namespace roundhouse::formats {

class IntWriter : public rh::Writer {
 public:
  IntWriter(const rh_export& target, IntPlan plan, IntLayout layout, bool group_index);

  void add_layer(const rh_encoded_layer& layer) override;
  void add_tensor(const std::string& name, const rh_tensor& tensor) override;
  void finish() override;

 protected:
  struct WrittenLayer {
    std::string name;
    IntScheme scheme;
    bool in_block;  // false: lm_head and the like, which engines take only when told
  };

  // The checkpoint's quantization_config. Called once, after the last layer.
  virtual Json quantization_config() const = 0;

  const rh_export& target() const { return target_; }
  const IntPlan& plan() const { return plan_; }
  IntLayout layout() const { return layout_; }
  const std::vector<WrittenLayer>& layers() const { return layers_; }

 private:
  const rh_export& target_;
  const IntPlan plan_;
  const IntLayout layout_;
  const bool group_index_;
  TensorWriter tensors_;
  std::vector<WrittenLayer> layers_;
};

}  // namespace roundhouse::formats

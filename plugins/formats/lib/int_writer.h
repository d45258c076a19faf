// Writes a checkpoint whose quantized layers are stored as int_layout.h says.
#pragma once

#include <string>
#include <vector>

#include "plugins/formats/lib/checkpoint_writer.h"
#include "plugins/formats/lib/int_layout.h"
#include "plugins/formats/lib/int_plan.h"

namespace roundhouse::formats {

// Packs one layer, with its bias.
void write_int_layer(TensorWriter& tensors, const rh_encoded_layer& encoded, IntLayout layout, bool group_index);

class IntWriter : public CheckpointWriter {
 public:
  IntWriter(const rh_export& target, IntLayout layout, bool group_index);

  void add_layer(const rh_encoded_layer& layer) override;

 protected:
  struct WrittenLayer {
    std::string name;
    IntScheme scheme;
    bool in_block;  // false: lm_head and the like, which engines take only when told
  };

  const IntPlan& plan() const { return plan_; }
  const std::vector<WrittenLayer>& layers() const { return layers_; }

 private:
  const IntPlan plan_;
  const IntLayout layout_;
  const bool group_index_;
  std::vector<WrittenLayer> layers_;
};

}  // namespace roundhouse::formats

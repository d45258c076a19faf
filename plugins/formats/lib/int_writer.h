// SPDX-License-Identifier: Apache-2.0
// Writes a checkpoint whose quantized layers are stored as int_layout.h says.
#pragma once

#include <string>
#include <vector>

#include "plugins/formats/lib/checkpoint_writer.h"
#include "plugins/formats/lib/int_layout.h"
#include "plugins/formats/lib/int_plan.h"

namespace roundhouse::formats {

// Stores one layer, with its bias.
void store_int_layer(TensorWriter& out, const rh_encoded_layer& encoded, IntLayout layout, bool group_index);

class IntWriter : public CheckpointWriter {
 public:
  IntWriter(const rh_export& target, IntLayout layout, bool group_index);

 protected:
  const IntPlan& plan() const { return plan_; }

 private:
  void store_layer(const rh_encoded_layer& layer, TensorWriter& out) override;

  const IntPlan plan_;
  const IntLayout layout_;
  const bool group_index_;
};

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
// What attention needs to know of positions.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <utility>
#include <vector>

#include "host/model/structure.h"

namespace roundhouse {

struct Rotation {
  RotaryInfo info;
  at::Tensor cos, sin;  // [seqlen, 1, rotary dims]
};

// Of the positions 0 to seqlen-1, computed once for all blocks.
struct PositionData {
  int64_t seqlen = 0;
  std::vector<Rotation> rotations;  // one for each kind that a block has
  // By the window, seqlen where there is none, and whether it is one of chunks: [seqlen, seqlen], 0 where seen and -inf
  // elsewhere. For those blocks that cannot say just that positions see what is before them.
  std::map<std::pair<int64_t, bool>, at::Tensor> masks;
  at::Tensor length_scale;  // [seqlen, 1, 1]; undefined where no block has one
  at::Tensor alibi;         // [heads, seqlen, seqlen], with -inf as in masks; undefined where no block has it

  // REQUIRES: a block of the model has it.
  const Rotation& rotation(const RotaryInfo& info) const;
};

PositionData position_data(const DecoderInfo& info, int64_t seqlen, at::ScalarType dtype, at::Device device);

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// What a plan does with the calibration texts.
#pragma once

#include <cstdint>

#include "host/plan/plan.h"

namespace roundhouse {

// Besides what it does with the weights alone.
struct Passes {
  bool tuned = false;       // layers are tuned
  bool importance = false;  // sums of squared inputs are collected
  bool ranges = false;      // ranges of activations are calibrated
  bool full = false;        // the original blocks run over all texts, one after the other
  bool quantized = false;   // so do the quantized ones

  bool any() const { return full || quantized; }
  // Of the hidden states of all samples, at a time: each chain's, and a tuned block's inputs beside its outputs.
  int64_t stores() const { return full + quantized + (tuned && !quantized); }
};
Passes passes(const Plan& plan);

// Calibration tokens that an expert gets if all get as many.
int64_t tokens_an_expert(const Plan& plan);

}  // namespace roundhouse

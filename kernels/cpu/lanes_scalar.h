// SPDX-License-Identifier: Apache-2.0
// kLanes floats as a plain array: the reference for the vector versions, and what other processors run.
#pragma once

#include "kernels/floats.h"

namespace roundhouse::kernels {
namespace {

// One loop body for whole vectors, tails, and all element types of results and gradients: here a body is long, and more
// of them take the compiler long without being faster.
constexpr bool kBodiesApart = false;

struct Lanes {
  float x[kLanes];

  Lanes() = default;
  KERNEL_LANES explicit Lanes(float value) {
    for (float& lane : x) lane = value;
  }
};
struct LaneMask {
  bool x[kLanes];
};

}  // namespace

// operation(lane) for each lane.
template <typename Operation>
KERNEL_FN Lanes each_lane(Operation&& operation) {
  Lanes out;
  for (int i = 0; i < kLanes; ++i) out.x[i] = operation(i);
  return out;
}
template <typename Operation>
KERNEL_FN LaneMask each_mask(Operation&& operation) {
  LaneMask out;
  for (int i = 0; i < kLanes; ++i) out.x[i] = operation(i);
  return out;
}

KERNEL_FN Lanes operator+(Lanes a, Lanes b) {
  return each_lane([&](int i) { return a.x[i] + b.x[i]; });
}
KERNEL_FN Lanes operator-(Lanes a, Lanes b) {
  return each_lane([&](int i) { return a.x[i] - b.x[i]; });
}
KERNEL_FN Lanes operator*(Lanes a, Lanes b) {
  return each_lane([&](int i) { return a.x[i] * b.x[i]; });
}
KERNEL_FN Lanes operator/(Lanes a, Lanes b) {
  return each_lane([&](int i) { return a.x[i] / b.x[i]; });
}
KERNEL_FN Lanes operator-(Lanes a) {
  return each_lane([&](int i) { return -a.x[i]; });
}
KERNEL_FN Lanes min_of(Lanes a, Lanes b) {
  return each_lane([&](int i) { return min_of(a.x[i], b.x[i]); });
}
KERNEL_FN Lanes max_of(Lanes a, Lanes b) {
  return each_lane([&](int i) { return max_of(a.x[i], b.x[i]); });
}
KERNEL_FN LaneMask equal(Lanes a, Lanes b) {
  return each_mask([&](int i) { return a.x[i] == b.x[i]; });
}
KERNEL_FN LaneMask greater(Lanes a, Lanes b) {
  return each_mask([&](int i) { return a.x[i] > b.x[i]; });
}
KERNEL_FN bool any(LaneMask mask) {
  for (bool lane : mask.x)
    if (lane) return true;
  return false;
}
KERNEL_FN Lanes keep(LaneMask mask, Lanes a) {
  return each_lane([&](int i) { return keep(mask.x[i], a.x[i]); });
}
KERNEL_FN Lanes drop(LaneMask mask, Lanes a) {
  return each_lane([&](int i) { return drop(mask.x[i], a.x[i]); });
}
KERNEL_FN Lanes select(LaneMask mask, Lanes a, Lanes b) {
  return each_lane([&](int i) { return select(mask.x[i], a.x[i], b.x[i]); });
}
KERNEL_FN Lanes round_even(Lanes a) {
  return each_lane([&](int i) { return round_even(a.x[i]); });
}
KERNEL_FN Lanes magnitude(Lanes a) {
  return each_lane([&](int i) { return magnitude(a.x[i]); });
}
KERNEL_FN Lanes power_below(Lanes a) {
  return each_lane([&](int i) { return power_below(a.x[i]); });
}
KERNEL_FN Lanes with_sign(Lanes size, Lanes sign) {
  return each_lane([&](int i) { return with_sign(size.x[i], sign.x[i]); });
}
KERNEL_FN Lanes number_of_bits(Lanes a) {
  return each_lane([&](int i) { return number_of_bits(a.x[i]); });
}
KERNEL_FN Lanes bits_of_number(Lanes a) {
  return each_lane([&](int i) { return bits_of_number(a.x[i]); });
}

// Lanes i of a and b beside each other where i & half is 0: b's stand half further up. And those where it is not 0: a's
// stand half further down.
template <int half>
KERNEL_FN Lanes pair_low(Lanes a, Lanes b) {
  return each_lane([&](int i) { return i & half ? b.x[i - half] : a.x[i]; });
}
template <int half>
KERNEL_FN Lanes pair_high(Lanes a, Lanes b) {
  return each_lane([&](int i) { return i & half ? b.x[i] : a.x[i + half]; });
}
KERNEL_FN float first_lane(Lanes a) { return a.x[0]; }

template <Element e>
KERNEL_FN Lanes round_to(Lanes a) {
  return each_lane([&](int i) { return round_to<e>(a.x[i]); });
}
template <Element e>
KERNEL_FN Lanes load_lanes(const Storage<e>* from) {
  return each_lane([&](int i) { return to_float<e>(from[i]); });
}
template <Element e>
KERNEL_FN void store_lanes(Storage<e>* to, Lanes a) {
  for (int i = 0; i < kLanes; ++i) to[i] = from_float<e>(a.x[i]);
}
KERNEL_FN Lanes load_codes(const uint8_t* from) {
  return each_lane([&](int i) { return static_cast<float>(from[i]); });
}
KERNEL_FN void store_codes(uint8_t* to, Lanes a) {
  for (int i = 0; i < kLanes; ++i) to[i] = static_cast<uint8_t>(a.x[i]);
}

}  // namespace roundhouse::kernels

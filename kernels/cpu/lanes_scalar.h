// kLanes floats as a plain array: the reference for the vector versions, and what other processors run.
#pragma once

#include "kernels/floats.h"

namespace roundhouse::kernels {
namespace {

// One body for whole vectors and tails: two take the compiler longer and are not faster.
constexpr bool kTailsApart = false;

struct Lanes {
  float x[kLanes];

  Lanes() = default;
  RH_LANES explicit Lanes(float value) {
    for (float& lane : x) lane = value;
  }
};
struct LaneMask {
  bool x[kLanes];
};

}  // namespace

// operation(lane) for each lane.
template <typename Operation>
RH_HD Lanes each_lane(Operation&& operation) {
  Lanes out;
  for (int i = 0; i < kLanes; ++i) out.x[i] = operation(i);
  return out;
}
template <typename Operation>
RH_HD LaneMask each_mask(Operation&& operation) {
  LaneMask out;
  for (int i = 0; i < kLanes; ++i) out.x[i] = operation(i);
  return out;
}

RH_HD Lanes operator+(Lanes a, Lanes b) {
  return each_lane([&](int i) { return a.x[i] + b.x[i]; });
}
RH_HD Lanes operator-(Lanes a, Lanes b) {
  return each_lane([&](int i) { return a.x[i] - b.x[i]; });
}
RH_HD Lanes operator*(Lanes a, Lanes b) {
  return each_lane([&](int i) { return a.x[i] * b.x[i]; });
}
RH_HD Lanes operator/(Lanes a, Lanes b) {
  return each_lane([&](int i) { return a.x[i] / b.x[i]; });
}
RH_HD Lanes operator-(Lanes a) {
  return each_lane([&](int i) { return -a.x[i]; });
}
RH_HD Lanes min_of(Lanes a, Lanes b) {
  return each_lane([&](int i) { return min_of(a.x[i], b.x[i]); });
}
RH_HD Lanes max_of(Lanes a, Lanes b) {
  return each_lane([&](int i) { return max_of(a.x[i], b.x[i]); });
}
RH_HD LaneMask equal(Lanes a, Lanes b) {
  return each_mask([&](int i) { return a.x[i] == b.x[i]; });
}
RH_HD LaneMask greater(Lanes a, Lanes b) {
  return each_mask([&](int i) { return a.x[i] > b.x[i]; });
}
RH_HD Lanes keep(LaneMask mask, Lanes a) {
  return each_lane([&](int i) { return keep(mask.x[i], a.x[i]); });
}
RH_HD Lanes drop(LaneMask mask, Lanes a) {
  return each_lane([&](int i) { return drop(mask.x[i], a.x[i]); });
}
RH_HD Lanes select(LaneMask mask, Lanes a, Lanes b) {
  return each_lane([&](int i) { return select(mask.x[i], a.x[i], b.x[i]); });
}
RH_HD Lanes round_even(Lanes a) {
  return each_lane([&](int i) { return round_even(a.x[i]); });
}
RH_HD Lanes magnitude(Lanes a) {
  return each_lane([&](int i) { return magnitude(a.x[i]); });
}
RH_HD Lanes power_below(Lanes a) {
  return each_lane([&](int i) { return power_below(a.x[i]); });
}
RH_HD Lanes with_sign(Lanes size, Lanes sign) {
  return each_lane([&](int i) { return with_sign(size.x[i], sign.x[i]); });
}
RH_HD Lanes number_of_bits(Lanes a) {
  return each_lane([&](int i) { return number_of_bits(a.x[i]); });
}
RH_HD Lanes bits_of_number(Lanes a) {
  return each_lane([&](int i) { return bits_of_number(a.x[i]); });
}

// Lanes i of a and b beside each other where i & half is 0: b's stand half further up. And those where it is not 0: a's
// stand half further down.
template <int half>
RH_HD Lanes pair_low(Lanes a, Lanes b) {
  return each_lane([&](int i) { return i & half ? b.x[i - half] : a.x[i]; });
}
template <int half>
RH_HD Lanes pair_high(Lanes a, Lanes b) {
  return each_lane([&](int i) { return i & half ? b.x[i] : a.x[i + half]; });
}
RH_HD float first_lane(Lanes a) { return a.x[0]; }

template <Element e>
RH_HD Lanes round_to(Lanes a) {
  return each_lane([&](int i) { return round_to<e>(a.x[i]); });
}
template <Element e>
RH_HD Lanes load_lanes(const Storage<e>* from) {
  return each_lane([&](int i) { return to_float<e>(from[i]); });
}
template <Element e>
RH_HD void store_lanes(Storage<e>* to, Lanes a) {
  for (int i = 0; i < kLanes; ++i) to[i] = from_float<e>(a.x[i]);
}
RH_HD Lanes load_codes(const uint8_t* from) {
  return each_lane([&](int i) { return static_cast<float>(from[i]); });
}
RH_HD void store_codes(uint8_t* to, Lanes a) {
  for (int i = 0; i < kLanes; ++i) to[i] = static_cast<uint8_t>(a.x[i]);
}

}  // namespace roundhouse::kernels

// Loops, loads, stores and sums over Lanes, for the kernels of every family. Included after a target's lanes header;
// everything is local to its source.
#pragma once

#include "kernels/tuning.h"

namespace roundhouse::kernels {
namespace {

// How many lanes hold elements: all, or the first `count` at a span's end.
struct AllLanes {};
struct SomeLanes {
  int64_t count;
};

}  // namespace

// body(i, lanes) for each kLanes elements of [0, size).
template <typename Body>
RH_HD void for_lanes(int64_t size, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) body(i, AllLanes{});
  if (i < size) body(i, SomeLanes{size - i});
}

template <Element e>
RH_HD Lanes load(const Storage<e>* from, AllLanes) {
  return load_lanes<e>(from);
}
template <Element e>
RH_HD Lanes load(const Storage<e>* from, SomeLanes lanes) {
  Storage<e> padded[kLanes] = {};
  memcpy(padded, from, lanes.count * sizeof(Storage<e>));
  return load_lanes<e>(padded);
}
template <Element e>
RH_HD void store(Storage<e>* to, Lanes a, AllLanes) {
  store_lanes<e>(to, a);
}
template <Element e>
RH_HD void store(Storage<e>* to, Lanes a, SomeLanes lanes) {
  Storage<e> padded[kLanes];
  store_lanes<e>(padded, a);
  memcpy(to, padded, lanes.count * sizeof(Storage<e>));
}

RH_HD Lanes load(const uint8_t* from, AllLanes) { return load_codes(from); }
RH_HD Lanes load(const uint8_t* from, SomeLanes lanes) {
  uint8_t padded[kLanes] = {};
  memcpy(padded, from, lanes.count);
  return load_codes(padded);
}
RH_HD void store(uint8_t* to, Lanes a, AllLanes) { store_codes(to, a); }
RH_HD void store(uint8_t* to, Lanes a, SomeLanes lanes) {
  uint8_t padded[kLanes];
  store_codes(padded, a);
  memcpy(to, padded, lanes.count);
}

template <Element e>
RH_HD const Storage<e>* elements(const void* base) {
  return static_cast<const Storage<e>*>(base);
}
template <Element e>
RH_HD Storage<e>* elements(void* base) {
  return static_cast<Storage<e>*>(base);
}

// Folds the upper half onto the lower until one lane is left.
template <typename Combine>
RH_HD float fold_lanes(Lanes a, Combine&& combine) {
  float x[kLanes];
  store_lanes<Element::kF32>(x, a);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) x[i] = combine(x[i], x[i + half]);
  return x[0];
}
RH_HD float sum_lanes(Lanes a) {
  return fold_lanes(a, [](float x, float y) { return x + y; });
}

// Writes v's gradient, or steps v. `at` is the place in v.
RH_HD void finish_v(const TunableGradients& out, int64_t at, Lanes gradient, auto lanes) {
  if (out.v) store<Element::kF32>(out.v + at, gradient, lanes);
}
RH_HD void finish_v(const TunableStep& step, int64_t at, Lanes gradient, auto lanes) {
  if (!step.v) return;
  const Lanes v = load<Element::kF32>(step.v + at, lanes);
  store<Element::kF32>(step.v + at, v - sign_times(Lanes(*step.rounding_rate), gradient), lanes);
}

// v has whole groups, also where a row ends within one: [begin, end) of v has no element in the weight.
RH_HD void finish_padding(const TunableGradients& out, int64_t begin, int64_t end) {
  if (out.v && begin < end) memset(out.v + begin, 0, (end - begin) * sizeof(float));
}
RH_HD void finish_padding(const TunableStep&, int64_t, int64_t) {}

}  // namespace roundhouse::kernels

// SPDX-License-Identifier: Apache-2.0
// Loops, loads, stores and sums over Lanes, for the kernels of every family. Included after a target's lanes header;
// everything is local to its source.
#pragma once

#include "kernels/tuning.h"

namespace roundhouse::kernels {
namespace {

// How many lanes hold elements: all, or the first `count`.
struct AllLanes {};
struct SomeLanes {
  int64_t count;
};

}  // namespace

// body(i, lanes) for each kLanes elements of [0, size).
template <typename Body>
KERNEL_FN void for_lanes(int64_t size, Body&& body) {
  int64_t i = 0;
  if constexpr (kBodiesApart)
    for (; i + kLanes <= size; i += kLanes) body(i, AllLanes{});
  for (; i < size; i += kLanes) body(i, SomeLanes{size - i < kLanes ? size - i : kLanes});
}

template <Element e>
KERNEL_FN Lanes load(const Storage<e>* from, AllLanes) {
  return load_lanes<e>(from);
}
template <Element e>
KERNEL_FN Lanes load(const Storage<e>* from, SomeLanes lanes) {
  if (lanes.count == kLanes) return load_lanes<e>(from);
  Storage<e> padded[kLanes] = {};
  memcpy(padded, from, lanes.count * sizeof(Storage<e>));
  return load_lanes<e>(padded);
}
template <Element e>
KERNEL_FN void store(Storage<e>* to, Lanes a, AllLanes) {
  store_lanes<e>(to, a);
}
template <Element e>
KERNEL_FN void store(Storage<e>* to, Lanes a, SomeLanes lanes) {
  if (lanes.count == kLanes) return store_lanes<e>(to, a);
  Storage<e> padded[kLanes];
  store_lanes<e>(padded, a);
  memcpy(to, padded, lanes.count * sizeof(Storage<e>));
}

KERNEL_FN Lanes load(const uint8_t* from, AllLanes) { return load_codes(from); }
KERNEL_FN Lanes load(const uint8_t* from, SomeLanes lanes) {
  if (lanes.count == kLanes) return load_codes(from);
  uint8_t padded[kLanes] = {};
  memcpy(padded, from, lanes.count);
  return load_codes(padded);
}
KERNEL_FN void store(uint8_t* to, Lanes a, AllLanes) { store_codes(to, a); }
KERNEL_FN void store(uint8_t* to, Lanes a, SomeLanes lanes) {
  if (lanes.count == kLanes) return store_codes(to, a);
  uint8_t padded[kLanes];
  store_codes(padded, a);
  memcpy(to, padded, lanes.count);
}

template <Element e>
KERNEL_FN const Storage<e>* elements(const void* base) {
  return static_cast<const Storage<e>*>(base);
}
template <Element e>
KERNEL_FN Storage<e>* elements(void* base) {
  return static_cast<Storage<e>*>(base);
}

// Calls body(type) for the element type of a result or a gradient; `type` is an ElementTag, or an Element.
template <typename Body>
KERNEL_FN void with_side_element(Element e, Body&& body) {
  if constexpr (kBodiesApart)
    with_element(e, body);
  else
    body(e);
}

template <Element e, typename Count>
KERNEL_FN Lanes load_at(ElementTag<e>, const void* base, int64_t i, Count lanes) {
  return load<e>(elements<e>(base) + i, lanes);
}
template <typename Count>
KERNEL_FN Lanes load_at(Element e, const void* base, int64_t i, Count lanes) {
  if (e == Element::kF16) return load_at(ElementTag<Element::kF16>{}, base, i, lanes);
  if (e == Element::kBF16) return load_at(ElementTag<Element::kBF16>{}, base, i, lanes);
  return load_at(ElementTag<Element::kF32>{}, base, i, lanes);
}

template <Element e, typename Count>
KERNEL_FN void store_at(ElementTag<e>, void* base, int64_t i, Lanes a, Count lanes) {
  store<e>(elements<e>(base) + i, a, lanes);
}
template <typename Count>
KERNEL_FN void store_at(Element e, void* base, int64_t i, Lanes a, Count lanes) {
  if (e == Element::kF16)
    store_at(ElementTag<Element::kF16>{}, base, i, a, lanes);
  else if (e == Element::kBF16)
    store_at(ElementTag<Element::kBF16>{}, base, i, a, lanes);
  else
    store_at(ElementTag<Element::kF32>{}, base, i, a, lanes);
}

// Stores what is first rounded to the weight's element type.
template <Element weight, Element e, typename Count>
KERNEL_FN void store_rounded(ElementTag<e> type, void* base, int64_t i, Lanes a, Count lanes) {
  if constexpr (e == weight)
    store_at(type, base, i, a, lanes);
  else
    store_at(type, base, i, round_to<weight>(a), lanes);
}

// Folds the upper half onto the lower until one lane is left.
KERNEL_FN float sum_lanes(Lanes a) {
  a = a + pair_high<8>(a, a);
  a = a + pair_high<4>(a, a);
  a = a + pair_high<2>(a, a);
  return first_lane(a + pair_high<1>(a, a));
}

// In lane i a[i] folded so, of kLanes vectors, which this uses up.
template <int half, typename Combine>
KERNEL_FN Lanes fold_each(Lanes* a, Combine&& combine) {
  for (int i = 0; i < half; ++i) a[i] = combine(pair_low<half>(a[i], a[i + half]), pair_high<half>(a[i], a[i + half]));
  if constexpr (half > 1) return fold_each<half / 2>(a, combine);
  return a[0];
}
// Once in each target, for the sake of the compiler's time.
[[maybe_unused]] static __attribute__((noinline)) Lanes sum_each(Lanes* a) {
  return fold_each<kLanes / 2>(a, [](Lanes x, Lanes y) { return x + y; });
}
[[maybe_unused]] static __attribute__((noinline)) Lanes min_each(Lanes* a) {
  return fold_each<kLanes / 2>(a, [](Lanes x, Lanes y) { return min_of(x, y); });
}
[[maybe_unused]] static __attribute__((noinline)) Lanes max_each(Lanes* a) {
  return fold_each<kLanes / 2>(a, [](Lanes x, Lanes y) { return max_of(x, y); });
}

// body(first, count) for kLanes groups at a time of [begin, end): what a group costs beside its elements is computed
// for all of them in one vector.
template <typename Body>
KERNEL_FN void for_groups(int64_t begin, int64_t end, Body&& body) {
  for (int64_t i = begin; i < end; i += kLanes) body(i, end - i < kLanes ? end - i : kLanes);
}
// The first `count` of kLanes.
KERNEL_FN Lanes load_groups(const float* from, int64_t count) { return load<Element::kF32>(from, SomeLanes{count}); }
KERNEL_FN void store_groups(float* to, Lanes a, int64_t count) { store<Element::kF32>(to, a, SomeLanes{count}); }

// Writes v's gradient, or steps v. `at` is the place in v.
KERNEL_FN void finish_v(const TunableGradients& out, int64_t at, Lanes gradient, auto lanes) {
  if (out.v) store<Element::kF32>(out.v + at, gradient, lanes);
}
KERNEL_FN void finish_v(const TunableStep& step, int64_t at, Lanes gradient, auto lanes) {
  if (!step.v) return;
  const Lanes v = load<Element::kF32>(step.v + at, lanes);
  store<Element::kF32>(step.v + at, v - sign_times(Lanes(*step.rounding_rate), gradient), lanes);
}

// Writes the gradients of min_scale or max_scale of groups, or steps it; null where not wanted. `at` is the first's.
KERNEL_FN void finish_range(const TunableGradients&, float* to, Lanes gradient, int64_t count) {
  if (to) store_groups(to, gradient, count);
}
KERNEL_FN void finish_range(const TunableStep& step, float* to, Lanes gradient, int64_t count) {
  if (!to) return;
  store_groups(to,
               range_factor(load_groups(to, count) - sign_times(Lanes(*step.range_rate), gradient), step.range_limit),
               count);
}

// v has whole groups, also where a row ends within one: [begin, end) of v has no element in the weight.
KERNEL_FN void finish_padding(const TunableGradients& out, int64_t begin, int64_t end) {
  if (out.v && begin < end) memset(out.v + begin, 0, (end - begin) * sizeof(float));
}
KERNEL_FN void finish_padding(const TunableStep&, int64_t, int64_t) {}

}  // namespace roundhouse::kernels

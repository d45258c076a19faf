// SPDX-License-Identifier: Apache-2.0
// The search for ggml's blocks over Lanes, a group in each. Included once by each target's source, after its lanes
// header. What is not inlined spares the compiler's time.
#pragma once

#include "kernels/cpu/for_lanes.h"
#include "kernels/cpu/ggml.h"
#include "kernels/ggml_search.h"

namespace roundhouse::kernels {
namespace {

constexpr int kMostGroupCols = 32;
using Columns = float[kMostGroupCols][kLanes];

// The groups of some blocks. Element j of all of them is one vector; lanes beyond the last group are zeros.
struct SearchGroups {
  alignas(64) Columns x, square, absolute, fit;
  bool has_absolute;
  int cols, per_block, blocks;
  GgmlCodes codes, scale_codes;
  GgmlFitSums<Lanes> sums;
};

// The best fit of each group, and without a minimum that of the other sign.
struct SearchedGroups {
  GgmlFit<Lanes> fits[2];
  Lanes mean_code;
};

// Blocks whose groups share d and dmin; a block's values stand in all lanes of its groups.
struct SearchedBlocks {
  Lanes d, dmin, error;
  Lanes scale_code, minimum_code;  // of the groups
};

}  // namespace

KERNEL_FN Lanes column(const Columns& columns, int j) { return load_lanes<Element::kF32>(columns[j]); }

// The sums over a group's elements: add(j, sums) adds those of element j.
template <int n, typename Add>
KERNEL_FN void sum_columns(int cols, Lanes (&sums)[n], Add&& add) {
  Lanes parts[kSearchSums][n];
  for (int i = 0; i < kSearchSums; ++i) {
    for (Lanes& sum : sums) sum = Lanes(0.0f);
    for (int j = i; j < cols; j += kSearchSums) add(j, sums);
    for (int k = 0; k < n; ++k) parts[i][k] = sums[k];
  }
  for (int half = kSearchSums / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      for (int k = 0; k < n; ++k) parts[i][k] = parts[i][k] + parts[i + half][k];
  for (int k = 0; k < n; ++k) sums[k] = parts[0][k];
}

template <bool has_minimum>
KERNEL_FN Lanes shifted_column(const SearchGroups& g, int j, Lanes minimum) {
  if constexpr (has_minimum) return column(g.x, j) + minimum;
  return column(g.x, j);
}

template <bool has_minimum>
static __attribute__((noinline)) Lanes error_of(const SearchGroups& g, Lanes scale, Lanes minimum) {
  const Lanes inverse = inverse_or_zero(scale);
  Lanes error[1];
  sum_columns(g.cols, error, [&](int j, Lanes* sums) {
    const Lanes x = shifted_column<has_minimum>(g, j, minimum);
    const Lanes e = ggml_search_code(g.codes, x, inverse) * scale - x;
    sums[0] = sums[0] + column(g.square, j) * (e * e);
    if (g.has_absolute) sums[0] = sums[0] + column(g.absolute, j) * magnitude(e);
  });
  return error[0];
}

template <bool has_minimum>
static __attribute__((noinline)) GgmlMoments<Lanes> moments_of(const SearchGroups& g, Lanes scale, Lanes minimum) {
  const Lanes inverse = inverse_or_zero(scale);
  Lanes moments[3];
  sum_columns(g.cols, moments, [&](int j, Lanes* sums) {
    const Lanes q = ggml_search_code(g.codes, shifted_column<has_minimum>(g, j, minimum), inverse);
    const Lanes wq = column(g.fit, j) * q;
    sums[0] = sums[0] + wq;
    sums[1] = sums[1] + wq * q;
    sums[2] = sums[2] + wq * column(g.x, j);
  });
  return {moments[0], moments[1], moments[2]};
}

// The mean minimum for the codes that (scale, minimum) gives.
static __attribute__((noinline)) Lanes best_minimum(const SearchGroups& g, Lanes scale, Lanes minimum) {
  const Lanes inverse = inverse_or_zero(scale);
  Lanes q[1];
  sum_columns(g.cols, q, [&](int j, Lanes* sums) {
    sums[0] = sums[0] + column(g.fit, j) * ggml_search_code(g.codes, shifted_column<true>(g, j, minimum), inverse);
  });
  return ggml_best_minimum(g.sums, scale, q[0]);
}

// Element i of lane k is from[k * cols + i], of `count` lanes.
static __attribute__((noinline)) void load_columns(const float* from, int cols, int64_t count, Columns& to) {
  for (int j = 0; j < cols; ++j)
    for (int64_t k = 0; k < kLanes; ++k) to[j][k] = k < count ? from[k * cols + j] : 0.0f;
}

static void gather_groups(const GgmlLayer& layer, const GgmlSearch& input, int64_t first, int64_t count,
                          SearchGroups& g) {
  g.has_absolute = input.absolute != nullptr;
  g.cols = layer.group_cols;
  g.per_block = ggml_block_groups(layer);
  g.blocks = static_cast<int>(count);
  g.codes = ggml_search_codes(layer);
  g.scale_codes = ggml_search_scale_codes(layer);
  const int64_t begin = first * layer.block_cols, groups = count * g.per_block;
  load_columns(input.x + begin, g.cols, groups, g.x);
  load_columns(input.square + begin, g.cols, groups, g.square);
  load_columns(input.fit + begin, g.cols, groups, g.fit);
  if (g.has_absolute) load_columns(input.absolute + begin, g.cols, groups, g.absolute);
  Lanes total[2];
  sum_columns(g.cols, total, [&](int j, Lanes* sums) {
    sums[0] = sums[0] + column(g.fit, j);
    sums[1] = sums[1] + column(g.fit, j) * column(g.x, j);
  });
  g.sums = {total[0], total[1]};
}

// Least squares for the codes of (scale, minimum), where it lowers the error of `best`; whether it does anywhere.
template <bool has_minimum>
static __attribute__((noinline)) bool improve(const SearchGroups& g, bool any_minimum, Lanes scale, Lanes minimum,
                                              GgmlFit<Lanes>& best) {
  GgmlFit<Lanes> fit = ggml_least_squares<has_minimum>(g.sums, moments_of<has_minimum>(g, scale, minimum), any_minimum);
  fit.error = fit.error + error_of<has_minimum>(g, fit.scale, fit.minimum);
  const LaneMask better = greater(best.error, fit.error);
  take_if(better, fit, best);
  return any(better);
}

// The best scale and minimum of each group, unrounded. Without a minimum: the best scale of each sign.
template <bool has_minimum>
static void search_groups(const SearchGroups& g, bool any_minimum, GgmlFit<Lanes> (&best)[2]) {
  constexpr int kSigns = has_minimum ? 1 : 2;
  Lanes low = column(g.x, 0), high = low;
  for (int j = 1; j < g.cols; ++j) {
    low = min_of(column(g.x, j), low);
    high = max_of(column(g.x, j), high);
  }
  if (has_minimum && !any_minimum) low = min_of(Lanes(0.0f), low);
  const Lanes minimum = has_minimum ? -low : Lanes(0.0f);
  best[0] = best[1] = {Lanes(0.0f), minimum, error_of<has_minimum>(g, Lanes(0.0f), minimum)};
  for (int k = 0; k < kSearchStarts; ++k) {
    const GgmlFit<Lanes> start = ggml_search_start<has_minimum>(g.codes, k, low, high);
    improve<has_minimum>(g, any_minimum, start.scale, start.minimum, best[k % kSigns]);
  }
  // Once more with the codes of the best.
  for (int sign = 0; sign < kSigns; ++sign) {
    GgmlFit<Lanes>& fit = best[sign];
    for (int k = 0; k < kSearchRefinements / kSigns; ++k)
      if (!improve<has_minimum>(g, any_minimum, fit.scale, fit.minimum, fit)) break;
  }
  if (has_minimum) return;
  const LaneMask swap = greater(best[0].error, best[1].error);
  const GgmlFit<Lanes> first = best[0];
  take_if(swap, best[1], best[0]);
  take_if(swap, first, best[1]);
}

// combine() over each block's groups of x and `start`, in their order and in all of the block's lanes.
template <typename Combine>
KERNEL_FN Lanes over_blocks(const SearchGroups& g, Lanes x, float start, Combine&& combine) {
  float lanes[kLanes];
  store_lanes<Element::kF32>(lanes, x);
  for (int first = 0; first < kLanes; first += g.per_block) {
    float total = start;
    for (int i = first; i < first + g.per_block; ++i) total = combine(total, lanes[i]);
    for (int i = first; i < first + g.per_block; ++i) lanes[i] = total;
  }
  return load_lanes<Element::kF32>(lanes);
}

// The best integers of each group for its block's d and dmin, at most `reach` from the nearest to the unrounded scale;
// and the error of the block.
template <bool has_minimum>
static __attribute__((noinline)) void choose(const SearchGroups& g, const SearchedGroups& free, int reach,
                                             SearchedBlocks& blocks) {
  Lanes best(HUGE_VALF);
  for (int sign = 0; sign < (has_minimum ? 1 : 2); ++sign) {
    const GgmlFit<Lanes>& fit = free.fits[sign];
    const Lanes center = drop(equal(blocks.d, Lanes(0.0f)), within(g.scale_codes, round_even(fit.scale / blocks.d)));
    Lanes code = center - Lanes(static_cast<float>(reach));
    for (int i = 0; i <= 2 * reach; ++i, code = code + Lanes(1.0f)) {
      const Lanes scale = blocks.d * code;
      Lanes below(0.0f);
      if constexpr (has_minimum) {
        // As the scale grows, the middle of the range stays.
        const Lanes middle = fit.minimum + (scale - fit.scale) * free.mean_code;
        below = drop(equal(blocks.dmin, Lanes(0.0f)), round_down(best_minimum(g, scale, middle) / blocks.dmin));
      }
      for (int up = 0; up < (has_minimum ? 2 : 1); ++up) {
        const Lanes minimum_code = within({0.0f, g.scale_codes.high}, below + Lanes(static_cast<float>(up)));
        Lanes error = error_of<has_minimum>(g, scale, blocks.dmin * minimum_code);
        error = error_if(greater(code, Lanes(g.scale_codes.low - 0.5f)), error);
        error = error_if(greater(Lanes(g.scale_codes.high + 0.5f), code), error);
        const LaneMask better = greater(best, error);
        best = select(better, error, best);
        blocks.scale_code = select(better, code, blocks.scale_code);
        blocks.minimum_code = select(better, minimum_code, blocks.minimum_code);
      }
    }
  }
  blocks.error = over_blocks(g, best, 0.0f, [](float a, float b) { return a + b; });
}

// d and dmin of least squares for the codes of the elements.
template <bool has_minimum>
static __attribute__((noinline)) void refit(const SearchGroups& g, SearchedBlocks& blocks) {
  const GgmlMoments<Lanes> moments =
      moments_of<has_minimum>(g, blocks.d * blocks.scale_code, blocks.dmin * blocks.minimum_code);
  float d[kLanes], dmin[kLanes], s[kLanes], m[kLanes], q[kLanes], qq[kLanes], qx[kLanes], weight[kLanes], x[kLanes];
  const auto store = [](float* to, Lanes from) { store_lanes<Element::kF32>(to, from); };
  store(d, blocks.d), store(dmin, blocks.dmin), store(s, blocks.scale_code), store(m, blocks.minimum_code);
  store(q, moments.q), store(qq, moments.qq), store(qx, moments.qx);
  store(weight, g.sums.weight), store(x, g.sums.x);
  for (int first = 0; first < kLanes; first += g.per_block) {
    GgmlSuperSums sums{};
    for (int i = first; i < first + g.per_block; ++i)
      ggml_add(sums, s[i], m[i], {q[i], qq[i], qx[i]}, {weight[i], x[i]});
    ggml_refit(sums, !has_minimum, d[first], dmin[first]);
    for (int i = first; i < first + g.per_block; ++i) d[i] = d[first], dmin[i] = dmin[first];
  }
  blocks.d = load_lanes<Element::kF32>(d);
  blocks.dmin = load_lanes<Element::kF32>(dmin);
}

// Takes those blocks over whose error is lower; whether there are any.
KERNEL_FN bool take_better(const SearchedBlocks& found, SearchedBlocks& best) {
  const LaneMask better = greater(best.error, found.error);
  best.d = select(better, found.d, best.d);
  best.dmin = select(better, found.dmin, best.dmin);
  best.error = select(better, found.error, best.error);
  best.scale_code = select(better, found.scale_code, best.scale_code);
  best.minimum_code = select(better, found.minimum_code, best.minimum_code);
  return any(better);
}

// Blocks of several groups.
template <bool has_minimum>
static void search_super(const SearchGroups& g, GgmlBlock* out) {
  SearchedGroups free;
  search_groups<has_minimum>(g, false, free.fits);
  const GgmlFit<Lanes>& fit = free.fits[0];
  free.mean_code = moments_of<has_minimum>(g, fit.scale, fit.minimum).q / g.sums.weight;
  const auto most = [](float a, float b) { return max_of(b, a); };
  const Lanes largest = over_blocks(g, magnitude(fit.scale), 0.0f, most);
  const Lanes dmin = clamped_half(over_blocks(g, fit.minimum, 0.0f, most) / Lanes(g.scale_codes.high));
  const GgmlSteps steps = ggml_search_steps(!has_minimum);
  const Lanes zero(0.0f);
  SearchedBlocks best{zero, zero, Lanes(HUGE_VALF), zero, zero};
  Lanes center = zero;
  for (int k = 0; k <= steps.coarse + 2 * steps.fine; ++k) {
    if (k == steps.coarse) center = best.d;
    const Lanes d = k < steps.coarse ? largest / Lanes(ggml_coarse_divisor(steps, g.scale_codes, k))
                                     : center * Lanes(ggml_fine_factor(steps, k - steps.coarse));
    SearchedBlocks found{clamped_half(d), dmin, zero, zero, zero};
    choose<has_minimum>(g, free, 0, found);
    take_better(found, best);
  }
  for (int i = 0; i < kSearchRounds; ++i) {
    SearchedBlocks found = best;
    if (i > 0) refit<has_minimum>(g, found);
    choose<has_minimum>(g, free, ggml_search_reach(g.scale_codes, i), found);
    if (!take_better(found, best) && i > 0) break;
  }
  float d[kLanes], of_minimum[kLanes], scale_code[kLanes], minimum_code[kLanes];
  store_lanes<Element::kF32>(d, best.d);
  store_lanes<Element::kF32>(of_minimum, best.dmin);
  store_lanes<Element::kF32>(scale_code, best.scale_code);
  store_lanes<Element::kF32>(minimum_code, best.minimum_code);
  for (int block = 0, lane = 0; block < g.blocks; ++block) {
    out[block].d = d[lane];
    out[block].dmin = of_minimum[lane];
    for (int i = 0; i < g.per_block; ++i, ++lane) {
      out[block].scale_code[i] = scale_code[lane];
      out[block].minimum_code[i] = minimum_code[lane];
    }
  }
}

// Blocks of one group, whose scale and minimum are float16.
template <bool has_minimum>
static void search_single(const SearchGroups& g, bool positive, GgmlBlock* out) {
  GgmlFit<Lanes> fits[2];
  search_groups<has_minimum>(g, true, fits);
  const GgmlFit<Lanes>& free = fits[0];
  const Lanes minimum = has_minimum ? clamped_half(free.minimum) : Lanes(0.0f);
  GgmlFit<Lanes> best{Lanes(0.0f), minimum, error_of<has_minimum>(g, Lanes(0.0f), minimum)};
  float scale[kLanes], least[kLanes], beside[kLanes];
  store_lanes<Element::kF32>(scale, free.scale);
  for (int k = -3; k <= 3; ++k) {
    for (int i = 0; i < kLanes; ++i) beside[i] = half_beside(scale[i], k);
    GgmlFit<Lanes> fit{load_lanes<Element::kF32>(beside), Lanes(0.0f), Lanes(0.0f)};
    if constexpr (has_minimum) fit.minimum = clamped_half(best_minimum(g, fit.scale, free.minimum));
    fit.error = error_of<has_minimum>(g, fit.scale, fit.minimum);
    take_if(greater(best.error, fit.error), fit, best);
  }
  store_lanes<Element::kF32>(scale, positive ? magnitude(best.scale) : best.scale);
  store_lanes<Element::kF32>(least, best.minimum);
  for (int block = 0; block < g.blocks; ++block) ggml_fill_single(scale[block], least[block], out[block]);
}

static void ggml_search(const GgmlLayer& layer, const GgmlSearch& input, GgmlBlock* out, int64_t begin, int64_t end) {
  const int64_t at_once = kLanes / ggml_block_groups(layer);
  SearchGroups groups;
  for (int64_t first = begin; first < end; first += at_once) {
    const int64_t count = end - first < at_once ? end - first : at_once;
    gather_groups(layer, input, first, count, groups);
    if (layer.super_bits == 0)
      layer.symmetric ? search_single<false>(groups, layer.positive, out + first)
                      : search_single<true>(groups, false, out + first);
    else
      layer.symmetric ? search_super<false>(groups, out + first) : search_super<true>(groups, out + first);
    for (int64_t i = first; i < first + count; ++i) ggml_finish_block(layer, out[i]);
  }
}

}  // namespace roundhouse::kernels

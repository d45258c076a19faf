#include "search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

#include "kernels/ggml.h"

// Each group is fitted freely first: a grid of ranges, least squares for the codes of each, and the error of the codes
// chosen anew. Then a super-block's d and dmin and its groups' codes descend in turn on the finished block's error.
//
// The error is a weighted one, Σ square e² + absolute |e|. Its weights add up those by which llama.cpp and auto-round
// search and a plain (importance-weighted) square error, so that the result is good by each of them.

namespace roundhouse::ggml {
namespace {

constexpr int kLanes = 8;
constexpr float kHalfMax = 65504;
// Ranges tried, in codes more than there are: more clip the ends, fewer leave room.
constexpr float kRanges[] = {-1.0f, -0.9f, -0.8f, -0.7f, -0.6f, -0.5f, -0.4f, -0.3f, -0.2f, -0.1f, 0.0f,
                             0.1f,  0.2f,  0.3f,  0.4f,  0.5f,  0.6f,  0.7f,  0.8f,  0.9f,  1.0f,  1.1f,
                             1.2f,  1.4f,  1.6f,  1.8f,  2.1f,  2.4f,  2.7f,  3.1f,  3.5f,  4.0f,  4.5f};
constexpr int kStarts = 2 * static_cast<int>(std::size(kRanges));
constexpr int kRefinements = 4;  // of a group's best, at most
constexpr int kRounds = 8;       // of a super-block's descent, at most
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));

KERNEL_FN Lanes load(const float* p) {
  Lanes v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
KERNEL_FN Lanes splat(float x) { return Lanes{x, x, x, x, x, x, x, x}; }
KERNEL_FN Lanes magnitude(const Lanes& v) { return v < 0 ? -v : v; }
KERNEL_FN float sum(const Lanes& v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

KERNEL_FN float round_half(float x) {
  return kernels::round_to<kernels::Element::kF16>(std::min(std::max(x, -kHalfMax), kHalfMax));
}

struct Codes {
  float low, high;
};

// The codes of x, for which scale * code - minimum is nearest. |codes| are small, so adding 1.5 * 2^23 rounds.
KERNEL_FN Lanes codes_of(const Lanes& shifted, float inverse, Codes codes) {
  Lanes t = shifted * inverse;
  t = t < codes.low ? splat(codes.low) : t;
  t = t > codes.high ? splat(codes.high) : t;
  return (t + 0x1.8p23f) - 0x1.8p23f;
}

struct Group {
  const float *x, *square, *absolute;  // absolute: nullptr for none
  const float* fit;                    // weights of least squares: square, or what stands for absolute
  float weight, weighted_x;            // Σ fit, Σ fit x
};

// Sums over a group, weighted by fit, of its codes.
struct Moments {
  float q, qq, qx;
};

struct Fit {
  float scale = 0, minimum = 0, error = 0;
};

// Of groups of N columns; with a minimum or without.
template <int N, bool kMinimum>
struct Kernel {
  static constexpr int kSigns = kMinimum ? 1 : 2;
  KERNEL_FN float error(const Group& g, Codes codes, float scale, float minimum) {
    const float inverse = scale == 0 ? 0 : 1 / scale;
    Lanes total{};
    for (int j = 0; j < N; j += kLanes) {
      Lanes x = load(g.x + j);
      if constexpr (kMinimum) x += minimum;
      const Lanes e = codes_of(x, inverse, codes) * scale - x;
      total += load(g.square + j) * (e * e);
      if (g.absolute) total += load(g.absolute + j) * magnitude(e);
    }
    return sum(total);
  }

  KERNEL_FN Moments moments(const Group& g, Codes codes, float scale, float minimum) {
    const float inverse = scale == 0 ? 0 : 1 / scale;
    Lanes q_sum{}, qq{}, qx{};
    for (int j = 0; j < N; j += kLanes) {
      const Lanes x = load(g.x + j);
      const Lanes q = codes_of(kMinimum ? x + minimum : x, inverse, codes);
      const Lanes wq = load(g.fit + j) * q;
      q_sum += wq;
      qq += wq * q;
      qx += wq * x;
    }
    return {sum(q_sum), sum(qq), sum(qx)};
  }

  // The mean minimum for the codes that (scale, minimum) gives.
  KERNEL_FN float best_minimum(const Group& g, Codes codes, float scale, float minimum) {
    return (scale * moments(g, codes, scale, minimum).q - g.weighted_x) / g.weight;
  }

  // Least squares for the codes of (scale, minimum); whether it lowered the error of `best`.
  KERNEL_FN bool improve(const Group& g, Codes codes, bool any_minimum, float scale, float minimum, Fit& best) {
    const Moments m = moments(g, codes, scale, minimum);
    Fit fit{m.qx / m.qq, 0, 0};
    if constexpr (kMinimum) {
      const float determinant = g.weight * m.qq - m.q * m.q;
      const float free_minimum = (m.q * m.qx - m.qq * g.weighted_x) / determinant;
      if (determinant > 1e-6f * g.weight * m.qq && (any_minimum || free_minimum > 0))
        fit = {(g.weight * m.qx - g.weighted_x * m.q) / determinant, free_minimum, 0};
      if (!(fit.scale > 0)) return false;
    }
    if (!std::isfinite(fit.scale)) return false;
    fit.error = error(g, codes, fit.scale, fit.minimum);
    if (!(fit.error < best.error)) return false;
    best = fit;
    return true;
  }

  // The best scale and minimum, unrounded. Without a minimum: the best scale of each sign.
  KERNEL_FN void search(const Group& g, Codes codes, bool any_minimum, Fit (&best)[kSigns]) {
    float low = g.x[0], high = g.x[0];
    for (int j = 1; j < N; ++j) {
      low = std::min(low, g.x[j]);
      high = std::max(high, g.x[j]);
    }
    if (kMinimum && !any_minimum) low = std::min(low, 0.0f);
    const float nothing = error(g, codes, 0, kMinimum ? -low : 0);
    for (Fit& fit : best) fit = {0, kMinimum ? -low : 0, nothing};
    const float extreme = high > -low ? high : low;
    bool improves[2] = {true, true};
    for (int k = 0; k < kStarts + 2 * kRefinements; ++k) {
      Fit& fit = best[k % kSigns];
      float scale = fit.scale, minimum = fit.minimum;
      if (k >= kStarts) {
        // Once more with the codes of the best.
        if (!improves[k % kSigns]) continue;
      } else if constexpr (kMinimum) {
        // A range of about the group's size, with the same lower end or the same upper one.
        scale = (high - low) / (codes.high + kRanges[k / 2]);
        minimum = k % 2 ? codes.high * scale - high : -low;
      } else {
        // The largest element on about the lowest code or the highest.
        scale = extreme / (k % 2 ? codes.high + kRanges[k / 2] : codes.low - kRanges[k / 2]);
      }
      const bool improved = improve(g, codes, any_minimum, scale, minimum, fit);
      if (k >= kStarts) improves[k % kSigns] = improved;
    }
    if (kSigns == 2 && best[1 % kSigns].error < best[0].error) std::swap(best[0], best[1 % kSigns]);
  }
};

struct BlockFit {
  float d = 0, dmin = 0, error = 0;
  float scale_code[kernels::kMostGroups] = {}, minimum_code[kernels::kMostGroups] = {};
};

template <int N, bool kMinimum>
struct BlockSearch {
  using K = Kernel<N, kMinimum>;

  Group groups[kernels::kMostGroups];
  int count;
  Codes codes, scale_codes;
  // Filled by run().
  Fit fits[kernels::kMostGroups][K::kSigns];
  float mean_code[kernels::kMostGroups];

  KERNEL_FN float clamp_code(Codes range, float x) {
    return std::min(std::max(kernels::round_even(x), range.low), range.high);
  }

  // The best codes of group i for d and dmin, at most `reach` from the nearest to the unrounded scale; their error.
  KERNEL_LANES float choose(int i, int reach, BlockFit& fit) const {
    const Group& g = groups[i];
    float best = HUGE_VALF;
    for (const Fit& free : fits[i]) {
      const float center = fit.d == 0 ? 0 : clamp_code(scale_codes, free.scale / fit.d);
      const float last = std::min(center + reach, scale_codes.high);
      for (float code = std::max(center - reach, scale_codes.low); code <= last; ++code) {
        const float scale = fit.d * code;
        float below = 0;
        if constexpr (kMinimum) {
          // As the scale grows, the middle of the range stays.
          const float middle = free.minimum + (scale - free.scale) * mean_code[i];
          if (fit.dmin != 0) below = std::floor(K::best_minimum(g, codes, scale, middle) / fit.dmin);
        }
        for (int up = 0; up < (kMinimum ? 2 : 1); ++up) {
          const float minimum_code = std::min(std::max(below + up, 0.0f), scale_codes.high);
          const float error = K::error(g, codes, scale, fit.dmin * minimum_code);
          if (!(error < best)) continue;
          best = error;
          fit.scale_code[i] = code;
          fit.minimum_code[i] = minimum_code;
        }
      }
    }
    return best;
  }

  KERNEL_LANES void choose_all(int reach, BlockFit& fit) const {
    fit.error = 0;
    for (int i = 0; i < count; ++i) fit.error += choose(i, reach, fit);
  }

  // d and dmin of least squares for the elements' codes.
  KERNEL_LANES void refit(BlockFit& fit) const {
    double ss = 0, sm = 0, mm = 0, sx = 0, mx = 0;
    for (int i = 0; i < count; ++i) {
      const double s = fit.scale_code[i], m = fit.minimum_code[i];
      const Moments sums = K::moments(groups[i], codes, fit.d * fit.scale_code[i], fit.dmin * fit.minimum_code[i]);
      ss += s * s * sums.qq;
      sx += s * sums.qx;
      sm += s * m * sums.q;
      mm += m * m * groups[i].weight;
      mx += m * groups[i].weighted_x;
    }
    const double determinant = ss * mm - sm * sm;
    if (determinant > 1e-9 * ss * mm) fit.dmin = round_half(static_cast<float>((sx * sm - ss * mx) / determinant));
    if (fit.dmin < 0) fit.dmin = 0;
    if (ss > 0) fit.d = round_half(static_cast<float>((sx + sm * fit.dmin) / ss));
    if (kMinimum && fit.d < 0) fit.d = 0;
    if (mm > 0) fit.dmin = std::max(0.0f, round_half(static_cast<float>((sm * fit.d - mx) / mm)));
  }

  KERNEL_LANES BlockFit run() {
    float largest = 0, largest_minimum = 0;
    for (int i = 0; i < count; ++i) {
      K::search(groups[i], codes, false, fits[i]);
      const Fit& free = fits[i][0];
      if (kMinimum) mean_code[i] = K::moments(groups[i], codes, free.scale, free.minimum).q / groups[i].weight;
      largest = std::max(largest, std::fabs(free.scale));
      largest_minimum = std::max(largest_minimum, free.minimum);
    }
    // d for which the largest scale takes one of the upper codes; or, of a group that few elements dominate, none. Then
    // around the best.
    const float extreme = kMinimum ? scale_codes.high : -scale_codes.low;
    const float first = kMinimum ? 1.01f : 1.4f, step = kMinimum ? 0.01f : 0.02f;
    const int coarse = kMinimum ? 12 : 32, fine = 6;
    BlockFit best;
    best.error = HUGE_VALF;
    float center = 0;
    for (int k = 0; k <= coarse + 2 * fine; ++k) {
      if (k == coarse) center = best.d;
      BlockFit fit;
      fit.d = round_half(k < coarse ? largest / (extreme * (first - step * k))
                                    : center * (1 + 0.15f * step * (k - coarse - fine)));
      fit.dmin = round_half(largest_minimum / scale_codes.high);
      choose_all(0, fit);
      if (fit.error < best.error) best = fit;
    }
    for (int i = 0; i < kRounds; ++i) {
      BlockFit fit = best;
      if (i > 0) refit(fit);
      choose_all(1, fit);
      if (fit.error < best.error)
        best = fit;
      else if (i > 0)
        break;
    }
    return best;
  }
};

// A block that is one group, its scale and minimum in f16.
template <int N, bool kMinimum>
KERNEL_FN Fit search_simple(const Group& g, Codes codes) {
  using K = Kernel<N, kMinimum>;
  Fit fits[K::kSigns];
  K::search(g, codes, true, fits);
  const Fit& free = fits[0];
  Fit best{0, kMinimum ? round_half(free.minimum) : 0, 0};
  best.error = K::error(g, codes, 0, best.minimum);
  const uint16_t bits = kernels::half_from_float(std::min(std::max(free.scale, -kHalfMax), kHalfMax));
  for (int k = -3; k <= 3; ++k) {
    const uint16_t near = static_cast<uint16_t>(bits + k);
    if (((near ^ bits) & 0x8000) || (near & 0x7fff) > 0x7bff) continue;
    Fit fit{kernels::float_from_half(near), 0, 0};
    if constexpr (kMinimum) fit.minimum = round_half(K::best_minimum(g, codes, fit.scale, free.minimum));
    fit.error = K::error(g, codes, fit.scale, fit.minimum);
    if (fit.error < best.error) best = fit;
  }
  return best;
}

// Σ x² / n.
KERNEL_FN float mean_square(const float* x, int64_t n) {
  float total = 0;
  for (int64_t j = 0; j < n; ++j) total += x[j] * x[j];
  return total / n;
}

struct Weights {
  float square[kernels::kMostBlockCols], absolute[kernels::kMostBlockCols], fit[kernels::kMostBlockCols];
  bool has_absolute;
};

// The weights of a block's errors; importance with no zeros, or nullptr. All are near 1 in magnitude.
KERNEL_FN void block_weights(BlockType type, const BlockFacts& facts, const float* x, float variance,
                             const float* importance, float row_mean_square, Weights& out) {
  const int n = facts.block_cols;
  const float inverse = 1 / std::sqrt(variance);
  out.has_absolute = !importance && type == BlockType::kQ2_K;
  if (importance) {
    float largest = 0;
    for (int j = 0; j < n; ++j) largest = std::max(largest, importance[j]);
    const bool plain = type == BlockType::kQ6_K || type == BlockType::kQ8_0;
    const float spread = facts.super_bits == 0 ? row_mean_square : type == BlockType::kQ2_K ? variance : 2 * variance;
    const float share = type == BlockType::kQ3_K ? 0.75f : 0.15f;
    for (int j = 0; j < n; ++j) {
      const float relative = importance[j] / largest;
      out.square[j] = plain ? relative : relative * (std::sqrt(spread + x[j] * x[j]) / std::sqrt(spread) + share);
    }
    return;
  }
  for (int i = 0; i < n; i += facts.group_cols) {
    const float deviation = std::sqrt(mean_square(x + i, facts.group_cols));
    for (int j = i; j < i + facts.group_cols; ++j) {
      const float relative = std::fabs(x[j]) * inverse;
      switch (type) {
        case BlockType::kQ2_K:
          out.square[j] = 0.2f;
          out.absolute[j] = std::fabs(x[j]);
          out.fit[j] = relative + 0.2f;
          break;
        case BlockType::kQ3_K:
        case BlockType::kQ6_K:
          out.square[j] = relative * relative + 0.7f;
          break;
        case BlockType::kQ4_K:
        case BlockType::kQ5_K:
          out.square[j] = relative + deviation * inverse + 1;
          break;
        default:
          out.square[j] = 1;
      }
    }
  }
}

template <int N, bool kMinimum>
KERNEL_FN void search_rows(BlockType type, const float* w, int64_t cols, const float* importance, SearchedRow& out) {
  const BlockFacts& f = facts(type);
  const int count = f.groups();
  const float levels = static_cast<float>(1 << f.bits), half = levels / 2;
  const float row_mean_square = mean_square(w, cols);
  Weights weights;
  BlockSearch<N, kMinimum> search;
  search.count = count;
  search.codes = kMinimum ? Codes{0, levels - 1} : Codes{-half, half - 1};
  if (type == BlockType::kQ8_0) search.codes.low = -search.codes.high;
  const float scale_levels = static_cast<float>(1 << f.super_bits);
  search.scale_codes = kMinimum ? Codes{0, scale_levels - 1} : Codes{-scale_levels / 2, scale_levels / 2 - 1};
  for (int64_t block = 0; block < cols / f.block_cols; ++block) {
    const float* x = w + block * f.block_cols;
    const float variance = mean_square(x, f.block_cols);
    if (!(variance > 0)) continue;  // zeros
    block_weights(type, f, x, variance, importance ? importance + block * f.block_cols : nullptr, row_mean_square,
                  weights);
    for (int i = 0; i < count; ++i) {
      Group& g = search.groups[i];
      const int at = i * N;
      g = {x + at,
           weights.square + at,
           weights.has_absolute ? weights.absolute + at : nullptr,
           (weights.has_absolute ? weights.fit : weights.square) + at,
           0,
           0};
      Lanes total{}, total_x{};
      for (int j = 0; j < N; j += kLanes) {
        total += load(g.fit + j);
        total_x += load(g.fit + j) * load(g.x + j);
      }
      g.weight = sum(total);
      g.weighted_x = sum(total_x);
    }
    if (f.super_bits == 0) {
      const Fit fit = search_simple<N, kMinimum>(search.groups[0], search.codes);
      out.d[block] = out.scale[block] = type == BlockType::kQ8_0 ? std::fabs(fit.scale) : fit.scale;
      if (kMinimum) out.dmin[block] = out.minimum[block] = fit.minimum;
      continue;
    }
    const BlockFit fit = search.run();
    out.d[block] = fit.d;
    if (kMinimum) out.dmin[block] = fit.dmin;
    for (int i = 0; i < count; ++i) {
      const int64_t group = block * count + i;
      out.scale_code[group] = static_cast<int8_t>(fit.scale_code[i]);
      out.scale[group] = fit.d * fit.scale_code[i];
      if (!kMinimum) continue;
      out.minimum_code[group] = static_cast<uint8_t>(fit.minimum_code[i]);
      out.minimum[group] = fit.dmin * fit.minimum_code[i];
    }
  }
}

}  // namespace

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target_clones("avx2", "default")))
#endif
static void
search_dispatch(BlockType type, const float* w, int64_t cols, const float* importance, SearchedRow& out) {
  const BlockFacts& f = facts(type);
  if (f.group_cols == 16)
    f.symmetric ? search_rows<16, false>(type, w, cols, importance, out)
                : search_rows<16, true>(type, w, cols, importance, out);
  else
    f.symmetric ? search_rows<32, false>(type, w, cols, importance, out)
                : search_rows<32, true>(type, w, cols, importance, out);
}

void search_row(BlockType type, const float* w, int64_t cols, const float* importance, SearchedRow& out) {
  const BlockFacts& f = facts(type);
  const size_t groups = cols / f.group_cols, blocks = cols / f.block_cols;
  out.scale.assign(groups, 0);
  out.minimum.assign(f.symmetric ? 0 : groups, 0);
  out.d.assign(blocks, 0);
  out.dmin.assign(f.symmetric ? 0 : blocks, 0);
  out.scale_code.assign(f.super_bits == 0 ? 0 : groups, 0);
  out.minimum_code.assign(f.super_bits == 0 || f.symmetric ? 0 : groups, 0);
  std::vector<float> positive;
  if (importance && *std::min_element(importance, importance + cols) == 0) {
    positive.assign(importance, importance + cols);
    float least = HUGE_VALF;
    for (float x : positive)
      if (x > 0) least = std::min(least, x);
    std::replace(positive.begin(), positive.end(), 0.0f, least);
    importance = std::isfinite(least) ? positive.data() : nullptr;
  }
  search_dispatch(type, w, cols, importance, out);
}

}  // namespace roundhouse::ggml

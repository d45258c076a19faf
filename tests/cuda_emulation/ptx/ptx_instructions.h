// SPDX-License-Identifier: Apache-2.0
// What translated PTX is made of: the instructions, with a GPU's results where they differ from the CPU's (NaN, float to
// integer conversion, minimum and maximum).
#pragma once

#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/floats.h"
#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/scheduler.h"

namespace cuda_emulation::ptx {

// A kernel by its name in the module. Its parameters lie in one piece of memory.
struct Parameter {
  size_t offset, bytes;
};
struct Kernel {
  void (*run)(const unsigned char* parameters);
  size_t bytes;
  std::vector<Parameter> parameters;
};
// NULL when there is none.
const Kernel* find_kernel(const char* name);

struct Registered {
  Registered(const char* name, void (*run)(const unsigned char*), size_t bytes, std::vector<Parameter> parameters);
};

// Counts the instructions of a straight piece of a kernel, names with blanks between them, for the running thread.
inline bool counting = false;
void count_piece(const char* operations);
inline void count(const char* operations) {
  if (counting) count_piece(operations);
}
// How often warps issued each instruction since the last call: a piece as often as the lane that ran it most.
std::map<std::string, uint64_t> take_counts();

// The running block's memory, which it finds unwritten. PTX addresses it from 0.
uint64_t shared_memory(size_t bytes);

enum class Space { kDevice, kOther };  // global and shared memory, or a thread's own

inline void check_load(Space space, uint64_t address, size_t bytes) {
  if (space == Space::kDevice) cuda_emulation::check_load(reinterpret_cast<const void*>(address), bytes);
}
inline void check_store(Space space, uint64_t address, size_t bytes) {
  if (space == Space::kDevice) cuda_emulation::check_store(reinterpret_cast<void*>(address), bytes);
}
// Races with nothing but plain loads and stores, which the kernels do not have at such a place.
inline void or_atomically(uint64_t address, uint32_t bits) {
  auto* const at = reinterpret_cast<uint32_t*>(address);
  if (address % sizeof bits != 0 || !holds(at, sizeof bits)) fail("an atomic outside of device memory, or misaligned");
  *at |= bits;
}
template <typename T>
T load(uint64_t address) {
  T value;
  std::memcpy(&value, reinterpret_cast<const void*>(address), sizeof value);
  return value;
}
template <typename T>
void store(uint64_t address, T value) {
  std::memcpy(reinterpret_cast<void*>(address), &value, sizeof value);
}

// ---- types ----

struct f32 {
  using Bits = uint32_t;
  using Number = float;
  static constexpr Bits kNan = 0x7fffffffu, kSign = 0x80000000u;
};
struct f64 {
  using Bits = uint64_t;
  using Number = double;
  static constexpr Bits kNan = 0x7fffffffffffffffull, kSign = 0x8000000000000000ull;
};
// Of 16 bits; only converted.
struct f16 {
  using Bits = uint16_t;
  static constexpr Bits kNan = 0x7fffu;
  static float number(Bits bits) { return roundhouse::kernels::float_from_half(bits); }
  static Bits bits(float x) { return roundhouse::kernels::half_from_float(x); }
};
struct bf16 {
  using Bits = uint16_t;
  static constexpr Bits kNan = 0x7fffu;
  static float number(Bits bits) { return roundhouse::kernels::float_from_bfloat(bits); }
  static Bits bits(float x) { return roundhouse::kernels::bfloat_from_float(x); }
};
template <typename T>
struct Integer {
  using Bits = std::make_unsigned_t<T>;
  using Number = T;
};
using s8 = Integer<int8_t>;
using s16 = Integer<int16_t>;
using s32 = Integer<int32_t>;
using s64 = Integer<int64_t>;
using u8 = Integer<uint8_t>;
using u16 = Integer<uint16_t>;
using u32 = Integer<uint32_t>;
using u64 = Integer<uint64_t>;

template <typename F>
typename F::Number number(typename F::Bits bits) {
  typename F::Number x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
// Every NaN that arithmetic makes is the same.
template <typename F>
typename F::Bits result(typename F::Number x) {
  if (x != x) return F::kNan;
  typename F::Bits bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// ---- floating point ----

template <typename F>
auto add_rn(typename F::Bits a, typename F::Bits b) {
  return result<F>(number<F>(a) + number<F>(b));
}
template <typename F>
auto sub_rn(typename F::Bits a, typename F::Bits b) {
  return result<F>(number<F>(a) - number<F>(b));
}
template <typename F>
auto mul_rn(typename F::Bits a, typename F::Bits b) {
  return result<F>(number<F>(a) * number<F>(b));
}
template <typename F>
auto div_rn(typename F::Bits a, typename F::Bits b) {
  return result<F>(number<F>(a) / number<F>(b));
}
template <typename F>
auto fma_rn(typename F::Bits a, typename F::Bits b, typename F::Bits c) {
  return result<F>(std::fma(number<F>(a), number<F>(b), number<F>(c)));
}
// Rounded down.
template <typename F>
auto fma_rm(typename F::Bits a, typename F::Bits b, typename F::Bits c) {
  volatile typename F::Number x = number<F>(a), y = number<F>(b), z = number<F>(c), sum;
  const int mode = std::fegetround();
  std::fesetround(FE_DOWNWARD);
  sum = std::fma(x, y, z);
  std::fesetround(mode);
  return result<F>(sum);
}
// 2^x, within the last bit or two of a GPU's; denormal numbers are 0.
template <typename F>
auto ex2_approx_ftz(typename F::Bits x) {
  const auto flushed = [](typename F::Number y) {
    return std::fpclassify(y) == FP_SUBNORMAL ? std::copysign(y * 0, y) : y;
  };
  return result<F>(flushed(std::exp2(flushed(number<F>(x)))));
}
template <typename F>
auto rcp_rn(typename F::Bits x) {
  return result<F>(1 / number<F>(x));
}
template <typename F>
auto sqrt_rn(typename F::Bits x) {
  return result<F>(std::sqrt(number<F>(x)));
}

template <typename T>
constexpr bool is_real = std::is_same_v<T, f32> || std::is_same_v<T, f64>;

// The number when the other is NaN; +0 is above -0.
template <typename F, std::enable_if_t<is_real<F>, int> = 0>
auto min(typename F::Bits a, typename F::Bits b) {
  const auto x = number<F>(a), y = number<F>(b);
  if (x != x) return y != y ? F::kNan : b;
  if (y != y) return a;
  if (x == y) return a & F::kSign ? a : b;
  return x < y ? a : b;
}
template <typename F, std::enable_if_t<is_real<F>, int> = 0>
auto max(typename F::Bits a, typename F::Bits b) {
  const auto x = number<F>(a), y = number<F>(b);
  if (x != x) return y != y ? F::kNan : b;
  if (y != y) return a;
  if (x == y) return a & F::kSign ? b : a;
  return x > y ? a : b;
}
template <typename F, std::enable_if_t<is_real<F>, int> = 0>
auto neg(typename F::Bits x) {
  return x ^ F::kSign;
}
template <typename F, std::enable_if_t<is_real<F>, int> = 0>
auto abs(typename F::Bits x) {
  return x & ~F::kSign;
}
template <typename F>
auto copysign(typename F::Bits sign, typename F::Bits x) {
  return (x & ~F::kSign) | (sign & F::kSign);
}

// ---- integers ----

template <typename T>
constexpr bool is_integer = std::is_integral_v<T>;
// Wraps around.
template <typename T>
using Wrapping = std::make_unsigned_t<std::conditional_t<(sizeof(T) < 4), uint32_t, T>>;

template <typename T>
T add(T a, T b) {
  return static_cast<T>(Wrapping<T>(a) + Wrapping<T>(b));
}
template <typename T>
T sub(T a, T b) {
  return static_cast<T>(Wrapping<T>(a) - Wrapping<T>(b));
}
template <typename T>
T mul_lo(T a, T b) {
  return static_cast<T>(Wrapping<T>(a) * Wrapping<T>(b));
}
template <typename T>
auto mul_wide(T a, T b) {
  using Wide = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
  return static_cast<Wide>(a) * static_cast<Wide>(b);
}
template <typename T>
T mad_lo(T a, T b, T c) {
  return add<T>(mul_lo<T>(a, b), c);
}
template <typename T>
T div(T a, T b) {
  if (b == 0) fail("division of an integer by zero");
  return static_cast<T>(a / b);
}
template <typename T>
T rem(T a, T b) {
  if (b == 0) fail("division of an integer by zero");
  return static_cast<T>(a % b);
}
template <typename T, std::enable_if_t<is_integer<T>, int> = 0>
T min(T a, T b) {
  return a < b ? a : b;
}
template <typename T, std::enable_if_t<is_integer<T>, int> = 0>
T max(T a, T b) {
  return a > b ? a : b;
}
template <typename T, std::enable_if_t<is_integer<T>, int> = 0>
T neg(T x) {
  return static_cast<T>(-Wrapping<T>(x));
}
template <typename T, std::enable_if_t<is_integer<T>, int> = 0>
T abs(T x) {
  return x < 0 ? neg<T>(x) : x;
}
template <typename T>
T and_(T a, T b) {
  return static_cast<T>(a & b);
}
template <typename T>
T or_(T a, T b) {
  return static_cast<T>(a | b);
}
template <typename T>
T xor_(T a, T b) {
  return static_cast<T>(a ^ b);
}
template <typename T>
T not_(T x) {
  return static_cast<T>(~x);
}
// Shifts by the width or more give zeros, or signs.
template <typename T>
T shl(T x, uint32_t by) {
  return by >= 8 * sizeof(T) ? T(0) : static_cast<T>(Wrapping<T>(x) << by);
}
template <typename T>
T shr(T x, uint32_t by) {
  constexpr uint32_t kBits = 8 * sizeof(T);
  if (by >= kBits) return std::is_signed_v<T> && x < 0 ? static_cast<T>(-1) : T(0);
  return static_cast<T>(x >> by);
}
template <typename T>
T bfi(T a, T b, uint32_t position, uint32_t length) {
  position &= 255;
  length &= 255;
  T out = b;
  for (uint32_t i = 0; i < length && position + i < 8 * sizeof(T); ++i) {
    const T bit = T(1) << (position + i);
    out = (a >> i & 1) ? out | bit : out & ~bit;
  }
  return out;
}

inline bool and_pred(bool a, bool b) { return a && b; }
inline bool or_pred(bool a, bool b) { return a || b; }
inline bool xor_pred(bool a, bool b) { return a != b; }
inline bool not_pred(bool x) { return !x; }

// ---- comparisons: of numbers, and as their names say also true with a NaN (the ones with a u) ----

template <typename T>
auto compared(std::conditional_t<is_real<T>, uint64_t, T> x) {
  if constexpr (is_real<T>)
    return number<T>(static_cast<typename T::Bits>(x));
  else
    return x;
}
template <typename T>
using Operand = std::conditional_t<is_real<T>, uint64_t, T>;

#define PTX_COMPARE(name, expression)                  \
  template <typename T>                                \
  bool compare_##name(Operand<T> a, Operand<T> b) {    \
    const auto x = compared<T>(a), y = compared<T>(b); \
    return expression;                                 \
  }
PTX_COMPARE(eq, x == y)
PTX_COMPARE(lt, x < y)
PTX_COMPARE(le, x <= y)
PTX_COMPARE(gt, x > y)
PTX_COMPARE(ge, x >= y)
PTX_COMPARE(equ, !(x < y) && !(x > y))
PTX_COMPARE(ltu, !(x >= y))
PTX_COMPARE(leu, !(x > y))
PTX_COMPARE(gtu, !(x <= y))
PTX_COMPARE(geu, !(x < y))
PTX_COMPARE(neu, !(x == y))
PTX_COMPARE(num, x == x && y == y)
PTX_COMPARE(nan, x != x || y != y)
#undef PTX_COMPARE

// Of floats, false with a NaN.
template <typename T>
bool compare_ne(Operand<T> a, Operand<T> b) {
  const auto x = compared<T>(a), y = compared<T>(b);
  return x == x && y == y && x != y;
}

// ---- conversions ----

enum class Rounding { plain, rn, rzi, rni, rmi, rpi, sat };

template <typename T>
constexpr bool is_half = std::is_same_v<T, f16> || std::is_same_v<T, bf16>;

template <typename To, typename From>
typename To::Bits convert(Rounding rounding, uint64_t bits) {
  if constexpr (is_half<From>) {
    return result<To>(From::number(static_cast<uint16_t>(bits)));
  } else if constexpr (is_half<To>) {
    const float x = number<From>(static_cast<typename From::Bits>(bits));
    return x != x ? To::kNan : To::bits(x);
  } else if constexpr (is_real<From>) {
    typename From::Number x = number<From>(static_cast<typename From::Bits>(bits));
    if (rounding == Rounding::rzi) x = std::trunc(x);
    if (rounding == Rounding::rni) x = std::nearbyint(x);
    if (rounding == Rounding::rmi) x = std::floor(x);
    if (rounding == Rounding::rpi) x = std::ceil(x);
    if (rounding == Rounding::sat) x = x > 0 ? std::min<typename From::Number>(x, 1) : 0;  // NaN is 0
    if constexpr (is_real<To>) {
      return result<To>(static_cast<typename To::Number>(x));
    } else {
      using Out = typename To::Number;
      if (x != x)
        return sizeof(Out) == 8 || std::is_same_v<From, f64> ? typename To::Bits(1) << (8 * sizeof(Out) - 1) : 0;
      // Saturates. 2^bits is a float, the largest integer need not be.
      const auto beyond = std::ldexp(typename From::Number(1), 8 * sizeof(Out) - std::is_signed_v<Out>);
      if (x >= beyond) return static_cast<typename To::Bits>(std::numeric_limits<Out>::max());
      if (x < static_cast<typename From::Number>(std::numeric_limits<Out>::min()))
        return static_cast<typename To::Bits>(std::numeric_limits<Out>::min());
      return static_cast<typename To::Bits>(static_cast<Out>(x));
    }
  } else {
    const auto x = static_cast<typename From::Number>(bits);
    if constexpr (is_real<To>)
      return result<To>(static_cast<typename To::Number>(x));
    else
      return static_cast<typename To::Bits>(static_cast<typename To::Number>(x));
  }
}

}  // namespace cuda_emulation::ptx

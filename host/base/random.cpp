// SPDX-License-Identifier: Apache-2.0
#include "host/base/random.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <sstream>

namespace roundhouse {
namespace {

// A seed sequence that hands std::mt19937 the state of init_by_array from its authors' mt19937ar.c (Matsumoto and
// Nishimura, 2002), which CPython uses; std::seed_seq mixes differently.
struct InitByArray {
  using result_type = uint32_t;
  uint64_t seed;

  template <typename Iterator>
  void generate(Iterator state, Iterator end) const {
    const size_t words = static_cast<size_t>(end - state);
    // An integer seed is an array of 32-bit words, the least significant first, without a leading zero word.
    const uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    const size_t key_length = key[1] == 0 ? 1 : 2;

    uint32_t previous = state[0] = 19650218u;
    const auto mixed = [&] { return previous ^ (previous >> 30); };
    for (size_t i = 1; i < words; ++i) previous = state[i] = 1812433253u * mixed() + static_cast<uint32_t>(i);

    size_t i = 1;
    previous = state[0];
    const auto store = [&](uint32_t value) {
      previous = state[i] = value;
      if (++i == words) {
        state[0] = value;
        i = 1;
      }
    };
    for (size_t k = 0; k < words; ++k) {
      const size_t j = k % key_length;
      store((state[i] ^ (mixed() * 1664525u)) + key[j] + static_cast<uint32_t>(j));
    }
    for (size_t k = 1; k < words; ++k) store((state[i] ^ (mixed() * 1566083941u)) - static_cast<uint32_t>(i));
    state[0] = 0x80000000u;
  }
};

std::mt19937 seeded(uint64_t seed) {
  InitByArray sequence{seed};
  return std::mt19937(sequence);
}

}  // namespace

PythonRandom::PythonRandom(uint64_t seed) : engine_(seeded(seed)) {}

std::string PythonRandom::state() const {
  std::ostringstream out;
  out << engine_;
  return out.str();
}

void PythonRandom::restore(const std::string& state) { std::istringstream(state) >> engine_; }

uint64_t PythonRandom::getrandbits(int bits) {
  assert(bits >= 1 && bits <= 64);
  uint64_t value = 0;
  for (int shift = 0; shift < bits; shift += 32) {  // the least significant word comes first
    const int dropped = std::max(0, 32 - (bits - shift));
    value |= static_cast<uint64_t>(engine_() >> dropped) << shift;
  }
  return value;
}

uint64_t PythonRandom::randbelow(uint64_t n) {
  assert(n > 0);
  const int bits = std::bit_width(n);
  uint64_t value = getrandbits(bits);
  while (value >= n) value = getrandbits(bits);
  return value;
}

}  // namespace roundhouse

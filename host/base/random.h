// SPDX-License-Identifier: Apache-2.0
// CPython's random.Random for an integer seed: the reference shuffles its calibration data and draws its mini-batches
// with it, so the same seed must give the same order here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>

namespace roundhouse {

// The Mersenne Twister, seeded and read as Modules/_randommodule.c and Lib/random.py of CPython 3 do.
class PythonRandom {
 public:
  explicit PythonRandom(uint64_t seed);

  // Where the stream is, as text, and a stream that is there.
  std::string state() const;
  void restore(const std::string& state);

  // An integer of `bits` random bits. REQUIRES: 1 <= bits <= 64.
  uint64_t getrandbits(int bits);

  // An integer in [0, n), by rejection. REQUIRES: n > 0.
  uint64_t randbelow(uint64_t n);

  // random.shuffle: Fisher-Yates from the back. Items is any random-access container.
  template <typename Items>
  void shuffle(Items& items) {
    using std::swap;
    for (size_t i = items.size(); i-- > 1;) swap(items[i], items[randbelow(i + 1)]);
  }

 private:
  std::mt19937 engine_;
};

}  // namespace roundhouse

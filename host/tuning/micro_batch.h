// How many samples pass a block at once.
#pragma once

#include <c10/util/Exception.h>

#include <cstdint>
#include <string>

namespace roundhouse {

// What a user reads of it: its first sentences, and what to change.
std::string out_of_memory_text(const c10::OutOfMemoryError& failure);

// Becomes smaller, for the rest of a run, when the device runs out of memory.
class MicroBatch {
 public:
  explicit MicroBatch(int64_t samples) : samples_(samples) {}
  int64_t samples() const { return samples_; }

  // Calls body(), and again with half the samples after each c10::OutOfMemoryError, with a warning that begins with
  // `where`. Whatever else a body that throws has changed it must undo. Throws Error when one sample is too much.
  template <typename Body>
  void fit(const std::string& where, const Body& body) {
    while (true) {
      try {
        return body();
      } catch (const c10::OutOfMemoryError& failure) {
        halve(where, failure);
      }
    }
  }

 private:
  void halve(const std::string& where, const c10::OutOfMemoryError& failure);

  int64_t samples_;
};

}  // namespace roundhouse

#include "host/tuning/micro_batch.h"

#include "host/base/error.h"
#include "host/base/log.h"

namespace roundhouse {
namespace {

// libtorch's message goes on with the state of its allocator.
std::string first_sentences(const c10::OutOfMemoryError& failure) {
  const std::string text = failure.what_without_backtrace();
  const size_t first = text.find(". ");
  return text.substr(0, std::min(first == std::string::npos ? first : text.find(". ", first + 1), text.find('\n')));
}

}  // namespace

std::string out_of_memory_text(const c10::OutOfMemoryError& failure) {
  return cat(first_sentences(failure), ". Lower calibration.batch_size or calibration.seqlen, set memory (then the ",
             "calibration activations leave the device), free memory that other programs hold on it, or choose ",
             "another device.");
}

void MicroBatch::halve(const std::string& where, const c10::OutOfMemoryError& failure) {
  if (samples_ == 1) throw Error(cat("one sample at a time is too much for the device: ", out_of_memory_text(failure)));
  log::warning(cat(where, ": out of memory with ", samples_, " samples at a time; from here on ", samples_ / 2, ": ",
                   first_sentences(failure)));
  samples_ /= 2;
}

}  // namespace roundhouse

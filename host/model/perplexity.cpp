// SPDX-License-Identifier: Apache-2.0
#include "host/model/perplexity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "host/base/error.h"
#include "host/model/accelerator.h"
#include "host/model/decoder.h"

namespace roundhouse {
namespace {

constexpr int64_t kBatchTokens = 2048;              // enough rows to keep a matmul busy
constexpr int64_t kHiddenBytes = int64_t{1} << 30;  // of the hidden states of a group of batches
constexpr int64_t kLogits = int64_t{1} << 24;       // elements of logits at once: 64 MiB

// Sequences that run together, padded on the right: causal attention never looks at the padding.
struct Batch {
  std::vector<size_t> sequences;
  int64_t seqlen = 0;
  at::Tensor hidden;  // [sequences, seqlen, hidden]

  int64_t tokens() const { return static_cast<int64_t>(sequences.size()) * seqlen; }
};

// Batches whose hidden states are held at once.
using Group = std::vector<Batch>;

std::vector<Group> make_groups(const std::vector<std::vector<int32_t>>& sequences, const DecoderInfo& info) {
  std::vector<size_t> order;
  for (size_t i = 0; i < sequences.size(); ++i)
    if (sequences[i].size() >= 2) order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sequences[a].size() > sequences[b].size(); });
  const int64_t group_tokens = kHiddenBytes / ((info.hidden + info.passed_on) * static_cast<int64_t>(sizeof(float)));
  std::vector<Group> groups;
  int64_t tokens = 0;  // of the last group
  for (const size_t i : order) {
    const int64_t length = static_cast<int64_t>(sequences[i].size());
    if (groups.empty() || groups.back().back().tokens() + groups.back().back().seqlen > kBatchTokens ||
        !info.same_positions(length, groups.back().back().seqlen)) {
      if (groups.empty() || tokens + kBatchTokens > group_tokens) {
        groups.emplace_back();
        tokens = 0;
      }
      groups.back().push_back({{}, length, {}});
    }
    Batch& batch = groups.back().back();
    batch.sequences.push_back(i);
    tokens += batch.seqlen;
  }
  return groups;
}

at::Tensor padded_ids(const Batch& batch, const std::vector<std::vector<int32_t>>& sequences) {
  at::Tensor ids = at::zeros({static_cast<int64_t>(batch.sequences.size()), batch.seqlen}, at::kLong);
  int64_t* row = ids.data_ptr<int64_t>();
  for (const size_t i : batch.sequences) {
    std::copy(sequences[i].begin(), sequences[i].end(), row);
    row += batch.seqlen;
  }
  return ids;
}

// Adds up each sequence's -log p(token | those before it), and shows log p to the observer. A device that runs ahead
// computes the next positions while these are read.
class Scorer {
 public:
  Scorer(std::vector<double>& losses, const LogProbsObserver& observer) : losses_(losses), observer_(observer) {}

  // log_p: [rows, vocab] of the tokens that follow `first` to `first` + rows - 1. next: [rows], those tokens.
  void add(size_t sequence, int64_t first, const at::Tensor& log_p, const at::Tensor& next) {
    Chunk chunk{sequence, first, begin_copy_to_host(log_p.gather(1, next.unsqueeze(1))),
                observer_ ? begin_copy_to_host(log_p) : at::Tensor(), DeviceEvent(log_p.device())};
    chunk.copied.record();
    finish();
    pending_ = std::move(chunk);
    if (!runs_ahead(log_p.device())) finish();
  }
  void finish() {
    if (!pending_) return;
    Chunk chunk = *std::exchange(pending_, std::nullopt);
    chunk.copied.wait();
    const int64_t rows = chunk.of_next.size(0);
    if (observer_) observer_(chunk.sequence, chunk.first, rows, chunk.log_p.const_data_ptr<float>());
    const float* const of_next = chunk.of_next.const_data_ptr<float>();
    for (int64_t i = 0; i < rows; ++i) losses_[chunk.sequence] -= static_cast<double>(of_next[i]);
  }

 private:
  struct Chunk {
    size_t sequence;
    int64_t first;
    at::Tensor of_next, log_p;  // in host memory
    DeviceEvent copied;
  };
  std::vector<double>& losses_;
  const LogProbsObserver& observer_;
  std::optional<Chunk> pending_;
};

// Runs a group through the decoder.
void run(const Decoder& decoder, const Architecture& architecture, at::Device device, Group& group,
         const std::vector<std::vector<int32_t>>& sequences, Scorer& scorer, const std::function<void()>& after_block) {
  std::map<int64_t, PositionData> positions;
  for (Batch& batch : group) {
    batch.hidden = decoder.embed(padded_ids(batch, sequences));
    if (!positions.contains(batch.seqlen)) positions.emplace(batch.seqlen, decoder.positions(batch.seqlen));
  }
  for (int64_t i = 0; i < architecture.blocks(); ++i) {
    const Block block = decoder.block(i);
    for (Batch& batch : group) batch.hidden = block.forward(batch.hidden, positions.at(batch.seqlen));
    after_block();
  }
  const int64_t step = std::max<int64_t>(1, kLogits / architecture.vocab_size());
  for (Batch& batch : group) {
    const at::Tensor ids = padded_ids(batch, sequences).to(device);
    for (size_t row = 0; row < batch.sequences.size(); ++row) {
      const size_t i = batch.sequences[row];
      const auto at = static_cast<int64_t>(row), scored = static_cast<int64_t>(sequences[i].size()) - 1;
      for (int64_t begin = 0; begin < scored; begin += step) {
        const int64_t rows = std::min(step, scored - begin);
        const at::Tensor logits = decoder.head(batch.hidden[at].narrow(0, begin, rows));
        scorer.add(i, begin, at::log_softmax(logits, -1), ids[at].narrow(0, begin + 1, rows));
      }
    }
    batch.hidden.reset();
  }
}

}  // namespace

Perplexity perplexity(const Architecture& architecture, TensorSource& source,
                      const std::vector<std::vector<int32_t>>& sequences,
                      const std::function<void(int64_t done, int64_t total)>& progress, const InputHook& input_hook,
                      const LogProbsObserver& observer, const std::string& device) {
  const auto start = std::chrono::steady_clock::now();
  const at::NoGradGuard no_grad;
  std::vector<Group> groups = make_groups(sequences, architecture.info());
  if (groups.empty()) throw Error("no sequence has two tokens, so there is nothing to score");

  const OnRunDevice on_device{at::Device(device)};
  Decoder decoder(architecture, source, at::kFloat, at::Device(device));
  decoder.set_input_hook(input_hook);
  const int64_t total = architecture.blocks() * static_cast<int64_t>(groups.size());
  int64_t done = 0;
  std::vector<double> losses(sequences.size(), 0.0);
  Scorer scorer(losses, observer);
  const auto after_block = [&] {
    if (progress) progress(++done, total);
  };
  for (Group& group : groups) run(decoder, architecture, at::Device(device), group, sequences, scorer, after_block);
  scorer.finish();

  Perplexity result;
  for (const auto& sequence : sequences)
    if (!sequence.empty()) result.tokens += static_cast<int64_t>(sequence.size()) - 1;
  result.value = std::exp(std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(result.tokens));
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace roundhouse

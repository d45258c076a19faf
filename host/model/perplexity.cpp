// SPDX-License-Identifier: Apache-2.0
#include "host/model/perplexity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "host/base/error.h"
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
  const int64_t group_tokens = kHiddenBytes / (info.hidden * static_cast<int64_t>(sizeof(float)));
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

// Sum of -log p(token | those before it), without the first token. hidden: [seqlen, hidden], at least `tokens` long.
// observe(first, rows, log_p) gets the rows that it is made of.
template <typename Observe>
double negative_log_likelihood(const Decoder& decoder, const at::Tensor& hidden, const std::vector<int32_t>& tokens,
                               int64_t vocab, const Observe& observe) {
  const int64_t scored = static_cast<int64_t>(tokens.size()) - 1;
  const int64_t step = std::max<int64_t>(1, kLogits / vocab);
  double sum = 0;
  for (int64_t begin = 0; begin < scored; begin += step) {
    const int64_t rows = std::min(step, scored - begin);
    const at::Tensor log_p = at::log_softmax(decoder.head(hidden.narrow(0, begin, rows)), -1);
    observe(begin, rows, log_p.const_data_ptr<float>());
    for (int64_t i = 0; i < rows; ++i)
      sum -= static_cast<double>(log_p.const_data_ptr<float>()[i * vocab + tokens[static_cast<size_t>(begin + i + 1)]]);
  }
  return sum;
}

// Runs a group through the decoder and writes each sequence's loss to `losses`.
void run(const Decoder& decoder, const Architecture& architecture, Group& group,
         const std::vector<std::vector<int32_t>>& sequences, std::vector<double>& losses,
         const std::function<void()>& after_block, const LogProbsObserver& observer) {
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
  for (Batch& batch : group) {
    for (size_t row = 0; row < batch.sequences.size(); ++row) {
      const size_t i = batch.sequences[row];
      losses[i] = negative_log_likelihood(decoder, batch.hidden[static_cast<int64_t>(row)], sequences[i],
                                          architecture.vocab_size(), [&](int64_t first, int64_t rows, const float* p) {
                                            if (observer) observer(i, first, rows, p);
                                          });
    }
    batch.hidden.reset();
  }
}

}  // namespace

Perplexity perplexity(const Architecture& architecture, TensorSource& source,
                      const std::vector<std::vector<int32_t>>& sequences,
                      const std::function<void(int64_t done, int64_t total)>& progress, const InputHook& input_hook,
                      const LogProbsObserver& observer) {
  const auto start = std::chrono::steady_clock::now();
  const at::NoGradGuard no_grad;
  std::vector<Group> groups = make_groups(sequences, architecture.info());
  if (groups.empty()) throw Error("no sequence has two tokens, so there is nothing to score");

  Decoder decoder(architecture, source, at::kFloat, at::kCPU);
  decoder.set_input_hook(input_hook);
  const int64_t total = architecture.blocks() * static_cast<int64_t>(groups.size());
  int64_t done = 0;
  std::vector<double> losses(sequences.size(), 0.0);
  for (Group& group : groups)
    run(
        decoder, architecture, group, sequences, losses,
        [&] {
          if (progress) progress(++done, total);
        },
        observer);

  Perplexity result;
  for (const auto& sequence : sequences)
    if (!sequence.empty()) result.tokens += static_cast<int64_t>(sequence.size()) - 1;
  result.value = std::exp(std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(result.tokens));
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace roundhouse

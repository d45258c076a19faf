// SPDX-License-Identifier: Apache-2.0
#include "host/run/evaluation.h"

#include <algorithm>

#include "host/base/error.h"
#include "host/base/log.h"
#include "host/discovery/open_checkpoint.h"
#include "host/plan/original.h"
#include "host/report/progress.h"
#include "host/text/calibration.h"
#include "host/text/token_pieces.h"
#include "host/tuning/place.h"

namespace roundhouse {

OpenedModel open_model(Catalogue& catalogue, const std::filesystem::path& model, const std::filesystem::path& config,
                       const std::vector<std::filesystem::path>& descriptor_folders) {
  OpenedModel opened{Architecture::load(config, descriptor_folders), nullptr, ""};
  opened.tensors = open_checkpoint(catalogue, model, opened.architecture.facts(), &opened.format);
  for (const std::string& warning : copies_that_differ(*opened.tensors)) log::warning(warning);
  match(opened.architecture, opened.tensors);
  for (const std::string& warning : reconcile(opened.architecture, *opened.tensors)) log::warning(warning);
  return opened;
}

Sequences evaluation_sequences(const std::filesystem::path& data, const ReadOptions& read, const Tokenizer& tokenizer,
                               int seqlen, int64_t rows) {
  Sequences sequences;
  const auto length = static_cast<size_t>(seqlen);
  if (is_plain_text(data)) {
    const std::vector<int32_t> ids = encode_in_parts(read_plain_text(data), tokenizer, true);
    for (size_t begin = 0; begin + 2 <= ids.size(); begin += length)
      sequences.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                             ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), begin + length)));
  } else {
    for (const Text& text : read_texts(data, read)) {
      std::vector<int32_t> ids = encode_in_parts(text.text, tokenizer, !text.templated);
      ids.resize(std::min(ids.size(), length));
      if (ids.size() >= 2) sequences.push_back(std::move(ids));
    }
  }
  if (sequences.empty()) throw Error(cat(data.string(), " has no text of two tokens or more to score"));
  require_rows(sequences, tokenizer, rows, data);
  return sequences;
}

InputQuantization activations_of(const Architecture& architecture, TensorSource& source, Catalogue& catalogue,
                                 const std::string& device) {
  ExportedCheckpoint* const exported = exported_checkpoint(source);
  if (!exported) return {};
  InputQuantization stored = input_quantization(architecture, *exported, catalogue, device);
  if (!stored.problem.empty())
    log::warning(cat(source.location(), ": an engine quantizes the inputs of ", stored.layers,
                     " layers; here it is done in ", stored.applied, " of them. ", stored.problem));
  return stored;
}

Score measure(const std::string& label, const std::string& device, const Architecture& architecture,
              TensorSource& source, const Sequences& sequences, const InputHook& input_hook, LogProbsWriter* save,
              DivergenceMeter* original) {
  Progress progress("evaluating", architecture.blocks());
  LogProbsObserver observer;
  if (save || original)
    observer = [&](size_t sequence, int64_t first, int64_t rows, const float* log_p) {
      if (save) save->write(sequence, first, rows, log_p);
      if (original) original->add(sequence, first, rows, log_p);
    };
  Score score;
  at_place(cat("evaluating ", label), Recipe(), [&] {
    score.perplexity = perplexity(
        architecture, source, sequences, [&](int64_t done, int64_t) { progress.update(done - 1, 1, label); },
        input_hook, observer, device);
  });
  if (save) save->finish();
  if (original) score.divergence = original->take();
  return score;
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/run/texts.h"

#include <algorithm>

#include "host/base/error.h"
#include "host/base/log.h"
#include "host/plan/passes.h"
#include "host/run/evaluation.h"
#include "host/text/calibration.h"

namespace roundhouse {
namespace {

CalibrationRequest request_of(const Calibration& wanted, const ChatTemplates& chat) {
  CalibrationRequest request;
  for (const DataFile& data : wanted.data) request.files.push_back({data.file, data.share.value_or(1)});
  request.samples = static_cast<int>(wanted.samples);
  request.seqlen = static_cast<int>(wanted.seqlen);
  request.seed = static_cast<uint64_t>(wanted.seed);
  request.concatenate = wanted.concatenate;
  request.read = {.field = wanted.field, .chat = &chat};
  return request;
}

}  // namespace

Texts load_texts(const Plan& plan, const Original& original) {
  const Recipe& recipe = plan.recipe;
  const Architecture& architecture = original.architecture;
  const std::filesystem::path& folder = original.files.folder();
  Texts texts;
  if (plan.rounds_only || (recipe.calibration.data.empty() && !recipe.evaluation)) return texts;
  const ChatTemplates chat(folder, recipe.calibration.date);
  const Tokenizer tokenizer = original.files.read([&] { return Tokenizer::load(folder); });
  texts.pad_id = tokenizer.pad_id();
  const CalibrationRequest request = request_of(recipe.calibration, chat);
  if (passes(plan).any() || plan.mix) {
    CalibrationSet set = load_calibration(request, tokenizer);
    if (static_cast<int>(set.samples.size()) < request.samples) log::warning(summary(set, request));
    texts.calibration = std::move(set.samples);
    std::string files;
    for (const CalibrationFile& file : request.files) files += cat(files.empty() ? "" : ", ", file.path.string());
    require_rows(texts.calibration, tokenizer, architecture.vocab_size(), files);
  } else {
    for (const CalibrationFile& file : request.files) read_texts(file.path, request.read);
  }
  if (recipe.evaluation) {
    const ReadOptions read{.field = recipe.evaluation->field, .chat = &chat};
    const int seqlen = static_cast<int>(std::min(recipe.evaluation->seqlen, architecture.max_positions()));
    texts.evaluation =
        evaluation_sequences(recipe.evaluation->data, read, tokenizer, seqlen, architecture.vocab_size());
  }
  return texts;
}

}  // namespace roundhouse

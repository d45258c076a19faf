// SPDX-License-Identifier: Apache-2.0
// Calibration data: texts of local files, tokenised to samples of one length, as the reference picks them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/text/records.h"
#include "host/text/tokenizer.h"

namespace roundhouse {

struct CalibrationFile {
  std::filesystem::path path;
  double share = 1;  // of the samples, in proportion to the shares of the other files
};

struct CalibrationRequest {
  std::vector<CalibrationFile> files;
  int samples = 128;
  int seqlen = 2048;  // tokens a sample
  uint64_t seed = 42;
  bool concatenate = false;
  ReadOptions read = {};
};

struct CalibrationSet {
  std::vector<std::vector<int32_t>> samples;  // each of seqlen ids; at most as many as asked for
  int read = 0;                               // texts in the files
  // Texts passed over. Counted until there are samples enough, so over all texts when there are not.
  int too_short = 0;   // fewer tokens than seqlen
  int repetitive = 0;  // the last token makes up more than half of the sample
  int further = 0;     // samples that are no beginnings of texts
};

// Of each file its share of the samples: the texts, without white space at their ends unless a chat template made
// them, shuffled as CPython's random.Random(seed) does, cut to seqlen tokens; the first that are neither too short nor
// repetitive. With the same seed these are the samples that the reference takes from a local .json or .jsonl, in its
// order. Where they are too few, what follows in texts that are longer is taken, too: of each text its second piece,
// then the third ones. With `concatenate` the shuffled texts, each with the tokenizer's special tokens, or where it has
// none with the end-of-text token behind it, are one row of tokens, cut every seqlen; texts of a .txt are then
// paragraphs. Throws Error when a file gives no sample.
CalibrationSet load_calibration(const CalibrationRequest& request, const Tokenizer& tokenizer);

// Throws Error naming the token when the texts of `data` have one beyond the embedding's `rows`.
void require_rows(const std::vector<std::vector<int32_t>>& texts, const Tokenizer& tokenizer, int64_t rows,
                  const std::filesystem::path& data);

// "96 of 760 usable: 600 too short for seqlen 2048, 64 repetitive", and what that means for the number asked for.
std::string summary(const CalibrationSet& set, const CalibrationRequest& request);

// Which positions of a sample count in the loss (1) and which do not (0): not the last, which predicts nothing; no
// padding; and without a pad token none of the trailing tokens equal to the last.
std::vector<uint8_t> loss_mask(std::span<const int32_t> ids, std::optional<int32_t> pad_id);

}  // namespace roundhouse

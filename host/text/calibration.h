// Calibration data: texts of a local file, tokenised to samples of one length, as the reference picks them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/text/tokenizer.h"

namespace roundhouse {

// The texts of a file, in its order and as they stand there:
//   .txt    one text a line (blank lines are skipped);
//   .jsonl  one JSON record a line (blank lines are skipped);
//   .json   a list of records, or an object whose values are the records.
// A record is a string, an object with one key (of any name), or an object with a "text".
// Throws Error when the file is missing, of another type, holds no text, or has a record without text (naming its line
// or place).
std::vector<std::string> read_texts(const std::filesystem::path& path);

struct CalibrationRequest {
  std::filesystem::path data;
  int samples = 128;
  int seqlen = 2048;  // tokens a sample
  uint64_t seed = 42;
};

struct CalibrationSet {
  std::vector<std::vector<int32_t>> samples;  // each of seqlen ids; at most as many as asked for
  int read = 0;                               // texts in the file
  // Texts passed over. Counted until there are samples enough, so over all texts when there are not.
  int too_short = 0;   // fewer tokens than seqlen
  int repetitive = 0;  // the last token makes up more than half of the sample
};

// The texts, without white space at their ends, shuffled as CPython's random.Random(seed) does, cut to seqlen tokens;
// the first `samples` of them that are neither too short nor repetitive. With the same seed these are the samples that
// the reference takes from a local .json or .jsonl, in its order. Throws Error when there is none.
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

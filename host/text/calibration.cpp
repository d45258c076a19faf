// SPDX-License-Identifier: Apache-2.0
#include "host/text/calibration.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>

#include "host/base/error.h"
#include "host/base/random.h"
#include "host/text/token_pieces.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

// Python's str.isspace: Unicode's white space and the four ASCII separators.
bool is_python_space(char32_t c) { return unicode::is_whitespace(c) || (c >= 0x1c && c <= 0x1f); }

std::string_view without_trailing_space(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t last = unicode::last_begin(text.substr(0, end));
    size_t at = last;
    if (!is_python_space(unicode::next(text, at))) break;
    end = last;
  }
  return text.substr(0, end);
}

bool is_repetitive(const std::vector<int32_t>& ids) {
  return static_cast<size_t>(std::count(ids.begin(), ids.end(), ids.back())) > ids.size() / 2;
}

std::string counts(const CalibrationSet& set, const CalibrationRequest& request) {
  return cat(set.read - set.too_short - set.repetitive, " of ", set.read, " usable: ", set.too_short,
             " too short for seqlen ", request.seqlen, ", ", set.repetitive, " repetitive");
}

// Takes the samples of one file.
class Sampler {
 public:
  Sampler(const CalibrationRequest& request, const std::filesystem::path& path, size_t wanted,
          const Tokenizer& tokenizer)
      : request_(request), tokenizer_(tokenizer), wanted_(wanted), seqlen_(static_cast<size_t>(request.seqlen)) {
    ReadOptions options = request.read;
    options.paragraphs = request.concatenate;
    texts_ = read_texts(path, options);
    set_.read = static_cast<int>(texts_.size());
    PythonRandom(request.seed).shuffle(texts_);
  }

  CalibrationSet take() {
    if (request_.concatenate) {
      concatenate();
    } else {
      take_beginnings();
      take_further();
    }
    return std::move(set_);
  }

 private:
  bool enough() const { return set_.samples.size() == wanted_; }

  static std::string_view content(const Text& text) {
    return text.templated ? std::string_view(text.text) : without_trailing_space(text.text);
  }

  void take_beginnings() {
    for (const Text& text : texts_) {
      if (enough()) return;
      TokenPieces pieces(content(text), tokenizer_, !text.templated, seqlen_);
      std::vector<int32_t> ids = pieces.next();
      if (ids.size() < seqlen_) {
        ++set_.too_short;
        continue;
      }
      longer_.push_back(std::move(pieces));
      if (is_repetitive(ids)) {
        ++set_.repetitive;
      } else {
        set_.samples.push_back(std::move(ids));
      }
    }
  }

  void take_further() {
    while (!enough() && !longer_.empty()) {
      std::vector<TokenPieces> still_longer;
      for (TokenPieces& pieces : longer_) {
        if (enough()) return;
        std::vector<int32_t> ids = pieces.next();
        if (ids.size() < seqlen_) continue;
        still_longer.push_back(std::move(pieces));
        if (is_repetitive(ids)) continue;
        set_.samples.push_back(std::move(ids));
        ++set_.further;
      }
      longer_ = std::move(still_longer);
    }
  }

  void concatenate() {
    const bool adds_none = tokenizer_.encode("", true).empty();
    std::vector<int32_t> row;
    for (const Text& text : texts_) {
      TokenPieces pieces(content(text), tokenizer_, !text.templated, seqlen_);
      for (std::vector<int32_t> ids = pieces.next(); !ids.empty(); ids = pieces.next()) {
        row.insert(row.end(), ids.begin(), ids.end());
        cut(row);
        if (enough()) return;
      }
      if (adds_none && !text.templated && tokenizer_.eos_id()) row.push_back(*tokenizer_.eos_id());
    }
    cut(row);
  }

  void cut(std::vector<int32_t>& row) {
    while (row.size() >= seqlen_ && !enough()) {
      const auto end = row.begin() + request_.seqlen;
      std::vector<int32_t> ids(row.begin(), end);
      row.erase(row.begin(), end);
      if (!is_repetitive(ids)) set_.samples.push_back(std::move(ids));
    }
  }

  const CalibrationRequest& request_;
  const Tokenizer& tokenizer_;
  const size_t wanted_, seqlen_;
  std::vector<Text> texts_;
  std::vector<TokenPieces> longer_;  // texts that gave a whole piece
  CalibrationSet set_;
};

// Samples of each file: in proportion to the shares, what is left over to the largest remainders.
std::vector<size_t> quotas(const CalibrationRequest& request) {
  double all = 0;
  for (const CalibrationFile& file : request.files) all += file.share;
  std::vector<size_t> quotas;
  std::vector<double> remainders;
  for (const CalibrationFile& file : request.files) {
    const double exact = request.samples * (file.share / all);
    quotas.push_back(static_cast<size_t>(exact));
    remainders.push_back(exact - static_cast<double>(quotas.back()));
  }
  std::vector<size_t> order(quotas.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  size_t left = static_cast<size_t>(request.samples) - std::accumulate(quotas.begin(), quotas.end(), size_t{0});
  for (size_t i = 0; left > 0; --left, ++i) ++quotas[order[i % order.size()]];
  return quotas;
}

}  // namespace

CalibrationSet load_calibration(const CalibrationRequest& request, const Tokenizer& tokenizer) {
  if (request.samples < 1 || request.seqlen < 1) {
    throw Error(
        cat("calibration needs at least 1 sample of 1 token; asked for ", request.samples, " of ", request.seqlen));
  }
  const std::vector<size_t> wanted = quotas(request);
  CalibrationSet all;
  for (size_t i = 0; i < request.files.size(); ++i) {
    const std::filesystem::path& path = request.files[i].path;
    if (wanted[i] == 0)
      throw Error(
          cat(path.string(), ": its share of ", request.samples, " samples is none; raise calibration.samples"));
    CalibrationSet set = Sampler(request, path, wanted[i], tokenizer).take();
    if (set.samples.empty()) {
      const std::string lines = is_plain_text(path) && !request.concatenate ? " (a line is a text)" : "";
      throw Error(cat(path.string(), ": no calibration sample: ", counts(set, request), lines, ". ",
                      request.concatenate
                          ? "Give more text or a smaller seqlen."
                          : "Set calibration.concatenate: true, which packs short texts into samples, give longer "
                            "texts, or a smaller seqlen."));
    }
    all.read += set.read;
    all.too_short += set.too_short;
    all.repetitive += set.repetitive;
    all.further += set.further;
    std::move(set.samples.begin(), set.samples.end(), std::back_inserter(all.samples));
  }
  return all;
}

void require_rows(const std::vector<std::vector<int32_t>>& texts, const Tokenizer& tokenizer, int64_t rows,
                  const std::filesystem::path& data) {
  for (const std::vector<int32_t>& ids : texts) {
    const auto beyond = std::find_if(ids.begin(), ids.end(), [rows](int32_t id) { return id >= rows; });
    if (beyond == ids.end()) continue;
    throw Error(cat(data.string(), ": ", tokenizer.token(*beyond), " is ", *beyond, ", the embedding has ", rows,
                    " rows: resize it (resize_token_embeddings in transformers), or give the tokenizer that the model "
                    "was trained with"));
  }
}

std::string summary(const CalibrationSet& set, const CalibrationRequest& request) {
  if (set.samples.size() == static_cast<size_t>(request.samples)) {
    return cat(set.samples.size(), " samples of ", request.seqlen, " tokens from ", set.read, " texts",
               set.further > 0 ? cat(", ", set.further, " of them from inside of long texts") : "");
  }
  if (request.concatenate)
    return cat(set.read, " texts give ", set.samples.size(), " samples; ", request.samples, " were asked for");
  return cat(counts(set, request), "; ", request.samples, " samples were asked for");
}

std::vector<uint8_t> loss_mask(std::span<const int32_t> ids, std::optional<int32_t> pad_id) {
  std::vector<uint8_t> mask(ids.size(), 1);
  if (ids.empty()) return mask;
  if (pad_id) {
    for (size_t i = 0; i < ids.size(); ++i) mask[i] = ids[i] != *pad_id;
  } else {
    for (size_t i = ids.size() - 1; i-- > 0 && ids[i] == ids.back();) mask[i] = 0;
  }
  mask.back() = 0;
  return mask;
}

}  // namespace roundhouse

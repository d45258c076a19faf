#include "host/text/calibration.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/random.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

using Json = nlohmann::ordered_json;  // the values of an object come in the file's order

constexpr const char* kRecordHelp = "a record must be a string, or an object with a \"text\"";

bool is_blank(std::string_view bytes) { return bytes.find_first_not_of(" \t\r\n\v\f") == bytes.npos; }

// Calls visit(line, number) for every line that is not blank; numbers start at 1.
template <typename Visit>
void for_each_line(std::string_view content, Visit visit) {
  int number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    std::string_view line = content.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    begin = end + 1;
    ++number;
    if (!is_blank(line)) visit(line, number);
  }
}

// `where` names the record for messages.
std::string text_of(const Json& record, const std::string& where) {
  const Json* value = &record;
  if (record.is_object() && record.size() == 1) {
    value = &record.begin().value();
  } else if (record.is_object() && record.contains("text")) {
    value = &record["text"];
  }
  if (!value->is_string()) throw Error(cat(where, ": has no text; ", kRecordHelp));
  return value->get<std::string>();
}

Json parse(std::string_view text, const std::string& where) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    throw Error(cat(where, ": is not valid JSON: ", error.what()));
  }
}

// Python's str.isspace: Unicode's white space and the four ASCII separators.
bool is_python_space(char32_t c) { return unicode::is_whitespace(c) || (c >= 0x1c && c <= 0x1f); }

std::string_view without_trailing_space(std::string_view text) {
  size_t end = 0;
  for (size_t at = 0; at < text.size();) {
    if (!is_python_space(unicode::next(text, at))) end = at;
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

}  // namespace

std::vector<std::string> read_texts(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  if (extension != ".txt" && extension != ".jsonl" && extension != ".json") {
    throw Error(cat(path.string(), ": calibration data must be a .txt, .json or .jsonl file"));
  }
  const std::string content = read_file(path);
  std::vector<std::string> texts;
  if (extension == ".txt") {
    const std::string valid = unicode::replace_invalid(content);
    for_each_line(valid, [&](std::string_view line, int) { texts.emplace_back(line); });
  } else if (extension == ".jsonl") {
    for_each_line(content, [&](std::string_view line, int number) {
      const std::string where = cat(path.string(), ":", number);
      texts.push_back(text_of(parse(line, where), where));
    });
  } else if (!is_blank(content)) {
    const Json records = parse(content, path.string());
    if (!records.is_array() && !records.is_object())
      throw Error(cat(path.string(), ": is neither a list nor an object"));
    for (const auto& [key, record] : records.items()) {
      texts.push_back(text_of(record, cat(path.string(), ": record ", key)));
    }
  }
  if (texts.empty()) throw Error(cat(path.string(), ": holds no text; give at least one record"));
  return texts;
}

CalibrationSet load_calibration(const CalibrationRequest& request, const Tokenizer& tokenizer) {
  if (request.samples < 1 || request.seqlen < 1) {
    throw Error(
        cat("calibration needs at least 1 sample of 1 token; asked for ", request.samples, " of ", request.seqlen));
  }
  std::vector<std::string> texts = read_texts(request.data);
  PythonRandom(request.seed).shuffle(texts);

  const auto seqlen = static_cast<size_t>(request.seqlen);
  CalibrationSet set;
  set.read = static_cast<int>(texts.size());
  for (const std::string& text : texts) {
    if (set.samples.size() == static_cast<size_t>(request.samples)) break;
    std::vector<int32_t> ids = tokenizer.encode(without_trailing_space(text), true, seqlen);
    if (ids.size() < seqlen) {
      ++set.too_short;
    } else if (is_repetitive(ids)) {
      ++set.repetitive;
    } else {
      set.samples.push_back(std::move(ids));
    }
  }
  if (set.samples.empty()) {
    throw Error(cat(request.data.string(), ": no calibration sample: ", counts(set, request),
                    ". Give longer texts or a smaller seqlen."));
  }
  return set;
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
    return cat(set.samples.size(), " samples of ", request.seqlen, " tokens from ", set.read, " texts");
  }
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

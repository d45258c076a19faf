// SPDX-License-Identifier: Apache-2.0
#include "host/text/records.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/log.h"
#include "host/base/words.h"
#include "host/text/csv.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;  // the values of an object come in the file's order

constexpr const char* kRecordHelp =
    "a record must be a string, or an object with \"text\", \"messages\", \"conversations\", or \"prompt\" and "
    "\"response\"; `field` beside the data names another key";
constexpr const char* kReplacement = "\xef\xbf\xbd";  // U+FFFD

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

std::string extension_of(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return extension;
}

// ---- bytes ----

std::string convert_help(const fs::path& path, const char* encoding) {
  const std::string converted = cat(path.stem().string(), "-utf8", path.extension().string());
  return cat(". Convert it: iconv -f ", encoding, " -t UTF-8 ", shell_quoted(path.string()), " > ",
             shell_quoted(converted));
}

// The bytes of a text file, without UTF-8's mark. Throws Error for UTF-16 and for what is no text.
std::string read_bytes(const fs::path& path) {
  std::string content = read_file(path);
  const std::string_view bytes = content;
  for (const char* mark : {"\xff\xfe\0\0", "\0\0\xfe\xff"})
    if (bytes.starts_with(std::string_view(mark, 4)))
      throw Error(cat(path.string(), ": is UTF-32", convert_help(path, "UTF-32")));
  if (bytes.starts_with("\xff\xfe") || bytes.starts_with("\xfe\xff"))
    throw Error(cat(path.string(), ": is UTF-16, as PowerShell's > writes it", convert_help(path, "UTF-16")));
  if (bytes.find('\0') != bytes.npos) {
    // Every other byte of ASCII in UTF-16 is 0.
    size_t even = 0, odd = 0;
    for (size_t i = 0; i < std::min<size_t>(bytes.size(), 4096); ++i)
      if (bytes[i] == '\0') ++(i % 2 == 0 ? even : odd);
    const size_t many = std::min<size_t>(bytes.size(), 4096) / 5;
    if (std::max(even, odd) > many && std::min(even, odd) == 0)
      throw Error(cat(path.string(), ": is UTF-16 without a mark", convert_help(path, odd ? "UTF-16LE" : "UTF-16BE")));
    throw Error(cat(path.string(), ": is binary (it has zero bytes); texts in UTF-8 are needed"));
  }
  if (bytes.starts_with("\xef\xbb\xbf")) content.erase(0, 3);
  return content;
}

size_t count_of(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++count;
  return count;
}

// Bytes that are not UTF-8 replaced, which is said.
std::string read_utf8(const fs::path& path) {
  const std::string bytes = read_bytes(path);
  std::string text = unicode::replace_invalid(bytes);
  const size_t replaced = count_of(text, kReplacement) - count_of(bytes, kReplacement);
  if (replaced == 0) return text;
  const std::string help = convert_help(path, "LATIN1");
  // A text of another encoding has such bytes in words, one of a few damaged characters hardly any.
  if (replaced > bytes.size() / 8) throw Error(cat(path.string(), ": is not UTF-8", help, " (or the encoding it has)"));
  log::warning(
      cat(path.string(), ": ", replaced,
          replaced == 1 ? " byte or sequence is not UTF-8 and was" : " bytes or sequences are not UTF-8 and were",
          " replaced by U+FFFD", help, " (or the encoding it has)"));
  return text;
}

// ---- records ----

const Json* member(const Json& record, const char* key) {
  const auto found = record.find(key);
  return found == record.end() || found->is_null() ? nullptr : &*found;
}

const Json* first_member(const Json& record, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (const Json* value = member(record, key)) return value;
  return nullptr;
}

// A value that is there, and not an empty text.
bool has_text(const Json* value) { return value && *value != Json(""); }

bool is_conversation(const Json& value) {
  return value.is_array() && !value.empty() && std::all_of(value.begin(), value.end(), [](const Json& message) {
           return message.is_object() && (message.contains("role") || message.contains("from"));
         });
}

// A value that a table, or a careful author, keeps as JSON in a string.
Json unpacked(const Json& value) {
  if (!value.is_string()) return value;
  Json parsed = Json::parse(value.get_ref<const std::string&>(), nullptr, /*allow_exceptions=*/false);
  return parsed.is_structured() ? parsed : value;
}

// "from" and "value", as ShareGPT has them, in the words of chat templates.
Json as_message(const Json& message) {
  static const std::map<std::string, std::string> kRoles = {
      {"human", "user"},      {"gpt", "assistant"},    {"chatgpt", "assistant"},       {"bot", "assistant"},
      {"model", "assistant"}, {"observation", "tool"}, {"function_call", "assistant"}, {"function_response", "tool"}};
  Json result = message;
  if (!message.contains("role")) {
    if (!message["from"].is_string()) throw Error("a message's \"from\" is no text");
    const std::string from = message["from"];
    const auto known = kRoles.find(from);
    result["role"] = known == kRoles.end() ? from : known->second;
    result["content"] = message.contains("value") ? message["value"] : Json();
    result.erase("from");
    result.erase("value");
  }
  // What a model thought has several names; templates read "reasoning_content" or "thinking".
  if (const Json* reasoning = first_member(result, {"reasoning_content", "thinking", "reasoning"})) {
    const Json thought = *reasoning;
    if (!result.contains("thinking")) result["thinking"] = thought;
    result["reasoning_content"] = thought;
  }
  return result;
}

Json messages_of(const Json& conversation) {
  if (!is_conversation(conversation))
    throw Error("a conversation must be a list of messages with \"role\" and \"content\", or \"from\" and \"value\"");
  Json messages = Json::array();
  for (const Json& message : conversation) messages.push_back(as_message(message));
  return messages;
}

void append_turn(Json& messages, const char* role, const Json& value) {
  if (is_conversation(value)) {
    for (Json& message : messages_of(value)) messages.push_back(std::move(message));
  } else if (value.is_string()) {
    messages.push_back({{"role", role}, {"content", value}});
  } else {
    throw Error(cat("the ", role, "'s part is neither a text nor a list of messages"));
  }
}

// The messages of "prompt" and "response", "instruction", "input" and "output", "question" and "answer"; null: there
// are none.
Json pair_of(const Json& record) {
  const Json* prompt = first_member(record, {"prompt", "instruction", "question", "query"});
  const Json* answer = first_member(record, {"response", "completion", "chosen", "output", "answer"});
  if (!prompt || !answer) return nullptr;
  const Json asked = unpacked(*prompt), answered = unpacked(*answer);
  Json messages = Json::array();
  // Pairs of preferences repeat the prompt in their answers.
  const bool is_whole = is_conversation(answered) && as_message(answered[0])["role"] != "assistant";
  if (!is_whole) {
    if (const Json* system = first_member(record, {"system", "system_prompt"}); has_text(system))
      append_turn(messages, "system", *system);
    const Json* input = member(record, "input");
    if (asked.is_string() && has_text(input) && input->is_string() && record.contains("instruction"))
      append_turn(messages, "user", cat(asked.get<std::string>(), "\n\n", input->get<std::string>()));
    else
      append_turn(messages, "user", asked);
  }
  append_turn(messages, "assistant", answered);
  return messages;
}

// Keys whose value is a text, but not one to read.
bool names_no_text(const std::string& key) {
  static const std::vector<std::string> kKeys = {"id",    "_id",  "uid",   "uuid",   "guid",     "key",
                                                 "index", "idx",  "hash",  "url",    "path",     "file",
                                                 "name",  "date", "label", "source", "timestamp"};
  return contains(kKeys, key);
}

class Records {
 public:
  explicit Records(const ReadOptions& options) : options_(options) {}

  // `where` names the record for messages. The first error is told in the end, with the number of the others.
  void add(const Json& record, const std::string& where) {
    try {
      texts.push_back(text_of(record));
    } catch (const Error& e) {
      fail(where, e.what());
    }
  }
  void fail(const std::string& where, const std::string& why) {
    if (failed_++ == 0) first_error_ = cat(where, ": ", why);
  }
  void require_none_failed() const {
    if (failed_ == 0) return;
    throw Error(cat(first_error_,
                    failed_ > 1 ? cat(" (and ", failed_ - 1, failed_ == 2 ? " record more)" : " records more)") : ""));
  }

  // The key of a record's text.
  std::string field() const { return options_.field.value_or("text"); }

  std::vector<Text> texts;

 private:
  Text text_of(const Json& record) const {
    if (record.is_string()) return {record.get<std::string>()};
    if (!record.is_object()) throw Error(cat("has no text; ", kRecordHelp));
    if (options_.field) return field_of(record);
    const Json* text = member(record, "text");
    if (text && text->is_string()) return {text->get<std::string>()};
    if (const Json* conversation = first_member(record, {"messages", "conversations", "conversation"})) {
      const Json value = unpacked(*conversation);
      // The only column may be a text of that name, but not a list that some other program wrote.
      if (record.size() > 1 || !value.is_string() || value.get_ref<const std::string&>().starts_with("[{"))
        return templated(messages_of(value), record);
    }
    if (record.size() == 1 && record.begin()->is_string()) {
      if (record.begin().key().find_first_of(";\t") != std::string::npos)
        throw Error(cat("has one column, \"", record.begin().key(), "\": separate columns by commas"));
      if (names_no_text(record.begin().key()))
        throw Error(cat("has no text: \"", record.begin().key(), "\" names none; ", kRecordHelp));
      return {record.begin()->get<std::string>()};
    }
    if (Json pair = pair_of(record); !pair.is_null()) return templated(std::move(pair), record);
    if (const Json* content = member(record, "content"); content && content->is_string())
      return {content->get<std::string>()};
    if (record.contains("text")) throw Error(cat("has no text; \"text\" is no string; ", kRecordHelp));
    std::vector<std::string> keys;
    for (const auto& [key, value] : record.items()) keys.push_back(key);
    throw Error(cat("has no text; ", kRecordHelp, " (its keys: ", joined(keys), ")"));
  }

  Text field_of(const Json& record) const {
    const std::string& field = *options_.field;
    const auto found = record.find(field);
    if (found == record.end()) throw Error(cat("has no \"", field, "\", which `field` names"));
    if (const Json value = unpacked(*found); is_conversation(value)) return templated(messages_of(value), record);
    if (!found->is_string())
      throw Error(cat("\"", field, "\", which `field` names, is neither a text nor a conversation"));
    return {found->get<std::string>()};
  }

  Text templated(Json messages, const Json& record) const {
    if (!options_.chat) throw Error("is a conversation; a text is needed here");
    Json variables = {{"messages", std::move(messages)}};
    for (const char* key : {"tools", "documents"})
      if (const Json* value = member(record, key); value && !value->empty()) variables[key] = unpacked(*value);
    if (const Json* others = member(record, "chat_template_kwargs"); others && others->is_object())
      for (const auto& [key, value] : others->items()) variables[key] = value;
    return {options_.chat->render(std::move(variables)), true};
  }

  const ReadOptions& options_;
  std::string first_error_;
  size_t failed_ = 0;
};

Json parse(std::string_view text, const fs::path& path) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_discarded()) return json;
  try {
    return Json::parse(without_python_numbers(std::string(text)));
  } catch (const Json::exception& error) {
    if (unicode::replace_invalid(text) != text)
      throw Error(cat("is not UTF-8", convert_help(path, "LATIN1"), " (or the encoding it has)"));
    throw Error(cat("is not valid JSON: ", json_problem(error)));
  }
}

void read_lines(const std::string& content, const fs::path& path, Records& records) {
  for_each_line(content, [&](std::string_view line, int number) {
    const std::string where = cat(path.string(), ":", number);
    Json record;
    try {
      record = parse(line, path);
    } catch (const Error& e) {
      throw Error(cat(where, ": ", e.what()));
    }
    records.add(record, where);
  });
}

// Whether the first line is a whole record, and there are others: lines that came into a .json.
bool has_lines(const std::string& content) {
  int lines = 0;
  bool is_record = false;
  for_each_line(content, [&](std::string_view line, int) {
    if (lines++ == 0)
      is_record = Json::accept(without_python_numbers(std::string(line))) &&
                  (line.find('{') != line.npos || line.find('"') != line.npos);
  });
  return is_record && lines > 1;
}

// The records of an object whose members are columns, as datasets' and pandas' to_dict() make it: lists, or objects by the
// row's number. Other documents stay as they are.
Json rows_of(Json document, const std::string& field) {
  const Json* texts = nullptr;
  for (const char* key : {field.c_str(), "messages", "conversations", "prompt", "instruction", "question"})
    if (const Json* value = member(document, key);
        !texts && value && value->is_structured() && !is_conversation(*value))
      texts = value;
  const auto is_column = [&](const Json& column) { return column.is_structured() && column.size() == texts->size(); };
  if (!texts || !std::all_of(document.begin(), document.end(), is_column)) return document;
  Json rows = Json::array();
  for (size_t i = 0; i < texts->size(); ++i) rows.push_back(Json::object());
  for (const auto& [key, column] : document.items()) {
    auto row = rows.begin();
    for (Json& value : column) (*row++)[key] = std::move(value);
  }
  return rows;
}

void read_json(const std::string& content, const fs::path& path, Records& records) {
  Json document;
  try {
    document = parse(content, path);
  } catch (const Error& e) {
    if (has_lines(content)) return read_lines(content, path, records);
    throw Error(cat(path.string(), ": ", e.what()));
  }
  if (document.is_object()) {
    for (const char* key : {"messages", "conversations"})  // one record
      if (const Json* value = member(document, key); value && is_conversation(*value))
        return records.add(document, path.string());
    for (const char* key : {"data", "train", "records", "rows", "instances"}) {
      const Json* list = member(document, key);
      if (!list || !list->is_array()) continue;
      Json inner = *list;
      document = std::move(inner);
      break;
    }
    document = rows_of(std::move(document), records.field());
  }
  if (!document.is_array() && !document.is_object())
    throw Error(cat(path.string(), ": is neither a list nor an object"));
  for (const auto& [key, record] : document.items()) {
    const Json* row = member(record, "row");  // as the hub's viewer has them
    records.add(row && row->is_object() && !member(record, "text") ? *row : record,
                cat(path.string(), ": record ", key));
  }
}

void read_table(const std::string& content, const fs::path& path, char separator, Records& records) {
  std::vector<CsvRow> rows;
  try {
    rows = parse_csv(content, separator);
  } catch (const Error& e) {
    throw Error(cat(path.string(), ":", e.what()));
  }
  if (!rows.empty() && rows[0].fields.size() == 1 &&
      std::count(rows[0].fields[0].begin(), rows[0].fields[0].end(), ' ') > 3)
    throw Error(cat(path.string(),
                    ": its first line is taken for the columns' names, and is none: put a line with the "
                    "word text before it"));
  for (size_t i = 1; i < rows.size(); ++i) {
    const std::string where = cat(path.string(), ":", rows[i].line);
    if (rows[i].fields.size() != rows[0].fields.size()) {
      records.fail(where, cat("has ", rows[i].fields.size(), " fields, the header ", rows[0].fields.size()));
      continue;
    }
    Json record = Json::object();
    for (size_t column = 0; column < rows[i].fields.size(); ++column)
      record[rows[0].fields[column]] = rows[i].fields[column];
    records.add(record, where);
  }
}

void read_plain(std::string_view content, bool paragraphs, Records& records) {
  if (!paragraphs)
    return for_each_line(content, [&](std::string_view line, int) { records.texts.push_back({std::string(line)}); });
  std::string paragraph;
  int last = 0;
  const auto flush = [&] {
    if (!paragraph.empty()) records.texts.push_back({std::exchange(paragraph, {})});
  };
  for_each_line(content, [&](std::string_view line, int number) {
    if (number > last + 1) flush();  // blank lines are not visited
    last = number;
    if (!paragraph.empty()) paragraph += '\n';
    paragraph += line;
  });
  flush();
}

[[noreturn]] void refuse_type(const fs::path& path, const std::string& extension) {
  const std::string name = path.string(), converted = path.stem().string() + ".jsonl";
  if (extension == ".parquet") {
    throw Error(cat(name,
                    ": is Parquet, which is not read here. Convert it: python3 -c \"import pandas; "
                    "pandas.read_parquet('",
                    name, "').to_json('", converted, "', orient='records', lines=True, force_ascii=False)\""));
  }
  if (extension == ".gz" || extension == ".zst" || extension == ".zip" || extension == ".xz" || extension == ".bz2")
    throw Error(cat(name, ": is compressed; unpack it first"));
  throw Error(cat(name, ": texts must be in a .txt, .json, .jsonl, .csv or .tsv file"));
}

}  // namespace

bool is_plain_text(const fs::path& path) { return extension_of(path) == ".txt"; }

std::string read_plain_text(const fs::path& path) { return read_utf8(path); }

std::vector<Text> read_texts(const fs::path& path, const ReadOptions& options) {
  const std::string extension = extension_of(path);
  Records records(options);
  if (extension == ".txt") {
    read_plain(read_utf8(path), options.paragraphs, records);
  } else if (extension == ".csv" || extension == ".tsv") {
    read_table(read_utf8(path), path, extension == ".csv" ? ',' : '\t', records);
  } else if (extension == ".jsonl" || extension == ".ndjson") {
    read_lines(read_bytes(path), path, records);
  } else if (extension == ".json") {
    if (const std::string content = read_bytes(path); !is_blank(content)) read_json(content, path, records);
  } else {
    refuse_type(path, extension);
  }
  records.require_none_failed();
  if (records.texts.empty()) throw Error(cat(path.string(), ": holds no text; give at least one record"));
  return std::move(records.texts);
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/base/files.h"

#include <dlfcn.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <string_view>
#include <vector>

#include "host/base/error.h"

namespace roundhouse {

std::ifstream open_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::ifstream(std::filesystem::is_regular_file(path, ignored) ? path : "", std::ios::binary);
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file = open_file(path);
  if (!file) {
    std::error_code ignored;
    const bool other = std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored);
    throw Error(cat(path.string(), ": cannot be read", other ? ": it is no regular file" : ""));
  }
  std::string content;
  for (std::vector<char> buffer(1 << 16); file.read(buffer.data(), std::ssize(buffer)), file.gcount() > 0;)
    content.append(buffer.data(), static_cast<size_t>(file.gcount()));
  if (file.bad()) throw Error(cat(path.string(), ": cannot be read: ", std::strerror(errno)), failure_of(errno));
  if (content.starts_with("version https://git-lfs."))
    throw Error(cat(path.string(), ": this is a git-lfs pointer, not the file. Run `git lfs pull` in its folder."));
  return content;
}

std::string without_python_numbers(const std::string& text) {
  static constexpr std::string_view kWords[] = {"NaN", "Infinity", "-Infinity"};
  std::string plain;
  bool quoted = false;
  for (size_t i = 0; i < text.size();) {
    const auto* const word =
        quoted ? std::end(kWords) : std::find_if(std::begin(kWords), std::end(kWords), [&](std::string_view w) {
          return text.compare(i, w.size(), w) == 0;
        });
    if (word != std::end(kWords)) {
      plain += cat(R"({"__float__":")", *word, R"("})");
      i += word->size();
      continue;
    }
    if (text[i] == '"') quoted = !quoted;
    const size_t taken = quoted && text[i] == '\\' && i + 1 < text.size() ? 2 : 1;
    plain.append(text, i, taken);
    i += taken;
  }
  return plain;
}

nlohmann::json parse_json(const std::string& text) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  return json.is_discarded() ? nlohmann::json::parse(without_python_numbers(text)) : json;
}

nlohmann::json read_json_object(const std::filesystem::path& path) {
  try {
    nlohmann::json json = parse_json(read_file(path));
    if (!json.is_object()) throw Error(cat(path.string(), ": is not a JSON object"));
    return json;
  } catch (const nlohmann::json::exception& error) {
    const std::string text = read_file(path);
    if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
      throw Error(cat(path.string(), ": is UTF-16, and JSON is UTF-8: iconv -f UTF-16 -t UTF-8 converts it"));
    throw Error(cat(path.string(), ": is not valid JSON: ", json_problem(error)));
  }
}

std::string json_problem(const nlohmann::json::exception& error) {
  const std::string what = error.what();
  const size_t id = what.find("] ");
  const size_t begin = what.starts_with('[') && id != what.npos ? id + 2 : 0;
  return what.substr(begin, what.find("; last read: ") - begin);
}

std::filesystem::path replaceable(const std::filesystem::path& path) {
  std::error_code code;
  const auto type = std::filesystem::status(path, code).type();
  using std::filesystem::file_type;
  if (type == file_type::none)
    throw Error(cat("cannot write ", path.string(), ": ", code.message()), failure_of(code.value()));
  if (type != file_type::regular && type != file_type::not_found)
    throw Error(cat("cannot write ", path.string(), ": it is no regular file. Name another one"));
  return std::filesystem::is_symlink(path) ? std::filesystem::weakly_canonical(path) : path;
}

void require_kind(const std::filesystem::path& file, const std::string& kind,
                  const std::function<bool(const std::filesystem::path&)>& is_one) {
  const std::filesystem::path target = replaceable(file);
  if (!std::filesystem::exists(target) || std::filesystem::is_empty(target)) return;
  try {
    if (is_one(target)) return;
  } catch (const Error&) {  // it is none
  }
  throw Error(cat(file.string(), " is there, and no ", kind, ": choose another file"));
}

void write_file(const std::filesystem::path& given, const std::string& contents) {
  const std::filesystem::path path = replaceable(given);
  const std::filesystem::path temporary = path.string() + ".tmp";
  std::ofstream file(temporary, std::ios::binary);
  file << contents;
  file.close();
  if (!file || std::rename(temporary.c_str(), path.c_str()) != 0) {
    const std::string why = std::strerror(errno);
    std::remove(temporary.c_str());
    throw Error(cat("cannot write ", path.string(), ": ", why));
  }
}

std::filesystem::path file_of_code(const void* function) {
  Dl_info about = {};
  return ::dladdr(function, &about) != 0 ? std::filesystem::absolute(about.dli_fname) : std::filesystem::path();
}

bool is_within(const std::filesystem::path& path, const std::filesystem::path& folder) {
  const auto inner = std::filesystem::weakly_canonical(path), outer = std::filesystem::weakly_canonical(folder);
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

}  // namespace roundhouse

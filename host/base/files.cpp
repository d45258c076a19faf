#include "host/base/files.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "host/base/error.h"

namespace roundhouse {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  // A folder can be opened as well.
  if (!file || !std::filesystem::is_regular_file(path)) throw Error(cat(path.string(), ": cannot be read"));
  std::string content{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw Error(cat(path.string(), ": cannot be read"));
  return content;
}

nlohmann::json read_json_object(const std::filesystem::path& path) {
  try {
    nlohmann::json json = nlohmann::json::parse(read_file(path));
    if (!json.is_object()) throw Error(cat(path.string(), ": is not a JSON object"));
    return json;
  } catch (const nlohmann::json::exception& error) {
    throw Error(cat(path.string(), ": is not valid JSON: ", error.what()));
  }
}

bool is_within(const std::filesystem::path& path, const std::filesystem::path& folder) {
  const auto inner = std::filesystem::weakly_canonical(path), outer = std::filesystem::weakly_canonical(folder);
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// Small files, read and written whole.
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace roundhouse {

// In an output folder: what the run says of itself, such as its report and recipe.
inline constexpr const char* kNotesFolder = "roundhouse";

// Opens a regular file, or a link to one, and nothing else: opening a pipe would wait for a writer.
std::ifstream open_file(const std::filesystem::path& path);
// Throws Error when there is no such file, or it cannot be read, or is a git-lfs pointer to it.
std::string read_file(const std::filesystem::path& path);
// JSON as Python writes it: NaN, Infinity and -Infinity become {"__float__": "NaN"} and so on, which is how transformers
// stores them in valid JSON, and reads them. Throws nlohmann::json::exception.
nlohmann::json parse_json(const std::string& text);
// The text that parse_json() reads where Python's is not valid JSON.
std::string without_python_numbers(const std::string& text);
// parse_json() of a file. Throws Error for what read_file does, and when the file does not hold a JSON object.
nlohmann::json read_json_object(const std::filesystem::path& path);
// The library's message without its number, and without what was read, which may be the whole file.
std::string json_problem(const nlohmann::json::exception& error);
// Where a file named `path` is to be put: where it leads, if it is a link. Throws Error for what is there and no regular
// file: a folder, a device, a pipe.
std::filesystem::path replaceable(const std::filesystem::path& path);
// Throws Error when what is there, and not empty, is of another kind than what is to be written in its place: it may be
// what the work reads. `is_one` may throw Error for what it cannot read.
void require_kind(const std::filesystem::path& file, const std::string& kind,
                  const std::function<bool(const std::filesystem::path&)>& is_one);
// Writes the file, in place of an older one. Throws Error.
// The file that a function's code is in: a program, or a library that it has loaded. "" where the loader does not know.
std::filesystem::path file_of_code(const void* function);

void write_file(const std::filesystem::path& path, const std::string& contents);

// Whether `path` is `folder` or lies in it.
bool is_within(const std::filesystem::path& path, const std::filesystem::path& folder);

}  // namespace roundhouse

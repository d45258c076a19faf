// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: C++ helper. Not part of the ABI.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <system_error>
#include <vector>

namespace rh {

// Whether a name in a model's folder is no side file: weights in any framework's file, what every export writes itself,
// and what is about the source's weights alone, such as their model card.
inline bool is_no_side_file(const std::filesystem::path& name) {
  const std::string text = name.filename().string();
  const auto among = [](const std::string& value, std::initializer_list<const char*> list) {
    return std::any_of(list.begin(), list.end(), [&](const char* item) { return value == item; });
  };
  const std::string index = ".index.json";
  return text.empty() || text[0] == '.' ||
         (text.size() > index.size() && text.compare(text.size() - index.size(), index.size(), index) == 0) ||
         among(text, {"config.json", "quantization_config.json", "quantize_config.json", "quant_config.json",
                      "hf_quant_config.json", "README.md", "roundhouse"}) ||
         among(name.extension().string(),
               {".safetensors", ".bin",       ".pt",     ".pth",     ".ckpt", ".gguf", ".ggml",
                ".onnx",        ".onnx_data", ".h5",     ".msgpack", ".npz",  ".npy",  ".ot",
                ".pkl",         ".pdparams",  ".tflite", ".mlmodel", ".nemo", ".tmp"});
}

// What belongs to a model beside its weights and config.json: tokenizers, chat templates, processors, custom code,
// licences. As paths relative to `folder`, sorted. The files of a folder within it come along, its config.json too,
// when none of them is a weight; deeper ones, and files of 64 MiB or more, do not.
inline std::vector<std::string> side_files(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  constexpr std::uintmax_t kSmall = 64 << 20;
  std::vector<std::string> names;
  std::error_code unreadable;
  const auto files_of = [&](const fs::path& within) {
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder / within, unreadable))
      if (entry.is_regular_file(unreadable)) files.push_back(within / entry.path().filename());
    return files;
  };
  const auto is_other = [](const fs::path& file) { return file.filename() != "config.json" && is_no_side_file(file); };
  const auto take = [&](const fs::path& file) {
    if (!(file.has_parent_path() ? is_other(file) : is_no_side_file(file)) &&
        fs::file_size(folder / file, unreadable) < kSmall)
      names.push_back(file.string());
  };
  for (const fs::path& file : files_of("")) take(file);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, unreadable)) {
    if (is_no_side_file(entry.path()) || !entry.is_directory(unreadable)) continue;
    const std::vector<fs::path> files = files_of(entry.path().filename());
    if (std::none_of(files.begin(), files.end(), is_other)) std::for_each(files.begin(), files.end(), take);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace rh

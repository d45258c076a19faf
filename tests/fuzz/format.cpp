// SPDX-License-Identifier: Apache-2.0
// A checkpoint, through the readers of all built-in formats: config.json up to the first NUL, then model.safetensors; or,
// where the bytes begin with "GGUF", model.gguf alone.
#include <algorithm>
#include <array>
#include <vector>

#include "host/abi/views.h"
#include "host/base/tensor.h"
#include "host/discovery/library.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace roundhouse;

void read_all(const rh_format* format) {
  rh_error error{};
  const std::string folder = fuzz::folder();
  if (format->probe(format, folder.c_str()) <= 0) return;
  const rh_open source{sizeof source, 0, folder.c_str(), "{}", nullptr};
  rh_reader* reader = nullptr;
  if (format->open(format, &source, &reader, &error) != RH_OK) return;
  rh_item item{};
  const uint64_t count = std::min<uint64_t>(reader->count(reader), 64);
  for (uint64_t i = 0; i < count; ++i) {
    item.struct_size = sizeof item;
    if (reader->item(reader, i, &item, &error) != RH_OK) continue;
    fuzz::expect_result_or_exception([&] {
      const std::vector<int64_t> shape(item.shape, item.shape + item.ndim);
      int64_t elements = 1;
      for (const int64_t n : shape) elements = std::min<int64_t>(elements * std::min<int64_t>(n, 1 << 20), 1 << 20);
      if (elements >= 1 << 20) return;
      Tensor tensor(item.encoding ? DType::kF32 : from_rh(item.dtype), shape);
      rh_tensor view = tensor.view();
      reader->read(reader, i, &view, &error);
    });
  }
  reader->close(reader);
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& plugins = *new std::vector<PluginLibrary>;
  if (plugins.empty())
    for (const char* name :
         {"auto_awq", "auto_gptq", "auto_round", "fp8", "gguf", "llm_compressor", "modelopt", "mxfp4"})
      plugins.emplace_back(std::string(ROUNDHOUSE_BUILD "/lib/roundhouse/plugins/librh_format_") + name + ".so");
  for (const char* file : {"config.json", "model.safetensors", "model.gguf"})
    std::filesystem::remove(fuzz::folder() / file);
  const std::string_view bytes = fuzz::text(data, size);
  if (bytes.starts_with("GGUF")) {
    fuzz::write("model.gguf", bytes);
  } else {
    const size_t end = std::min(bytes.find('\0'), bytes.size());
    fuzz::write("config.json", bytes.substr(0, end));
    fuzz::write("model.safetensors", bytes.substr(std::min(end + 1, bytes.size())));
  }
  for (const PluginLibrary& plugin : plugins)
    for (const rh_format* format : plugin.formats()) read_all(format);
  return 0;
}

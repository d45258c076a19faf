// SPDX-License-Identifier: Apache-2.0
#include "host/discovery/open_checkpoint.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "host/abi/format_reader.h"
#include "host/abi/plugin_call.h"
#include "host/base/error.h"
#include "host/base/model_folder.h"
#include "host/checkpoint/safetensors.h"

namespace roundhouse {
namespace {

// What the names of tensors end in that a method of quantization alone stores, whatever the folder's files say.
constexpr std::pair<std::string_view, const char*> kParts[] = {
    {".q_invperm", "exl2"}, {".weight._scale", "quanto"}, {".weight.absmax", "bitsandbytes"}, {".SCB", "bitsandbytes"}};

// The method that a tensor's name tells of.
std::optional<std::string> method_by_names(const std::vector<std::string>& names) {
  for (const std::string& name : names)
    for (const auto& [part, method] : kParts)
      if (name.ends_with(part)) return method;
  return std::nullopt;
}

// Whether all tensors are floating-point numbers, as after a quantization was undone by hand; config.json may still tell
// of it.
bool is_plain(SafetensorsFolder& checkpoint) {
  const std::vector<std::string> names = checkpoint.names();
  return std::all_of(names.begin(), names.end(),
                     [&](const std::string& name) { return is_floating(checkpoint.info(name).dtype); });
}

}  // namespace

std::string format_of(Catalogue& catalogue, const std::filesystem::path& path) {
  std::string surest;
  int32_t highest = 0;
  for (const FormatRecord* record : catalogue.formats()) {
    const LoadedFormat format = catalogue.format(record->id);
    const WatchedCall here(format.label, "probe", path.native());
    const int32_t score = format.table->probe(format.table, path.c_str());
    if (score <= highest) continue;
    highest = score;
    surest = record->id;
  }
  return surest;
}

std::unique_ptr<TensorSource> open_checkpoint(Catalogue& catalogue, const std::filesystem::path& folder,
                                              const nlohmann::json& architecture, std::string* format_id) {
  const std::string surest = format_of(catalogue, folder);
  if (format_id) *format_id = surest;
  if (!surest.empty()) return std::make_unique<ExportedCheckpoint>(catalogue.format(surest), folder, architecture);
  auto original = std::make_unique<SafetensorsFolder>(folder);
  auto method = method_by_names(original->names());
  if (!method) {
    method = quantization_method(folder);
    if (!method || is_plain(*original)) return original;
  }
  std::string loaded;
  for (const FormatRecord* record : catalogue.formats()) loaded += cat(loaded.empty() ? "" : ", ", record->id);
  throw Error(cat(folder.string(), " is quantized already (", *method,
                  "), and no loaded format reads that: give the original model. Loaded formats: ",
                  loaded.empty() ? "none" : loaded, ". ", catalogue.where_it_looked()));
}

std::unique_ptr<TensorSource> open_source(Catalogue& catalogue, const std::filesystem::path& folder,
                                          const nlohmann::json& architecture, std::string& format_id) {
  std::unique_ptr<TensorSource> source = open_checkpoint(catalogue, folder, architecture, &format_id);
  if (auto* quantized = dynamic_cast<ExportedCheckpoint*>(source.get())) quantized->decode_to(DType::kF32);
  return source;
}

}  // namespace roundhouse

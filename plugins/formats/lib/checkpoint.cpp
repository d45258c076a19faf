// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/checkpoint.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace fs = std::filesystem;

Json model_json(const rh_export& target, const char* key) { return Json::parse(rh::model_text(target, key)); }

void write_json(const rh_export& target, const std::string& name, const Json& json) {
  rh::write_text(target, name, json.dump(2) + "\n");
}

void write_config(const rh_export& target, const Json& quantization) {
  Json config = model_json(target, "config");
  config["quantization_config"] = quantization;
  write_json(target, "config.json", config);
  write_json(target, "quantization_config.json", quantization);
  copy_side_files(target);
}

namespace {

// The text with null for the numbers that Python writes and JSON lacks: no format asks for one of them.
std::string without_python_numbers(const std::string& text) {
  std::string plain;
  bool quoted = false;
  for (size_t i = 0; i < text.size();) {
    size_t taken = 1;
    for (const std::string_view word : {"-Infinity", "Infinity", "NaN"})
      if (!quoted && text.compare(i, word.size(), word) == 0) taken = word.size();
    if (taken > 1) {
      plain += "null";
    } else {
      if (text[i] == '"') quoted = !quoted;
      if (quoted && text[i] == '\\' && i + 1 < text.size()) taken = 2;
      plain.append(text, i, taken);
    }
    i += taken;
  }
  return plain;
}

Json read_object(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw rh::Error(RH_NOT_FOUND, path + " cannot be read");
  try {
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (config.is_discarded()) config = Json::parse(without_python_numbers(text));
    if (config.is_object()) return config;
  } catch (const Json::exception& e) {
    throw rh::Error(RH_DATA_LOSS, cat(path, ": ", e.what()));
  } catch (const std::ios_base::failure& e) {
    throw rh::Error(RH_DATA_LOSS, cat(path, " cannot be read: ", e.code().message()));
  }
  throw rh::Error(RH_DATA_LOSS, path + " is not a JSON object");
}

}  // namespace

Json read_config(const std::string& folder) { return read_object((fs::path(folder) / "config.json").string()); }

Json read_config_or_empty(const std::string& folder) {
  try {
    return read_config(folder);
  } catch (const rh::Error&) {
    return Json::object();
  }
}

std::string text_at(const Json& json, const char* key, const char* otherwise) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

Json quantization_of(const Json& config) {
  const auto found = config.find("quantization_config");
  if (found != config.end()) return found->is_object() ? *found : Json::object();
  const auto text = config.find("text_config");
  return text != config.end() && text->is_object() ? quantization_of(*text) : Json::object();
}

Json quantization_in(const std::string& folder, const char* name) {
  const Json config = read_config_or_empty(folder);
  if (const Json said = quantization_of(config); !said.empty() || config.contains("quantization_config")) return said;
  try {
    return read_object((fs::path(folder) / name).string());
  } catch (const rh::Error&) {
    return Json::object();
  }
}

rh_data_type config_dtype(const Json& config, const std::string& folder) {
  // "torch_dtype" is the key's name before transformers 5.
  std::string name = text_at(config, "dtype", text_at(config, "torch_dtype", "float32").c_str());
  constexpr std::string_view kModule = "torch.";
  if (name.starts_with(kModule)) name.erase(0, kModule.size());
  if (name == "float32" || name == "float") return rh::kF32;
  if (name == "float16" || name == "half") return rh::kF16;
  if (name == "bfloat16") return rh::kBF16;
  const TensorReader tensors(folder);
  const rh_tensor* largest = nullptr;
  for (const TensorReader::Entry& entry : tensors.entries()) {
    const rh_data_type type = entry.view->dtype;
    const bool floating =
        rh::same_type(type, rh::kF32) || rh::same_type(type, rh::kF16) || rh::same_type(type, rh::kBF16);
    if (floating && (!largest || rh::bytes(*entry.view) > rh::bytes(*largest))) largest = entry.view;
  }
  return largest ? largest->dtype : rh::kF32;
}

Json recorded_facts(const Json& quantization) {
  constexpr std::pair<const char*, const char*> kKeys[] = {{"iters", "iters"},
                                                           {"lr", "lr"},
                                                           {"minmax_lr", "minmax_lr"},
                                                           {"nsamples", "samples"},
                                                           {"seqlen", "seqlen"},
                                                           {"batch_size", "batch_size"},
                                                           {"gradient_accumulate_steps", "gradient_accumulation"},
                                                           {"enable_quanted_input", "quantized_input"},
                                                           {"seed", "seed"}};
  Json tuning = Json::object();
  for (const auto& [recorded, key] : kKeys) {
    const auto found = quantization.find(recorded);
    if (found != quantization.end() && (found->is_number() || found->is_boolean())) tuning[key] = *found;
  }
  return tuning.empty() ? Json::object() : Json{{"tuning", tuning}};
}

}  // namespace roundhouse::formats

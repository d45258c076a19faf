// SPDX-License-Identifier: Apache-2.0
// A checkpoint's JSON files, and the SDK's helpers for the others.
#pragma once

#include <nlohmann/json.hpp>
#include <roundhouse/files.hpp>
#include <string>
#include <vector>

namespace roundhouse::formats {

using Json = nlohmann::ordered_json;  // keeps the source's order of keys

using rh::copy_side_files;
using rh::copy_tensor;
using rh::describe_tensor;
using rh::model_folder;
using rh::OutputFile;
using rh::TensorReader;
using rh::TensorWriter;

// A fact by its key in roundhouse/ext/model.h.
Json model_json(const rh_export& target, const char* key);

// Writes `json` as a file of the export.
void write_json(const rh_export& target, const std::string& name, const Json& json);

// Writes the source's config.json with its quantization_config, that alone as quantization_config.json, and copies the
// side files.
void write_config(const rh_export& target, const Json& quantization);

// The folder's config.json. Throws rh::Error when it is missing or damaged.
Json read_config(const std::string& folder);
// As read_config, or an empty object.
Json read_config_or_empty(const std::string& folder);
// The text under `key`; `otherwise` when there is none.
std::string text_at(const Json& json, const char* key, const char* otherwise = "");
// config.json's quantization_config, or that of its text_config, or an empty object.
Json quantization_of(const Json& config);
// As quantization_of, from the folder's own file `name` where config.json says nothing of quantization: older exporters
// wrote that alone. Empty when there is no such file either, or it is damaged.
Json quantization_in(const std::string& folder, const char* name);

// The element type that config.json declares; f32 when it declares none. For another word, such as auto, that of
// the largest tensor of floating-point numbers in the folder.
rh_data_type config_dtype(const Json& config, const std::string& folder);

// What the checkpoint's configuration records of its tuning, as rh_reader.facts_json has it; {} when there is nothing.
Json recorded_facts(const Json& quantization);

}  // namespace roundhouse::formats

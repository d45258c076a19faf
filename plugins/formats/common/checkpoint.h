// A checkpoint's files through the host's extensions: tensors in safetensors, config.json, and what comes along.
#pragma once

#include <nlohmann/json.hpp>
#include <roundhouse/plugin.hpp>
#include <string>
#include <vector>

namespace roundhouse::formats {

using Json = nlohmann::ordered_json;  // keeps the source's order of keys

// model.safetensors of an export. Removed by the host unless finish() was called.
class TensorWriter {
 public:
  explicit TensorWriter(const rh_export& target);
  ~TensorWriter();
  TensorWriter(const TensorWriter&) = delete;
  TensorWriter& operator=(const TensorWriter&) = delete;

  void add(const std::string& name, const rh_tensor& tensor);
  // Adds a tensor of the plugin's own; `data` is read before this returns.
  void add(const std::string& name, const void* data, rh_data_type dtype, std::vector<int64_t> shape);
  void finish();

 private:
  const rh_safetensors& api_;
  rh_st_writer* writer_ = nullptr;
};

// The safetensors of a folder. Views are valid as long as this object.
class TensorReader {
 public:
  explicit TensorReader(const std::string& folder);
  ~TensorReader();
  TensorReader(const TensorReader&) = delete;
  TensorReader& operator=(const TensorReader&) = delete;

  struct Entry {
    std::string name;
    const rh_tensor* view;
  };
  const std::vector<Entry>& entries() const { return entries_; }  // in file order

 private:
  const rh_safetensors& api_;
  rh_st_reader* reader_ = nullptr;
  std::vector<Entry> entries_;
};

// A file of an export. Discarded unless commit() was called.
class OutputFile {
 public:
  OutputFile(const rh_export& target, const std::string& name);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* bytes, uint64_t size);
  void write_at(uint64_t offset, const void* bytes, uint64_t size);
  void commit();

 private:
  const rh_output& api_;
  rh_file* file_ = nullptr;
};

// Keys of rh_model.
Json model_json(const rh_export& target, const char* key);

// The source checkpoint's folder.
std::string model_folder(const rh_export& target);

// Writes `json` as a file of the export.
void write_json(const rh_export& target, const std::string& name, const Json& json);

// Writes the source's config.json with its quantization_config, that alone as quantization_config.json, and copies the
// side files.
void write_config(const rh_export& target, const Json& quantization);

// Copies what a checkpoint has beside weights and config.json: generation config, tokenizer, chat template, processors.
void copy_side_files(const rh_export& target);

// The folder's config.json. Throws rh::Error when it is missing or damaged.
Json read_config(const std::string& folder);
// As read_config, or an empty object.
Json read_config_or_empty(const std::string& folder);
// The text under `key`; `otherwise` when there is none.
std::string text_at(const Json& json, const char* key, const char* otherwise = "");
// config.json's quantization_config, or an empty object.
Json quantization_of(const Json& config);

// The element type that config.json declares; f32 when it declares none.
rh_data_type config_dtype(const Json& config);

// What a reader says of a stored layer. group_rows 1 and group_cols RH_GROUP_*, or what a group is.
rh_scheme stored_scheme(int bits, bool symmetric, int64_t group_rows, int64_t group_cols);

// A reader's answer for a tensor that is stored as it is.
void describe_tensor(const TensorReader::Entry& entry, rh_item& out);
void copy_tensor(const TensorReader::Entry& entry, rh_tensor& output);

}  // namespace roundhouse::formats

#include "plugins/formats/common/checkpoint.h"

#include <filesystem>
#include <fstream>

#include "plugins/formats/common/text.h"

namespace roundhouse::formats {
namespace fs = std::filesystem;
namespace {

// What a Hugging Face folder holds beside weights and config.json.
constexpr const char* kSideFiles[] = {"generation_config.json",
                                      "tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "tokenizer.model",
                                      "vocab.json",
                                      "merges.txt",
                                      "added_tokens.json",
                                      "vocab.txt",
                                      "chat_template.json",
                                      "chat_template.jinja",
                                      "preprocessor_config.json",
                                      "processor_config.json",
                                      "image_processor_config.json",
                                      "video_preprocessor_config.json"};

// Calls a fallible function of the host; its error becomes an exception.
template <typename Call>
void host_call(Call&& call) {
  rh_error error{};
  rh::check(call(&error), error);
}

}  // namespace

TensorWriter::TensorWriter(const rh_export& target) : api_(rh::required_extension<rh_safetensors>(RH_EXT_SAFETENSORS)) {
  // "format" tells transformers which framework's tensors these are.
  host_call([&](rh_error* e) { return api_.create(&target, R"({"format": "pt"})", &writer_, e); });
}

TensorWriter::~TensorWriter() {
  if (writer_) api_.abort(writer_);
}

void TensorWriter::add(const std::string& name, const rh_tensor& tensor) {
  host_call([&](rh_error* e) { return api_.add(writer_, name.c_str(), &tensor, e); });
}

void TensorWriter::add(const std::string& name, const void* data, rh_data_type dtype, std::vector<int64_t> shape) {
  add(name, *rh::View(const_cast<void*>(data), dtype, std::move(shape)).get());
}

void TensorWriter::finish() {
  host_call([&](rh_error* e) { return api_.finish(std::exchange(writer_, nullptr), e); });
}

TensorReader::TensorReader(const std::string& folder)
    : api_(rh::required_extension<rh_safetensors>(RH_EXT_SAFETENSORS)) {
  host_call([&](rh_error* e) { return api_.open(&rh::host(), folder.c_str(), &reader_, e); });
  try {
    const uint64_t count = api_.count(reader_);
    for (uint64_t i = 0; i < count; ++i) {
      const char* name = nullptr;
      const rh_tensor* view = nullptr;
      host_call([&](rh_error* e) { return api_.get(reader_, i, &name, &view, e); });
      entries_.push_back({name, view});
    }
  } catch (...) {
    api_.close(reader_);
    throw;
  }
}

TensorReader::~TensorReader() { api_.close(reader_); }

OutputFile::OutputFile(const rh_export& target, const std::string& name)
    : api_(rh::required_extension<rh_output>(RH_EXT_OUTPUT)) {
  host_call([&](rh_error* e) { return api_.create(&target, name.c_str(), &file_, e); });
}

OutputFile::~OutputFile() {
  if (file_) api_.discard(file_);
}

void OutputFile::write(const void* bytes, uint64_t size) {
  host_call([&](rh_error* e) { return api_.write(file_, bytes, size, e); });
}

void OutputFile::write_at(uint64_t offset, const void* bytes, uint64_t size) {
  host_call([&](rh_error* e) { return api_.write_at(file_, offset, bytes, size, e); });
}

void OutputFile::commit() {
  host_call([&](rh_error* e) { return api_.commit(std::exchange(file_, nullptr), e); });
}

std::string model_folder(const rh_export& target) {
  const char* folder = rh::required_extension<rh_model>(RH_EXT_MODEL).path(&target, "model");
  if (!folder) throw rh::Error(RH_UNIMPLEMENTED, "this host does not tell the model's folder");
  return folder;
}

Json model_json(const rh_export& target, const char* key) {
  const char* text = rh::required_extension<rh_model>(RH_EXT_MODEL).json(&target, key);
  if (!text) throw rh::Error(RH_UNIMPLEMENTED, cat("this host does not tell the model's ", key));
  return Json::parse(text);
}

void write_json(const rh_export& target, const std::string& name, const Json& json) {
  const std::string text = json.dump(2) + "\n";
  OutputFile file(target, name);
  file.write(text.data(), text.size());
  file.commit();
}

void write_config(const rh_export& target, const Json& quantization) {
  Json config = model_json(target, "config");
  config["quantization_config"] = quantization;
  write_json(target, "config.json", config);
  write_json(target, "quantization_config.json", quantization);
  copy_side_files(target);
}

void copy_side_files(const rh_export& target) {
  const std::string folder = model_folder(target);
  const auto& output = rh::required_extension<rh_output>(RH_EXT_OUTPUT);
  for (const char* name : kSideFiles) {
    const fs::path path = fs::path(folder) / name;
    if (!fs::is_regular_file(path)) continue;
    host_call([&](rh_error* e) { return output.copy(&target, path.c_str(), name, e); });
  }
}

Json read_config(const std::string& folder) {
  const std::string path = (fs::path(folder) / "config.json").string();
  std::ifstream file(path);
  if (!file) throw rh::Error(RH_NOT_FOUND, path + " cannot be read");
  try {
    Json config = Json::parse(file);
    if (config.is_object()) return config;
  } catch (const Json::exception& e) {
    throw rh::Error(RH_DATA_LOSS, cat(path, ": ", e.what()));
  }
  throw rh::Error(RH_DATA_LOSS, path + " is not a JSON object");
}

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
  return found != config.end() && found->is_object() ? *found : Json::object();
}

rh_data_type config_dtype(const Json& config) {
  // "torch_dtype" is the key's name before transformers 5.
  const std::string name = text_at(config, "dtype", text_at(config, "torch_dtype", "float32").c_str());
  if (name == "float32") return rh::kF32;
  if (name == "float16") return rh::kF16;
  if (name == "bfloat16") return rh::kBF16;
  throw rh::Error(RH_INVALID_ARGUMENT, cat("config.json: dtype ", name, " is not float32, float16 or bfloat16"));
}

rh_scheme stored_scheme(int bits, bool symmetric, int64_t group_rows, int64_t group_cols) {
  rh_scheme scheme{};
  scheme.struct_size = sizeof scheme;
  scheme.bits = bits;
  scheme.dtype = "";
  scheme.symmetric = symmetric;
  scheme.group_rows = group_rows;
  scheme.group_cols = group_cols;
  scheme.options_json = "{}";
  return scheme;
}

void describe_tensor(const TensorReader::Entry& entry, rh_item& out) {
  out.kind = RH_ITEM_TENSOR;
  out.name = entry.name.c_str();
  out.dtype = entry.view->dtype;
  out.ndim = entry.view->ndim;
  out.shape = entry.view->shape;
  out.encoding = nullptr;
}

void copy_tensor(const TensorReader::Entry& entry, rh_tensor& output) {
  rh::require(rh::same_type(output.dtype, entry.view->dtype) && rh::bytes(output) == rh::bytes(*entry.view),
              entry.name + ": the output has another element type or shape");
  std::memcpy(output.data, entry.view->data, rh::bytes(output));
}

}  // namespace roundhouse::formats

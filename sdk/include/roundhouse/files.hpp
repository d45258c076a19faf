// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: header-only C++ helper for formats, no part of the ABI: a checkpoint's files through the host's
// extensions. C++17, no dependency.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "ext/model.h"
#include "ext/output.h"
#include "ext/safetensors.h"
#include "plugin.hpp"

namespace rh {

// Calls a fallible function of the host, call(rh_error*); its error becomes an exception.
template <typename Call>
void host_call(Call&& call) {
  rh_error error{};
  check(call(&error), error);
}

// model.safetensors of an export. Removed by the host unless finish() was called.
class TensorWriter {
 public:
  explicit TensorWriter(const rh_export& target) : api_(required_extension<rh_safetensors>(RH_EXT_SAFETENSORS)) {
    // "format" tells transformers which framework's tensors these are.
    host_call([&](rh_error* e) { return api_.create(&target, R"({"format": "pt"})", &writer_, e); });
  }
  ~TensorWriter() {
    if (writer_) api_.abort(writer_);
  }
  TensorWriter(const TensorWriter&) = delete;
  TensorWriter& operator=(const TensorWriter&) = delete;

  void add(const std::string& name, const rh_tensor& tensor) {
    host_call([&](rh_error* e) { return api_.add(writer_, name.c_str(), &tensor, e); });
  }
  // Adds a tensor of the plugin's own; `data` is read before this returns.
  void add(const std::string& name, const void* data, rh_data_type dtype, std::vector<int64_t> shape) {
    add(name, *View(const_cast<void*>(data), dtype, std::move(shape)).get());
  }
  void finish() {
    host_call([&](rh_error* e) { return api_.finish(std::exchange(writer_, nullptr), e); });
  }

 private:
  const rh_safetensors& api_;
  rh_st_writer* writer_ = nullptr;
};

// The safetensors of a folder. Views are valid as long as this object.
class TensorReader {
 public:
  explicit TensorReader(const std::string& folder) : api_(required_extension<rh_safetensors>(RH_EXT_SAFETENSORS)) {
    host_call([&](rh_error* e) { return api_.open(&host(), folder.c_str(), &reader_, e); });
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
  ~TensorReader() { api_.close(reader_); }
  TensorReader(const TensorReader&) = delete;
  TensorReader& operator=(const TensorReader&) = delete;

  struct Entry {
    std::string name;
    const rh_tensor* view;
  };
  const std::vector<Entry>& entries() const { return entries_; }  // in file order
  // nullptr when there is no tensor of that name.
  const rh_tensor* find(const std::string& name) const {
    const rh_tensor* view = nullptr;
    rh_error error{};
    const rh_code code = api_.find(reader_, name.c_str(), &view, &error);
    if (code != RH_NOT_FOUND) check(code, error);
    return view;
  }

 private:
  const rh_safetensors& api_;
  rh_st_reader* reader_ = nullptr;
  std::vector<Entry> entries_;
};

// A file of an export. Discarded unless commit() was called.
class OutputFile {
 public:
  OutputFile(const rh_export& target, const std::string& name) : api_(required_extension<rh_output>(RH_EXT_OUTPUT)) {
    host_call([&](rh_error* e) { return api_.create(&target, name.c_str(), &file_, e); });
  }
  ~OutputFile() {
    if (file_) api_.discard(file_);
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* bytes, uint64_t size) {
    host_call([&](rh_error* e) { return api_.write(file_, bytes, size, e); });
  }
  void write_at(uint64_t offset, const void* bytes, uint64_t size) {
    host_call([&](rh_error* e) { return api_.write_at(file_, offset, bytes, size, e); });
  }
  void commit() {
    host_call([&](rh_error* e) { return api_.commit(std::exchange(file_, nullptr), e); });
  }

 private:
  const rh_output& api_;
  rh_file* file_ = nullptr;
};

inline void write_text(const rh_export& target, const std::string& name, const std::string& text) {
  OutputFile file(target, name);
  file.write(text.data(), text.size());
  file.commit();
}

// The JSON text under a key of rh_model.
inline std::string model_text(const rh_export& target, const char* key) {
  const char* text = required_extension<rh_model>(RH_EXT_MODEL).json(&target, key);
  if (!text) throw Error(RH_UNIMPLEMENTED, std::string("this host does not tell the model's ") + key);
  return text;
}

// The source checkpoint's folder.
inline std::string model_folder(const rh_export& target) {
  const char* folder = required_extension<rh_model>(RH_EXT_MODEL).path(&target, "model");
  if (!folder) throw Error(RH_UNIMPLEMENTED, "this host does not tell the model's folder");
  return folder;
}

// Copies what a Hugging Face folder has beside weights and config.json.
inline void copy_side_files(const rh_export& target) {
  const std::string folder = model_folder(target);
  const auto& output = required_extension<rh_output>(RH_EXT_OUTPUT);
  for (const char* name :
       {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json", "vocab.txt", "chat_template.json",
        "chat_template.jinja", "preprocessor_config.json", "processor_config.json", "image_processor_config.json",
        "video_preprocessor_config.json"}) {
    const std::filesystem::path path = std::filesystem::path(folder) / name;
    if (!std::filesystem::is_regular_file(path)) continue;
    host_call([&](rh_error* e) { return output.copy(&target, path.c_str(), name, e); });
  }
}

// The encoding's tensor of that name, or nullptr.
inline const rh_tensor* find_tensor(const rh_encoded_layer& encoded, const char* name) {
  const int i = tensor_index(*encoded.layer->encoding, name);
  return i < 0 ? nullptr : encoded.tensors[i];
}
// Throws Error when it is missing or has another number of elements.
inline const rh_tensor& require_tensor(const rh_encoded_layer& encoded, const char* name, int64_t count) {
  const rh_tensor* tensor = find_tensor(encoded, name);
  const std::string layer = encoded.layer->name;
  require(tensor, layer + ": the data type sent no " + name);
  require(elements(*tensor) == count, layer + ": " + name + " has " + std::to_string(elements(*tensor)) +
                                          " elements, not " + std::to_string(count));
  return *tensor;
}

// The encoding's tensors in a checkpoint that stores them as PREFIX.NAME, in the encoding's order. Throws Error for one
// that is missing or is not as the encoding declares it.
inline std::vector<const rh_tensor*> stored_tensors(const TensorReader& file, const std::string& prefix,
                                                    const rh_encoding& encoding) {
  std::vector<const rh_tensor*> tensors;
  for (uint32_t i = 0; i < encoding.tensor_count; ++i) {
    const rh_tensor_spec& spec = *encoding.tensors[i];
    const std::string name = prefix + "." + spec.name;
    const rh_tensor* const stored = file.find(name);
    if (!stored || !same_type(stored->dtype, spec.dtype) ||
        !std::equal(stored->shape, stored->shape + stored->ndim, spec.shape, spec.shape + spec.ndim))
      throw Error(RH_DATA_LOSS, name + (stored ? " is damaged" : " is missing"));
    tensors.push_back(stored);
  }
  return tensors;
}

// As rh_reader.read_encoded: `to` has the tensors' types and shapes.
inline void copy_tensors(const std::vector<const rh_tensor*>& from, rh_tensor* const* to) {
  for (size_t i = 0; i < from.size(); ++i) std::memcpy(to[i]->data, from[i]->data, bytes(*from[i]));
}

// A reader's answer for a tensor that is stored as it is.
inline void describe_tensor(const TensorReader::Entry& entry, rh_item& out) {
  out.kind = RH_ITEM_TENSOR;
  out.name = entry.name.c_str();
  out.dtype = entry.view->dtype;
  out.ndim = entry.view->ndim;
  out.shape = entry.view->shape;
}
inline void copy_tensor(const TensorReader::Entry& entry, rh_tensor& output) {
  require(same_type(output.dtype, entry.view->dtype) && bytes(output) == bytes(*entry.view),
          entry.name + ": the output has another element type or shape");
  std::memcpy(output.data, entry.view->data, bytes(output));
}

}  // namespace rh

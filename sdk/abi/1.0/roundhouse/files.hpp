// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: header-only C++ helper for formats, no part of the ABI: a checkpoint's files through the host's
// extensions. C++17, no dependency.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ext/model.h"
#include "ext/output.h"
#include "ext/safetensors.h"
#include "helper/expert_stacks.hpp"
#include "helper/side_files.hpp"
#include "plugin.hpp"

namespace rh {

// Calls a fallible function of the host, call(rh_error*); its error becomes an exception.
template <typename Call>
void host_call(Call&& call) {
  rh_error error{};
  check(call(&error), error);
}

// A call take(context, bytes, size) that keeps the bytes in the string `context`.
inline void take_bytes(void* context, const void* bytes, uint64_t size) {
  static_cast<std::string*>(context)->assign(static_cast<const char*>(bytes), size);
}

// The safetensors of an export, which must be told what they will hold before the first bytes are there. So add() is
// called twice for each tensor: before open() it notes name, type and shape, after it it writes. One function that
// describes what is stored, and is run twice, cannot say two things; SafetensorsWriter runs it so.
// Removed by the host unless finish() was called.
class TensorWriter {
 public:
  explicit TensorWriter(const rh_export& target, Experts experts = Experts::kTogether)
      : target_(target), api_(required_extension<rh_safetensors>(RH_EXT_SAFETENSORS)), stacks_(*target.plan, experts) {}
  ~TensorWriter() {
    if (writer_) api_.abort(writer_);
  }
  TensorWriter(const TensorWriter&) = delete;
  TensorWriter& operator=(const TensorWriter&) = delete;

  // Stores the tensor as it is. Before open() it has no data.
  void add(const std::string& name, const rh_tensor& tensor) {
    throw_if_cancelled();
    if (!writer_) return note(name, tensor.dtype, {tensor.shape, tensor.shape + tensor.ndim});
    if (const rh_part* part = stacks_.part(name))
      stacks_.add(*part, tensor, [&](const rh_tensor& whole) { store(part->tensor, whole); });
    else
      store(name, tensor);
  }
  // Stores what data() returns: a pointer, or a vector of as many bytes as the tensor has. It is called after open() only,
  // so that all that reads a layer's data belongs into it.
  template <typename Data>
  void add(const std::string& name, rh_data_type dtype, const std::vector<int64_t>& shape, Data&& data) {
    if (!writer_) return note(name, dtype, shape);
    const auto& made = data();
    const View view(const_cast<void*>(pointer(made)), dtype, shape);
    if constexpr (!std::is_pointer_v<std::decay_t<decltype(made)>>)
      require(made.size() * sizeof(*made.data()) == bytes(*view.get()),
              name + ": the data are not as many bytes as its type and shape say");
    add(name, *view.get());
  }

  // From here on add() writes. `saved`: as save() gave it, to go on from there, or nullptr.
  void open(const std::string* saved) {
    std::vector<rh_st_tensor> tensors;
    std::set<std::string> stacked;
    for (Noted& t : noted_) {
      if (const rh_part* part = stacks_.part(t.name)) {
        if (!stacked.insert(part->tensor).second) continue;
        t.name = part->tensor;
        t.shape = ExpertStacks::shape(*part, t.shape);
      }
      tensors.push_back(
          {sizeof(rh_st_tensor), static_cast<int32_t>(t.shape.size()), t.name.c_str(), t.dtype, 0, t.shape.data()});
    }
    std::vector<const rh_st_tensor*> pointers;
    for (const rh_st_tensor& t : tensors) pointers.push_back(&t);
    const char* const metadata = R"({"format": "pt"})";  // tells transformers which framework's tensors these are
    uint64_t stored = 0;  // bytes of `saved` that are the host's; then a number of them, and the stacks'
    if (saved) {
      ExpertStacks::require_saved(saved->size() >= sizeof stored);
      std::memcpy(&stored, saved->data(), sizeof stored);
      ExpertStacks::require_saved(stored <= saved->size() - sizeof stored);
      stacks_.restore(saved->substr(sizeof stored + stored));
    }
    host_call([&](rh_error* e) {
      return saved ? api_.restore(&target_, metadata, pointers.data(), pointers.size(), saved->data() + sizeof stored,
                                  stored, &writer_, e)
                   : api_.create(&target_, metadata, pointers.data(), pointers.size(), &writer_, e);
    });
    noted_ = {};
  }
  // Forces what was added to the disk.
  std::string save() {
    std::string stored;
    host_call([&](rh_error* e) { return api_.save(writer_, &take_bytes, &stored, e); });
    const uint64_t size = stored.size();
    return std::string(reinterpret_cast<const char*>(&size), sizeof size) + stored + stacks_.save();
  }
  // Throws Error when a tensor has not come.
  void finish() {
    host_call([&](rh_error* e) { return api_.finish(std::exchange(writer_, nullptr), e); });
  }

 private:
  struct Noted {
    std::string name;
    rh_data_type dtype;
    std::vector<int64_t> shape;
  };
  void note(const std::string& name, rh_data_type dtype, std::vector<int64_t> shape) {
    stacks_.note(name, dtype, shape);
    noted_.push_back({name, dtype, std::move(shape)});
  }
  void store(const std::string& name, const rh_tensor& tensor) {
    host_call([&](rh_error* e) { return api_.add(writer_, name.c_str(), &tensor, e); });
  }
  static const void* pointer(const void* data) { return data; }
  template <typename T>
  static const void* pointer(const std::vector<T>& data) {
    return data.data();
  }

  const rh_export& target_;
  const rh_safetensors& api_;
  ExpertStacks stacks_;
  rh_st_writer* writer_ = nullptr;
  std::vector<Noted> noted_;
};

// A writer of a checkpoint whose tensors are all in safetensors. It resumes: Format::resumes() may return true.
class SafetensorsWriter : public Writer {
 public:
  explicit SafetensorsWriter(const rh_export& target, Experts experts = Experts::kTogether)
      : target_(target), tensors_(target, experts) {}

  void start(const std::string* saved) override {
    const rh_plan& plan = *target_.plan;
    std::map<std::string, const rh_planned_tensor*> biases;  // of the quantized layers: they come with the layer
    for (uint64_t i = 0; i < plan.tensor_count; ++i)
      if (const rh_format_layer* layer = plan.tensors[i]->layer) biases[layer->name + std::string(".bias")] = nullptr;
    for (uint64_t i = 0; i < plan.tensor_count; ++i) {
      const auto bias = biases.find(plan.tensors[i]->name);
      if (bias != biases.end()) bias->second = plan.tensors[i];
    }
    for (uint64_t i = 0; i < plan.tensor_count; ++i) {
      const rh_planned_tensor& tensor = *plan.tensors[i];
      if (tensor.layer)
        note_layer(*tensor.layer, biases[tensor.layer->name + std::string(".bias")]);
      else if (!biases.count(tensor.name))
        store_tensor(tensor.name, without_data(tensor.dtype, tensor.ndim, tensor.shape), tensors_);
    }
    tensors_.open(saved);
  }
  void add_layer(const rh_encoded_layer& layer) override { store_layer(layer, tensors_); }
  void add_tensor(const std::string& name, const rh_tensor& tensor) override { store_tensor(name, tensor, tensors_); }
  void finish() override {
    tensors_.finish();
    write_files();
  }
  std::string save() override { return tensors_.save(); }

 protected:
  // Adds to `out` what a layer is stored as. Runs twice for each layer: at the start of the export, with the encodings of
  // the plan and tensors whose data are NULL, and when the layer has come. So it keeps nothing, reads types and shapes
  // where it likes, and data only in the functions that it hands to out.add().
  virtual void store_layer(const rh_encoded_layer& layer, TensorWriter& out) = 0;
  // The same for a tensor that is not quantized.
  virtual void store_tensor(const std::string& name, const rh_tensor& tensor, TensorWriter& out) {
    out.add(name, tensor);
  }
  // Writes the other files, when all tensors are there.
  virtual void write_files() = 0;

  const rh_export& target() const { return target_; }

 private:
  static rh_tensor without_data(rh_data_type dtype, int32_t ndim, const int64_t* shape) {
    return {nullptr, {RH_DEVICE_CPU, 0}, ndim, dtype, const_cast<int64_t*>(shape), nullptr, 0};
  }
  // The tensors of an encoding, without data.
  struct NoData {
    explicit NoData(const rh_encoding* encoding) {
      for (uint32_t i = 0; encoding && i < encoding->tensor_count; ++i) {
        const rh_tensor_spec& spec = *encoding->tensors[i];
        tensors.push_back(without_data(spec.dtype, spec.ndim, spec.shape));
      }
      for (const rh_tensor& tensor : tensors) pointers.push_back(&tensor);
    }
    std::vector<rh_tensor> tensors;
    std::vector<const rh_tensor*> pointers;
  };
  void note_layer(const rh_format_layer& layer, const rh_planned_tensor* planned_bias) {
    const NoData weight(layer.encoding), activation(layer.activation_encoding);
    const rh_tensor bias =
        planned_bias ? without_data(planned_bias->dtype, planned_bias->ndim, planned_bias->shape) : rh_tensor{};
    store_layer({sizeof(rh_encoded_layer), 0, &layer, weight.pointers.data(), planned_bias ? &bias : nullptr,
                 layer.activation_encoding ? activation.pointers.data() : nullptr},
                tensors_);
  }

  const rh_export& target_;
  TensorWriter tensors_;
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
  // The file that an earlier process left, cut to the length that its sync() had returned.
  OutputFile(const rh_export& target, const std::string& name, uint64_t length)
      : api_(required_extension<rh_output>(RH_EXT_OUTPUT)) {
    host_call([&](rh_error* e) { return api_.reopen(&target, name.c_str(), length, &file_, e); });
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
  // Forces the file to the disk and returns its length.
  uint64_t sync() {
    uint64_t length = 0;
    host_call([&](rh_error* e) { return api_.sync(file_, &length, e); });
    return length;
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
  const std::filesystem::path folder = model_folder(target);
  const auto& output = required_extension<rh_output>(RH_EXT_OUTPUT);
  for (const std::string& name : side_files(folder)) {
    const std::string path = (folder / name).string();
    host_call([&](rh_error* e) { return output.copy(&target, path.c_str(), name.c_str(), e); });
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

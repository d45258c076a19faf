// SPDX-License-Identifier: Apache-2.0
#include "host/abi/export_session.h"

#include <roundhouse/ext/decode.h>
#include <roundhouse/ext/model.h>
#include <roundhouse/ext/output.h>
#include <roundhouse/ext/safetensors.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "host/abi/services.h"
#include "host/base/cancel.h"
#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"

// ---- the objects behind the opaque types of host.h ----

struct rh_file {
  roundhouse::OutputFolder::File file;
};

struct rh_st_reader {
  // A tensor that was asked for: its view borrows from it.
  struct Loaded {
    roundhouse::Tensor tensor;
    rh_tensor view;
  };

  explicit rh_st_reader(const char* folder) : source(folder), names(source.names()) {
    const std::lock_guard<std::mutex> lock(mutex());
    live().insert(this);
  }
  ~rh_st_reader() {
    const std::lock_guard<std::mutex> lock(mutex());
    live().erase(this);
  }
  rh_st_reader(const rh_st_reader&) = delete;
  rh_st_reader& operator=(const rh_st_reader&) = delete;

  static std::set<const rh_st_reader*>& live() {
    static std::set<const rh_st_reader*> readers;
    return readers;
  }
  static std::mutex& mutex() {
    static std::mutex instance;
    return instance;
  }

  const rh_tensor* view(const std::string& name) {
    auto& loaded = tensors[name];
    if (!loaded) {
      auto fresh = std::make_unique<Loaded>(Loaded{source.map(name), {}});
      fresh->view = fresh->tensor.view();
      loaded = std::move(fresh);
    }
    return &loaded->view;
  }

  roundhouse::SafetensorsFolder source;
  std::vector<std::string> names;
  std::map<std::string, std::unique_ptr<Loaded>> tensors;
};

struct rh_st_writer {
  roundhouse::SafetensorsWriter writer;
};

namespace roundhouse {
namespace {

using nlohmann::json;

const char* find_text(const std::map<std::string, std::string>& texts, const std::string& key) {
  const auto found = texts.find(key);
  return found == texts.end() ? nullptr : found->second.c_str();
}

// Descriptions that a plugin hands in; a missing one is the plugin's mistake and must not be ours.
template <typename T>
T& given(T* pointer, const char* what) {
  if (!pointer) throw Error(cat("the plugin passed no ", what));
  return *pointer;
}

// ---- model ----

const char* model_json(const rh_export* export_, const char* key) {
  const char* value = nullptr;
  answer_plugin(nullptr, [&] { value = ExportSession::of(export_).json(&given(key, "key")); });
  return value;
}

const char* model_path(const rh_export* export_, const char* key) {
  const char* value = nullptr;
  answer_plugin(nullptr, [&] { value = ExportSession::of(export_).path(&given(key, "key")); });
  return value;
}

// ---- output ----

rh_code output_create(const rh_export* export_, const char* name, rh_file** out, rh_error* error) {
  return answer_plugin(
      error, [&] { *out = new rh_file{ExportSession::of(export_).folder().create(&given(name, "file name"))}; });
}

rh_code output_write(rh_file* file, const void* bytes, uint64_t size, rh_error* error) {
  return answer_plugin(error, [&] { file->file.write(bytes, size); });
}

rh_code output_write_at(rh_file* file, uint64_t offset, const void* bytes, uint64_t size, rh_error* error) {
  return answer_plugin(error, [&] { file->file.write_at(offset, bytes, size); });
}

rh_code output_commit(rh_file* file, rh_error* error) {
  const std::unique_ptr<rh_file> owned(file);
  return answer_plugin(error, [&] { owned->file.commit(); });
}

void output_discard(rh_file* file) { delete file; }

rh_code output_sync(rh_file* file, uint64_t* length, rh_error* error) {
  return answer_plugin(error, [&] {
    const uint64_t bytes = file->file.sync();
    if (length) *length = bytes;
  });
}

rh_code output_reopen(const rh_export* export_, const char* name, uint64_t length, rh_file** out, rh_error* error) {
  return answer_plugin(error, [&] {
    *out = new rh_file{ExportSession::of(export_).folder().reopen(&given(name, "file name"), length)};
  });
}

rh_code output_copy(const rh_export* export_, const char* path, const char* name, rh_error* error) {
  return answer_plugin(
      error, [&] { ExportSession::of(export_).folder().copy(&given(path, "path"), &given(name, "file name")); });
}

// ---- safetensors ----

rh_code reader_open(const rh_host*, const char* folder, rh_st_reader** out, rh_error* error) {
  return answer_plugin(error, [&] { *out = new rh_st_reader(&given(folder, "folder")); });
}

uint64_t reader_count(const rh_st_reader* reader) { return reader->names.size(); }

rh_code reader_get(rh_st_reader* reader, uint64_t index, const char** name, const rh_tensor** view, rh_error* error) {
  if (index >= reader->names.size()) return report_error(error, RH_OUT_OF_RANGE, "no tensor has that index");
  return answer_plugin(error, [&] {
    const std::string& found = reader->names[index];
    if (view) *view = reader->view(found);
    if (name) *name = found.c_str();
  });
}

rh_code reader_find(rh_st_reader* reader, const char* name, const rh_tensor** view, rh_error* error) {
  return answer_plugin(error, [&] {
    if (!name || !reader->source.contains(name))
      throw Error(cat("there is no tensor ", name ? name : ""), Failure::kNotFound);
    *view = reader->view(name);
  });
}

void reader_close(rh_st_reader* reader) { delete reader; }

// Whether the bits of the tensor are more than a number of 64 bits counts.
bool too_large(const rh_st_tensor& tensor) {
  int64_t bits = tensor.dtype.bits;
  for (int32_t i = 0; i < tensor.ndim; ++i)
    if (__builtin_mul_overflow(bits, tensor.shape[i], &bits)) return true;
  return false;
}

rh_st_writer* make_writer(const rh_export* export_, const char* metadata_json, const rh_st_tensor* const* tensors,
                          uint64_t count, std::string_view saved) {
  const auto& session = ExportSession::of(export_);
  std::vector<TensorSpec> specs;
  for (uint64_t i = 0; i < count; ++i) {
    const rh_st_tensor& t = given((&given(tensors, "list of tensors"))[i], "tensor");
    const std::string name = &given(t.name, "tensor name");
    if (t.ndim < 0 || t.ndim > RH_MAX_DIMS || (t.ndim > 0 && !t.shape) ||
        std::any_of(t.shape, t.shape + t.ndim, [](int64_t size) { return size < 0; }) || too_large(t))
      throw Error(cat("tensor ", name, " has no shape that a tensor can have"));
    specs.push_back({name, from_rh(t.dtype), {t.shape, t.shape + t.ndim}});
  }
  const json metadata = json::parse(metadata_json ? metadata_json : "{}", nullptr, /*allow_exceptions=*/false);
  if (!metadata.is_object() ||
      std::any_of(metadata.begin(), metadata.end(), [](const json& value) { return !value.is_string(); }))
    throw Error("the metadata of safetensors files are no JSON object of strings");
  std::unique_ptr<rh_st_writer> writer(new rh_st_writer{SafetensorsWriter(
      session.folder(), session.max_shard_bytes(), metadata.get<std::map<std::string, std::string>>(), specs, saved)});
  session.announce(writer->writer.bytes());
  return writer.release();
}

rh_code writer_create(const rh_export* export_, const char* metadata_json, const rh_st_tensor* const* tensors,
                      uint64_t count, rh_st_writer** out, rh_error* error) {
  return answer_plugin(error, [&] { *out = make_writer(export_, metadata_json, tensors, count, {}); });
}

rh_code writer_restore(const rh_export* export_, const char* metadata_json, const rh_st_tensor* const* tensors,
                       uint64_t count, const void* bytes, uint64_t size, rh_st_writer** out, rh_error* error) {
  return answer_plugin(error, [&] {
    const std::string_view saved(static_cast<const char*>(bytes), size);
    if (saved.empty()) throw Error("nothing was saved of the safetensors files", Failure::kDataLoss);
    *out = make_writer(export_, metadata_json, tensors, count, saved);
  });
}

rh_code writer_save(rh_st_writer* writer, void (*take)(void* context, const void* bytes, uint64_t size), void* context,
                    rh_error* error) {
  return answer_plugin(error, [&] {
    const std::string saved = writer->writer.save();
    take(context, saved.data(), saved.size());
  });
}

rh_code writer_add(rh_st_writer* writer, const char* name, const rh_tensor* tensor, rh_error* error) {
  return answer_plugin(error, [&] {
    const rh_tensor& t = given(tensor, "tensor");
    if (t.device.type != RH_DEVICE_CPU || t.strides)
      throw Error(cat("tensor ", &given(name, "tensor name"), " is not a contiguous tensor in host memory"));
    writer->writer.add(&given(name, "tensor name"), from_rh(t.dtype), {t.shape, t.shape + t.ndim}, t.data);
  });
}

rh_code writer_finish(rh_st_writer* writer, rh_error* error) {
  const std::unique_ptr<rh_st_writer> owned(writer);
  return answer_plugin(error, [&] { owned->writer.finish(); });
}

void writer_abort(rh_st_writer* writer) { delete writer; }

// ---- decode ----

rh_code decode(const rh_export* export_, const rh_encoded_layer* layer, rh_tensor* output, rh_error* error) {
  return answer_plugin(
      error, [&] { ExportSession::of(export_).decode(given(layer, "layer"), given(output, "output tensor")); });
}

constexpr rh_model kModel{sizeof(rh_model), 0, &model_json, &model_path};
constexpr rh_output kOutput{sizeof(rh_output), 0,
                            &output_create,    &output_write,
                            &output_write_at,  &output_commit,
                            &output_discard,   &output_copy,
                            &output_sync,      &output_reopen};
constexpr rh_safetensors kSafetensors{
    sizeof(rh_safetensors), 0,           &reader_open,   &reader_count, &reader_get,  &reader_find,   &reader_close,
    &writer_create,         &writer_add, &writer_finish, &writer_abort, &writer_save, &writer_restore};
constexpr rh_decode kDecode{sizeof(rh_decode), 0, &decode};

}  // namespace

const void* export_extension(const char* id) {
  const std::string_view name(id);
  if (name == RH_EXT_MODEL) return &kModel;
  if (name == RH_EXT_OUTPUT) return &kOutput;
  if (name == RH_EXT_SAFETENSORS) return &kSafetensors;
  if (name == RH_EXT_DECODE) return &kDecode;
  return nullptr;
}

ExportSession::ExportSession(OutputFolder& folder, const Facts& facts, const rh_plan& plan, uint64_t max_shard_bytes,
                             Decode decode, const rh_host* host)
    : folder_(folder), large_(facts.large), paths_(facts.paths), decode_(std::move(decode)) {
  for (const auto& [key, value] : facts.json) json_[key] = value.dump();
  table_ = {sizeof table_, 0, host, this, &plan, max_shard_bytes, cancellation_flag()};
}

const char* ExportSession::json(const std::string& key) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto large = large_.find(key); large != large_.end() && !json_.contains(key))
    json_[key] = large->second().dump();
  return find_text(json_, key);
}
const char* ExportSession::path(const std::string& key) const { return find_text(paths_, key); }

void release_reader_pages() {
  const std::lock_guard<std::mutex> lock(rh_st_reader::mutex());
  for (const rh_st_reader* reader : rh_st_reader::live()) reader->source.release_pages();
}

}  // namespace roundhouse

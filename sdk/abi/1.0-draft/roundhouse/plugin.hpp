// Roundhouse SDK: header-only C++ helper. Not part of the ABI: it turns C++ classes into the C tables.
//
// Derive from Dtype and Quantizer, or from Format, Writer and Reader; throw rh::Error for what the user must know;
// then register with RH_PLUGIN. Every call from the host runs behind a trampoline that turns exceptions into rh_error.
// C++17, no dependency.
#pragma once

#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "dtype.h"
#include "encodings.h"
#include "entry.h"
#include "format.h"
#include "helper/text.h"

namespace rh {

// What a plugin throws; the host shows the message.
class Error : public std::runtime_error {
 public:
  Error(rh_code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  rh_code code() const { return code_; }

 private:
  rh_code code_;
};

inline void require(bool condition, const std::string& message) {
  if (!condition) throw Error(RH_INVALID_ARGUMENT, message);
}

inline rh_code set_error(rh_error* error, rh_code code, const char* message) noexcept {
  if (error) {
    error->code = code;
    copy_text(error->message, sizeof error->message, message);
  }
  return code;
}

// Runs `body` so that no exception leaves it.
template <typename Body>
rh_code guard(rh_error* error, Body&& body) noexcept {
  try {
    body();
    return RH_OK;
  } catch (const Error& e) {
    return set_error(error, e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return set_error(error, RH_RESOURCE_EXHAUSTED, "out of memory");
  } catch (const std::exception& e) {
    return set_error(error, RH_INTERNAL, e.what());
  } catch (...) {
    return set_error(error, RH_INTERNAL, "an exception of unknown type");
  }
}

// Throws what a host call reported.
inline void check(rh_code code, const rh_error& error) {
  if (code != RH_OK) throw Error(code, error.message);
}

// ---- the host ----

inline const rh_host*& host_slot() {
  static const rh_host* host = nullptr;
  return host;
}
// The host that loaded this plugin; never null between init and deinit.
inline const rh_host& host() { return *host_slot(); }

// An extension of the host, or nullptr.
template <typename Table>
const Table* extension(const char* id) {
  return static_cast<const Table*>(host().get_extension(&host(), id));
}
// An extension that the plugin cannot do without.
template <typename Table>
const Table& required_extension(const char* id) {
  const auto* table = extension<Table>(id);
  if (!table) throw Error(RH_UNIMPLEMENTED, std::string("this host lacks the extension ") + id);
  return *table;
}

inline void log(int32_t severity, const std::string& message) {
  if (const auto* table = extension<rh_log>(RH_EXT_LOG)) table->write(&host(), severity, message.c_str());
}

// Chunks of `grain` items over [0, n) on the host's threads; in order on this thread when the host offers none.
// An exception thrown by body(begin, end) is rethrown here.
template <typename Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  struct Context {
    std::remove_reference_t<Body>* body;
    std::mutex mutex;
    std::exception_ptr failure;
  } context{&body, {}, nullptr};
  const auto chunk = [](void* opaque, int64_t begin, int64_t end) {
    auto& c = *static_cast<Context*>(opaque);
    try {
      (*c.body)(begin, end);
    } catch (...) {
      std::lock_guard<std::mutex> lock(c.mutex);
      c.failure = std::current_exception();
    }
  };
  if (const auto* table = extension<rh_parallel>(RH_EXT_PARALLEL)) {
    table->parallel_for(&host(), n, grain, chunk, &context);
  } else {
    for (int64_t begin = 0; begin < n; begin += grain) chunk(&context, begin, begin + grain < n ? begin + grain : n);
  }
  if (context.failure) std::rethrow_exception(context.failure);
}

// ---- tensors ----

constexpr rh_data_type kF32{RH_KIND_FLOAT, 32, 1};
constexpr rh_data_type kF16{RH_KIND_FLOAT, 16, 1};
constexpr rh_data_type kBF16{RH_KIND_BFLOAT, 16, 1};
constexpr rh_data_type kU8{RH_KIND_UINT, 8, 1};
constexpr rh_data_type kI8{RH_KIND_INT, 8, 1};
constexpr rh_data_type kI32{RH_KIND_INT, 32, 1};
constexpr rh_data_type kI64{RH_KIND_INT, 64, 1};

inline bool same_type(rh_data_type a, rh_data_type b) {
  return a.kind == b.kind && a.bits == b.bits && a.lanes == b.lanes;
}
inline int64_t elements(const rh_tensor& t) {
  int64_t n = 1;
  for (int32_t i = 0; i < t.ndim; ++i) n *= t.shape[i];
  return n;
}
inline uint64_t bytes(const rh_tensor& t) { return static_cast<uint64_t>(elements(t)) * (t.dtype.bits / 8); }
template <typename T>
T* data(const rh_tensor& t) {
  return static_cast<T*>(t.data);
}
template <typename T>
T* data_or_null(const rh_tensor* t) {
  return t ? static_cast<T*>(t->data) : nullptr;
}
// Element `i` of an optional array of optional tensors.
inline rh_tensor* at(rh_tensor* const* tensors, size_t i) { return tensors ? tensors[i] : nullptr; }
inline const rh_tensor* at(const rh_tensor* const* tensors, size_t i) { return tensors ? tensors[i] : nullptr; }

// A contiguous CPU tensor view over memory of the plugin's own.
class View {
 public:
  View(void* data, rh_data_type dtype, std::vector<int64_t> shape) : shape_(std::move(shape)) {
    tensor_ = rh_tensor{data, {RH_DEVICE_CPU, 0}, static_cast<int32_t>(shape_.size()), dtype, shape_.data(), nullptr, 0};
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  const rh_tensor* get() const { return &tensor_; }

 private:
  std::vector<int64_t> shape_;
  rh_tensor tensor_;
};

// A list of tensor declarations that hands out the C array.
class Specs {
 public:
  rh_tensor_spec& add(const char* name, rh_data_type dtype, std::initializer_list<int64_t> shape) {
    auto spec = std::make_unique<rh_tensor_spec>();
    *spec = rh_tensor_spec{};
    spec->struct_size = sizeof(rh_tensor_spec);
    spec->name = name;
    spec->dtype = dtype;
    for (int64_t n : shape) spec->shape[spec->ndim++] = n;
    spec->clamp_min = -std::numeric_limits<double>::infinity();
    spec->clamp_max = std::numeric_limits<double>::infinity();
    pointers_.push_back(spec.get());
    owned_.push_back(std::move(spec));
    return *owned_.back();
  }
  uint32_t count() const { return static_cast<uint32_t>(pointers_.size()); }
  const rh_tensor_spec* const* data() const { return pointers_.data(); }
  const rh_tensor_spec& operator[](size_t i) const { return *pointers_[i]; }

 private:
  std::vector<std::unique_ptr<rh_tensor_spec>> owned_;
  std::vector<const rh_tensor_spec*> pointers_;
};

// ---- data types ----

// One layer's quantizer. Fill info_ (and the specs that it points to) in the constructor.
class Quantizer {
 public:
  Quantizer() {
    info_.struct_size = sizeof info_;
    encoding_.struct_size = sizeof encoding_;
  }
  virtual ~Quantizer() = default;
  Quantizer(const Quantizer&) = delete;
  Quantizer& operator=(const Quantizer&) = delete;

  // Points info_ at the specs. Called once, after construction.
  const rh_quantizer_info* info() {
    info_.tunable_count = tunables_.count();
    info_.tunables = tunables_.data();
    info_.state_count = states_.count();
    info_.states = states_.data();
    info_.result_count = results_.count();
    info_.results = results_.data();
    if (encoding_.id) {
      encoding_.parameters_json = encoding_parameters_.c_str();
      encoding_.tensor_count = encoded_.count();
      encoding_.tensors = encoded_.data();
      info_.encoding = &encoding_;
    }
    return &info_;
  }
  virtual uint64_t workspace_size(int32_t /*operation*/, int32_t /*device_type*/, int64_t /*rows*/) const { return 0; }
  virtual void measure(const rh_exec&, const rh_measure_args&) { unsupported("measure"); }
  virtual void prepare(const rh_exec&, const rh_prepare_args&) { unsupported("prepare"); }
  virtual void forward(const rh_exec&, const rh_forward_args&) = 0;
  virtual void backward(const rh_exec&, const rh_backward_args&) { unsupported("backward"); }
  // A class that has sign_step() says so; for others the host steps with backward().
  virtual bool has_sign_step() const { return false; }
  virtual void sign_step(const rh_exec&, const rh_sign_step_args&) { unsupported("sign_step"); }
  virtual void encode(const rh_exec&, const rh_encode_args&) { unsupported("encode"); }
  virtual void decode(const rh_exec&, const rh_decode_args&) { unsupported("decode"); }

 protected:
  rh_quantizer_info info_{};
  rh_encoding encoding_{};
  std::string encoding_parameters_ = "{}";
  Specs tunables_, states_, results_, encoded_;

 private:
  [[noreturn]] static void unsupported(const char* what) {
    throw Error(RH_UNIMPLEMENTED, std::string("this data type has no ") + what);
  }
};

struct Alias {
  const char* name;
  const char* scheme_json;
};

// One data type.
class Dtype {
 public:
  // All strings must live as long as the plugin.
  Dtype(const char* id, const char* summary, const char* encoding, uint32_t supports, std::vector<Alias> aliases,
        const char* options_schema_json = "{}") {
    for (const auto& a : aliases) alias_storage_.push_back({sizeof(rh_alias), 0, a.name, a.scheme_json});
    for (const auto& a : alias_storage_) alias_pointers_.push_back(&a);
    descriptor_ = {sizeof descriptor_, supports, id, summary, encoding, options_schema_json,
                   static_cast<uint32_t>(alias_pointers_.size()), 0, alias_pointers_.data()};
    table_ = {sizeof table_, 0, this, &descriptor_, &check_trampoline, &create_trampoline, nullptr};
  }
  virtual ~Dtype() = default;
  Dtype(const Dtype&) = delete;
  Dtype& operator=(const Dtype&) = delete;

  // Throws Error when it cannot quantize the layer.
  virtual void check(const rh_layer& layer) const = 0;
  virtual std::unique_ptr<Quantizer> create(const rh_layer& layer) const = 0;

  const rh_dtype* table() const { return &table_; }

 private:
  struct Instance {
    rh_quantizer table;
    std::unique_ptr<Quantizer> object;
    const rh_quantizer_info* info;
  };
  static Instance& instance(const rh_quantizer* q) { return *static_cast<Instance*>(q->data); }

  static rh_code check_trampoline(const rh_dtype* dtype, const rh_layer* layer, rh_error* error) {
    return guard(error, [&] { static_cast<const Dtype*>(dtype->data)->check(*layer); });
  }

  static rh_code create_trampoline(const rh_dtype* dtype, const rh_layer* layer, rh_quantizer** out, rh_error* error) {
    return guard(error, [&] {
      const auto* self = static_cast<const Dtype*>(dtype->data);
      self->check(*layer);
      auto made = std::make_unique<Instance>();
      made->object = self->create(*layer);
      made->info = made->object->info();
      auto& t = made->table;
      t = rh_quantizer{};
      t.struct_size = sizeof t;
      t.data = made.get();
      t.destroy = [](rh_quantizer* q) { delete &instance(q); };
      t.info = [](const rh_quantizer* q) { return instance(q).info; };
      t.workspace_size = [](const rh_quantizer* q, int32_t operation, int32_t device_type, int64_t rows) {
        return instance(q).object->workspace_size(operation, device_type, rows);
      };
      t.measure = &call<rh_measure_args, &Quantizer::measure>;
      t.prepare = &call<rh_prepare_args, &Quantizer::prepare>;
      t.forward = &call<rh_forward_args, &Quantizer::forward>;
      if (self->descriptor_.supports & RH_SUPPORTS_TUNING) {
        t.backward = &call<rh_backward_args, &Quantizer::backward>;
        if (made->object->has_sign_step()) t.sign_step = &call<rh_sign_step_args, &Quantizer::sign_step>;
      }
      t.encode = &call<rh_encode_args, &Quantizer::encode>;
      t.decode = &call<rh_decode_args, &Quantizer::decode>;
      *out = &made.release()->table;
    });
  }

  template <typename Args, void (Quantizer::*method)(const rh_exec&, const Args&)>
  static rh_code call(rh_quantizer* q, const rh_exec* exec, const Args* args, rh_error* error) {
    return guard(error, [&] { (instance(q).object.get()->*method)(*exec, *args); });
  }

  std::vector<rh_alias> alias_storage_;
  std::vector<const rh_alias*> alias_pointers_;
  rh_dtype_descriptor descriptor_;
  rh_dtype table_;
};

// ---- formats ----

class Writer {
 public:
  virtual ~Writer() = default;
  virtual void add_layer(const rh_encoded_layer& layer) = 0;
  virtual void add_tensor(const std::string& name, const rh_tensor& tensor) = 0;
  virtual void finish() = 0;
};

class Reader {
 public:
  virtual ~Reader() = default;
  virtual uint64_t count() const = 0;
  // Fills what it knows; the rest is 0. struct_size stays.
  virtual void item(uint64_t index, rh_item& out) = 0;
  virtual void read(uint64_t index, rh_tensor& output) = 0;
  virtual void read_encoded(uint64_t /*index*/, rh_tensor* const* /*tensors*/) {
    throw Error(RH_UNIMPLEMENTED, "this format does not give encoded layers back");
  }
  virtual void read_activation(uint64_t /*index*/, rh_tensor* const* /*tensors*/) {
    throw Error(RH_UNIMPLEMENTED, "this format does not give activation ranges back");
  }
};

// For a format that gives layers data types by their roles: rh_assign.
class Assigner {
 public:
  virtual ~Assigner() = default;
  // JSON to JSON, as rh_assign.assign.
  virtual std::string assign(const char* plan, const char* architecture, const char* options) const = 0;
};

class Format {
 public:
  // All strings must live as long as the plugin.
  Format(const char* id, const char* summary, std::vector<const char*> encodings,
         const char* options_schema_json = "{}")
      : encodings_(std::move(encodings)) {
    descriptor_ = {sizeof descriptor_, static_cast<uint32_t>(encodings_.size()), id, summary, encodings_.data(),
                   options_schema_json};
    table_ = {sizeof table_,        0,                 this,              &descriptor_,     &check_trampoline,
              &backends_trampoline, &begin_trampoline, &probe_trampoline, &open_trampoline, &extension_trampoline};
  }
  virtual ~Format() = default;
  Format(const Format&) = delete;
  Format& operator=(const Format&) = delete;

  // Throws Error when it cannot hold the layer.
  virtual void check(const rh_format_query& query) const = 0;
  // What a checkpoint has but one of, as this layer needs it: rh_uniform. "": nothing.
  virtual std::string uniform(const rh_format_query&) const { return ""; }
  virtual const char* backends_json() const { return "[]"; }
  virtual std::unique_ptr<Writer> begin(const rh_export& target) const = 0;
  virtual int32_t probe(const std::string& folder) const = 0;
  virtual std::unique_ptr<Reader> open(const rh_open& source) const = 0;
  // nullptr: layers have the recipe's schemes.
  virtual const Assigner* assigner() const { return nullptr; }

  const rh_format* table() const { return &table_; }

 private:
  template <typename Table, typename Object>
  struct Instance {
    Table table;
    std::unique_ptr<Object> object;
  };
  using WriterInstance = Instance<rh_writer, Writer>;
  using ReaderInstance = Instance<rh_reader, Reader>;
  static WriterInstance& instance(const rh_writer* w) { return *static_cast<WriterInstance*>(w->data); }
  static ReaderInstance& instance(const rh_reader* r) { return *static_cast<ReaderInstance*>(r->data); }
  static const Format& self(const rh_format* format) { return *static_cast<const Format*>(format->data); }

  static rh_code check_trampoline(const rh_format* format, const rh_format_query* query, rh_error* error) {
    return guard(error, [&] { self(format).check(*query); });
  }
  static const char* backends_trampoline(const rh_format* format) { return self(format).backends_json(); }
  static int32_t probe_trampoline(const rh_format* format, const char* folder) {
    int32_t score = 0;
    guard(nullptr, [&] { score = self(format).probe(folder); });
    return score;
  }

  static rh_code begin_trampoline(const rh_format* format, const rh_export* target, rh_writer** out, rh_error* error) {
    return guard(error, [&] {
      auto made = std::make_unique<WriterInstance>();
      made->object = self(format).begin(*target);
      auto& t = made->table;
      t = rh_writer{};
      t.struct_size = sizeof t;
      t.data = made.get();
      t.add_layer = [](rh_writer* w, const rh_encoded_layer* layer, rh_error* e) {
        return guard(e, [&] { instance(w).object->add_layer(*layer); });
      };
      t.add_tensor = [](rh_writer* w, const char* name, const rh_tensor* tensor, rh_error* e) {
        return guard(e, [&] { instance(w).object->add_tensor(name, *tensor); });
      };
      t.finish = [](rh_writer* w, rh_error* e) {
        std::unique_ptr<WriterInstance> owned(&instance(w));
        return guard(e, [&] { owned->object->finish(); });
      };
      t.abort = [](rh_writer* w) { delete &instance(w); };
      *out = &made.release()->table;
    });
  }

  static rh_code open_trampoline(const rh_format* format, const rh_open* source, rh_reader** out, rh_error* error) {
    return guard(error, [&] {
      auto made = std::make_unique<ReaderInstance>();
      made->object = self(format).open(*source);
      auto& t = made->table;
      t = rh_reader{};
      t.struct_size = sizeof t;
      t.data = made.get();
      t.close = [](rh_reader* r) { delete &instance(r); };
      t.count = [](const rh_reader* r) { return instance(r).object->count(); };
      t.item = [](rh_reader* r, uint64_t index, rh_item* item, rh_error* e) {
        return guard(e, [&] { instance(r).object->item(index, *item); });
      };
      t.read = [](rh_reader* r, uint64_t index, rh_tensor* output, rh_error* e) {
        return guard(e, [&] { instance(r).object->read(index, *output); });
      };
      t.read_encoded = [](rh_reader* r, uint64_t index, rh_tensor* const* tensors, rh_error* e) {
        return guard(e, [&] { instance(r).object->read_encoded(index, tensors); });
      };
      t.read_activation = [](rh_reader* r, uint64_t index, rh_tensor* const* tensors, rh_error* e) {
        return guard(e, [&] { instance(r).object->read_activation(index, tensors); });
      };
      *out = &made.release()->table;
    });
  }

  static rh_code assign_trampoline(const rh_format* format, const char* plan, const char* architecture,
                                   const char* options, void (*take)(void* context, const char* text), void* context,
                                   rh_error* error) {
    return guard(error, [&] { take(context, self(format).assigner()->assign(plan, architecture, options).c_str()); });
  }
  static rh_code uniform_trampoline(const rh_format* format, const rh_format_query* query,
                                    void (*take)(void* context, const char* text), void* context, rh_error* error) {
    return guard(error, [&] { take(context, self(format).uniform(*query).c_str()); });
  }
  static const void* extension_trampoline(const rh_format* format, const char* id) {
    static const rh_assign assign{sizeof(rh_assign), 0, &assign_trampoline};
    static const rh_uniform uniform{sizeof(rh_uniform), 0, &uniform_trampoline};
    if (std::strcmp(id, RH_EXT_UNIFORM) == 0) return &uniform;
    return std::strcmp(id, RH_EXT_ASSIGN) == 0 && self(format).assigner() ? &assign : nullptr;
  }

  std::vector<const char*> encodings_;
  rh_format_descriptor descriptor_;
  rh_format table_;
};

// ---- the entry ----

// The plugin's objects, made at the first init and gone with the last deinit.
struct Contents {
  std::vector<std::unique_ptr<Dtype>> dtypes;
  std::vector<std::unique_ptr<Format>> formats;
};

template <typename Definition>
struct Plugin {
  // Never destroyed: a host may call deinit at exit, after this plugin's static objects are gone.
  static inline Contents& contents = *new Contents;
  static inline int users = 0;

  static rh_code init(const rh_host* h, rh_error* error) {
    return guard(error, [&] {
      host_slot() = h;
      if (users == 0) contents = Definition::make();
      ++users;
    });
  }
  static void deinit() {
    if (--users > 0) return;
    contents = {};
    host_slot() = nullptr;
  }
  static const void* get_factory(const char* id) {
    static const rh_dtype_factory dtypes{
        sizeof(rh_dtype_factory), 0, [] { return static_cast<uint32_t>(contents.dtypes.size()); },
        [](uint32_t i) { return i < contents.dtypes.size() ? contents.dtypes[i]->table() : nullptr; }};
    static const rh_format_factory formats{
        sizeof(rh_format_factory), 0, [] { return static_cast<uint32_t>(contents.formats.size()); },
        [](uint32_t i) { return i < contents.formats.size() ? contents.formats[i]->table() : nullptr; }};
    if (std::strcmp(id, RH_DTYPE_FACTORY) == 0 && !contents.dtypes.empty()) return &dtypes;
    if (std::strcmp(id, RH_FORMAT_FACTORY) == 0 && !contents.formats.empty()) return &formats;
    return nullptr;
  }
};

}  // namespace rh

// Defines the exported entry. `Definition` is a class with `static rh::Contents make()`.
#define RH_PLUGIN(Definition, plugin_name, plugin_vendor, plugin_version, plugin_summary)                          \
  extern "C" RH_EXPORT const rh_entry* rh_get_entry(void) {                                                        \
    static const rh_entry entry{sizeof(rh_entry), RH_ABI_MAJOR,   RH_ABI_MINOR,   plugin_name,                     \
                                plugin_vendor,    plugin_version, plugin_summary, &rh::Plugin<Definition>::init,   \
                                &rh::Plugin<Definition>::deinit,  &rh::Plugin<Definition>::get_factory};           \
    return &entry;                                                                                                 \
  }

// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: base classes of formats.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"
#include "ext/assign.h"
#include "ext/lint.h"
#include "ext/resume.h"
#include "format.h"
#include "host.hpp"
#include "tensor.hpp"

namespace rh {

class Writer {
 public:
  virtual ~Writer() = default;
  // Opens the files. Called once, first. `saved`: what an earlier process had from save(), to go on from there; nullptr,
  // as always for a format that does not resume: from the beginning.
  virtual void start(const std::string* /*saved*/) {}
  virtual void add_layer(const rh_encoded_layer& layer) = 0;
  virtual void add_tensor(const std::string& name, const rh_tensor& tensor) = 0;
  virtual void finish() = 0;
  // For a format that resumes: forces to the disk what was added, and returns what start() needs to go on.
  virtual std::string save() { throw Error(RH_UNIMPLEMENTED, "this format starts over"); }
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
  // As rh_reader.facts_json; the text is the reader's.
  virtual const char* facts_json() { return "{}"; }
  // Returns false when the checkpoint holds no such file within itself.
  virtual bool side_file(const std::string& /*name*/, std::string& /*contents*/) { return false; }
};

// What a format does with a planned tensor.
struct Answer {
  int32_t what;  // RH_TENSOR_*
  std::string reason;
};

struct FormatAlias {
  const char* name;
  const char* options_json;
};

// For a format that gives layers data types by their roles: rh_assign.
class Assigner {
 public:
  virtual ~Assigner() = default;
  // JSON to JSON, as rh_assign.assign.
  virtual std::string assign(const char* layers, const char* architecture, const char* options) const = 0;
};

// As rh_finding has it.
struct Finding {
  int32_t severity;  // RH_FINDING_*
  std::string engine, file, message, advice;
};

// For a format that knows what engines look up in a checkpoint: rh_lint.
class Linter {
 public:
  virtual ~Linter() = default;
  // All findings, of every engine. Throws Error where damage hides them.
  virtual std::vector<Finding> lint(const rh_open& source) const = 0;
};

class Format {
 public:
  // All strings must live as long as the plugin.
  Format(const char* id, const char* summary, std::vector<const char*> encodings,
         const char* options_schema_json = "{}", const std::vector<FormatAlias>& aliases = {})
      : encodings_(std::move(encodings)) {
    for (const auto& a : aliases) alias_storage_.push_back({sizeof(rh_format_alias), 0, a.name, a.options_json});
    for (const auto& a : alias_storage_) alias_pointers_.push_back(&a);
    descriptor_ = {sizeof descriptor_,
                   static_cast<uint32_t>(encodings_.size()),
                   id,
                   summary,
                   encodings_.data(),
                   options_schema_json,
                   static_cast<uint32_t>(alias_pointers_.size()),
                   0,
                   alias_pointers_.data()};
    table_ = {sizeof table_,
              0,
              this,
              &descriptor_,
              &check_trampoline,
              &plan_trampoline,
              &backends_trampoline,
              &begin_trampoline,
              &probe_trampoline,
              &open_trampoline,
              &extension_trampoline};
  }
  virtual ~Format() = default;
  Format(const Format&) = delete;
  Format& operator=(const Format&) = delete;

  // Throws Error when it cannot hold the layer. Only layers come here whose encoding the format packs.
  virtual void check(const rh_format_layer& layer, const char* options_json) const = 0;
  // Says what is done with each tensor of the plan. `answers` has an element for each of them, which says already that
  // layers are packed and other tensors copied. Throws Error to refuse the plan as a whole.
  virtual void plan(const rh_plan& /*plan*/, std::vector<Answer>& /*answers*/) const {}
  virtual const char* backends_json() const { return "[]"; }
  virtual std::unique_ptr<Writer> begin(const rh_export& target) const = 0;
  virtual int32_t probe(const std::string& path) const = 0;
  virtual std::unique_ptr<Reader> open(const rh_open& source) const = 0;
  // nullptr: layers have the recipe's schemes.
  virtual const Assigner* assigner() const { return nullptr; }
  // nullptr: it has no findings.
  virtual const Linter* linter() const { return nullptr; }
  // Whether its writers have save(), and go on from what it gave: rh_resume.
  virtual bool resumes() const { return false; }

  const rh_format* table() const { return &table_; }

 private:
  template <typename Table, typename Object>
  struct Instance {
    Table table;
    std::unique_ptr<Object> object;
    const volatile int32_t* cancelled;
  };
  using WriterInstance = Instance<rh_writer, Writer>;
  using ReaderInstance = Instance<rh_reader, Reader>;
  static WriterInstance& instance(const rh_writer* w) { return *static_cast<WriterInstance*>(w->data); }
  static ReaderInstance& instance(const rh_reader* r) { return *static_cast<ReaderInstance*>(r->data); }
  static const Format& self(const rh_format* format) { return *static_cast<const Format*>(format->data); }

  // Asks check() about layers in encodings that the descriptor lists, and refuses the others.
  void check_layer(const rh_format_layer& layer, const char* options_json) const {
    std::string packs;
    bool packed = false;
    for (const char* id : encodings_) {
      packed = packed || std::strcmp(id, layer.encoding->id) == 0 || std::strcmp(id, "*") == 0;
      packs += (packs.empty() ? "" : ", ") + std::string(id);
    }
    require(packed, std::string(descriptor_.id) + " packs " + packs + ", not " + layer.encoding->id);
    check(layer, options_json);
  }
  static rh_code check_trampoline(const rh_format* format, const rh_format_layer* layer, const char* options_json,
                                  rh_error* error) {
    return guard(error, [&] { self(format).check_layer(*layer, options_json); });
  }
  static rh_code plan_trampoline(const rh_format* format, const rh_plan* plan,
                                 void (*answer)(void* context, uint64_t tensor, int32_t what, const char* reason),
                                 void* context, rh_error* error) {
    return guard(error, [&] {
      std::vector<Answer> answers(plan->tensor_count);
      for (uint64_t i = 0; i < plan->tensor_count; ++i)
        answers[i].what = plan->tensors[i]->layer ? RH_TENSOR_PACKED : RH_TENSOR_COPIED;
      self(format).plan(*plan, answers);
      for (uint64_t i = 0; i < plan->tensor_count; ++i)
        answer(context, i, answers[i].what, answers[i].reason.empty() ? nullptr : answers[i].reason.c_str());
    });
  }
  static const char* backends_trampoline(const rh_format* format) { return self(format).backends_json(); }
  static int32_t probe_trampoline(const rh_format* format, const char* path) {
    int32_t score = 0;
    guard(nullptr, [&] { score = self(format).probe(path); });
    return score;
  }

  // Runs call(object) for a writer or a reader.
  template <typename Instance, typename Call>
  static rh_code on(Instance& made, rh_error* error, Call&& call) {
    return guard(error, [&] {
      const Cancellation here(made.cancelled);
      call(*made.object);
    });
  }

  static rh_code begin_trampoline(const rh_format* format, const rh_export* target, rh_writer** out, rh_error* error) {
    return make_writer(format, *target, nullptr, out, error);
  }
  static rh_code make_writer(const rh_format* format, const rh_export& target, const std::string* saved,
                             rh_writer** out, rh_error* error) {
    return guard(error, [&] {
      const Cancellation here(target.cancelled);
      auto made = std::make_unique<WriterInstance>();
      made->object = self(format).begin(target);
      made->object->start(saved);
      made->cancelled = target.cancelled;
      auto& t = made->table;
      t = rh_writer{};
      t.struct_size = sizeof t;
      t.data = made.get();
      t.add_layer = [](rh_writer* w, const rh_encoded_layer* layer, rh_error* e) {
        return on(instance(w), e, [&](Writer& writer) { writer.add_layer(*layer); });
      };
      t.add_tensor = [](rh_writer* w, const char* name, const rh_tensor* tensor, rh_error* e) {
        return on(instance(w), e, [&](Writer& writer) { writer.add_tensor(name, *tensor); });
      };
      t.finish = [](rh_writer* w, rh_error* e) {
        std::unique_ptr<WriterInstance> owned(&instance(w));
        return on(*owned, e, [&](Writer& writer) { writer.finish(); });
      };
      t.abort = [](rh_writer* w) { delete &instance(w); };
      *out = &made.release()->table;
    });
  }

  static rh_code open_trampoline(const rh_format* format, const rh_open* source, rh_reader** out, rh_error* error) {
    return guard(error, [&] {
      auto made = std::make_unique<ReaderInstance>();
      const Cancellation here(source->cancelled);
      made->object = self(format).open(*source);
      made->cancelled = source->cancelled;
      auto& t = made->table;
      t = rh_reader{};
      t.struct_size = sizeof t;
      t.data = made.get();
      t.close = [](rh_reader* r) { delete &instance(r); };
      t.count = [](const rh_reader* r) { return instance(r).object->count(); };
      t.item = [](rh_reader* r, uint64_t index, rh_item* item, rh_error* e) {
        return on(instance(r), e, [&](Reader& reader) { reader.item(index, *item); });
      };
      t.read = [](rh_reader* r, uint64_t index, rh_tensor* output, rh_error* e) {
        return on(instance(r), e, [&](Reader& reader) { reader.read(index, *output); });
      };
      t.read_encoded = [](rh_reader* r, uint64_t index, rh_tensor* const* tensors, rh_error* e) {
        return on(instance(r), e, [&](Reader& reader) { reader.read_encoded(index, tensors); });
      };
      t.read_activation = [](rh_reader* r, uint64_t index, rh_tensor* const* tensors, rh_error* e) {
        return on(instance(r), e, [&](Reader& reader) { reader.read_activation(index, tensors); });
      };
      t.facts_json = [](rh_reader* r, const char** text, rh_error* e) {
        return on(instance(r), e, [&](Reader& reader) { *text = reader.facts_json(); });
      };
      t.side_file = [](rh_reader* r, const char* name, void (*take)(void* context, const void* bytes, uint64_t size),
                       void* context, rh_error* e) {
        return on(instance(r), e, [&](Reader& reader) {
          std::string contents;
          if (!reader.side_file(name, contents))
            throw Error(RH_NOT_FOUND, std::string("the checkpoint holds no ") + name);
          take(context, contents.data(), contents.size());
        });
      };
      *out = &made.release()->table;
    });
  }

  static rh_code assign_trampoline(const rh_format* format, const char* layers, const char* architecture,
                                   const char* options, void (*take)(void* context, const char* text), void* context,
                                   rh_error* error) {
    return guard(error, [&] { take(context, self(format).assigner()->assign(layers, architecture, options).c_str()); });
  }
  static rh_code lint_trampoline(const rh_format* format, const rh_open* source, const char* engine,
                                 void (*take)(void* context, const rh_finding* finding), void* context,
                                 rh_error* error) {
    return guard(error, [&] {
      const Cancellation here(source->cancelled);
      for (const Finding& found : self(format).linter()->lint(*source)) {
        if (engine && !found.engine.empty() && found.engine != engine) continue;
        const rh_finding finding{sizeof finding,     found.severity,        found.engine.c_str(),
                                 found.file.c_str(), found.message.c_str(), found.advice.c_str()};
        take(context, &finding);
      }
    });
  }
  static rh_code save_trampoline(rh_writer* writer, void (*take)(void* context, const void* bytes, uint64_t size),
                                 void* context, rh_error* error) {
    return on(instance(writer), error, [&](Writer& w) {
      const std::string saved = w.save();
      take(context, saved.data(), saved.size());
    });
  }
  static rh_code restore_trampoline(const rh_format* format, const rh_export* target, const void* bytes, uint64_t size,
                                    rh_writer** out, rh_error* error) {
    return guard(error, [&] {
      const std::string saved(static_cast<const char*>(bytes), size);
      rh_error failure{};
      const rh_code code = make_writer(format, *target, &saved, out, &failure);
      rh::check(code == RH_NOT_FOUND ? RH_DATA_LOSS : code, failure);
    });
  }
  static const void* extension_trampoline(const rh_format* format, const char* id) {
    static const rh_assign assign{sizeof(rh_assign), 0, &assign_trampoline};
    static const rh_lint lint{sizeof(rh_lint), 0, &lint_trampoline};
    static const rh_resume resume{sizeof(rh_resume), 0, &save_trampoline, &restore_trampoline};
    if (std::strcmp(id, RH_EXT_ASSIGN) == 0 && self(format).assigner()) return &assign;
    if (std::strcmp(id, RH_EXT_LINT) == 0 && self(format).linter()) return &lint;
    if (std::strcmp(id, RH_EXT_RESUME) == 0 && self(format).resumes()) return &resume;
    return nullptr;
  }

  std::vector<const char*> encodings_;
  std::vector<rh_format_alias> alias_storage_;
  std::vector<const rh_format_alias*> alias_pointers_;
  rh_format_descriptor descriptor_;
  rh_format table_;
};

}  // namespace rh

// SPDX-License-Identifier: Apache-2.0
// Roundhouse SDK: base classes of data types.
// A helper, no part of the ABI. C++17, no dependency.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dtype.h"
#include "encoding/encoding.hpp"
#include "error.hpp"
#include "host.hpp"
#include "tensor.hpp"

namespace rh {

// One layer's quantizer. Fill info_, the specs and encoding_ in the constructor.
class Quantizer {
 public:
  Quantizer() {
    info_.struct_size = sizeof info_;
    info_.row_multiple = 1;
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
    info_.encoding = encoding_.get();
    return &info_;
  }
  virtual uint64_t workspace_size(int32_t /*operation*/, int32_t /*device_type*/, int64_t /*rows*/) const { return 0; }
  virtual void measure(const rh_exec&, const rh_measure_args&) { unsupported("measure"); }
  virtual void prepare(const rh_exec&, const rh_prepare_args&) { unsupported("prepare"); }
  virtual void forward(const rh_exec&, const rh_forward_args&) { unsupported("forward"); }
  virtual void backward(const rh_exec&, const rh_backward_args&) { unsupported("backward"); }
  // A class that has sign_step() says so; for others the host steps with backward().
  virtual bool has_sign_step() const { return false; }
  virtual void sign_step(const rh_exec&, const rh_sign_step_args&) { unsupported("sign_step"); }
  virtual void encode(const rh_exec&, const rh_encode_args&) { unsupported("encode"); }
  virtual void decode(const rh_exec&, const rh_decode_args&) { unsupported("decode"); }

 protected:
  rh_quantizer_info info_{};
  Encoding encoding_;
  Specs tunables_, states_, results_;

 private:
  [[noreturn]] static void unsupported(const char* what) {
    throw Error(RH_UNIMPLEMENTED, std::string("this data type has no ") + what);
  }
};

// Decodes weights of one of the shared encodings: the quantizer of a data type that is made from an encoding.
template <typename Typed>
class EncodedWeight : public Quantizer {
 public:
  // Throws Error for another encoding, or wrong parameters.
  explicit EncodedWeight(const rh_layer& layer) : typed_(Typed::of(*layer.encoding)) {
    encoding_ = Encoding(typed_, layer.rows, layer.cols);
  }
  void decode(const rh_exec&, const rh_decode_args& args) override {
    typed_.decode(*encoding_.get(), args.tensors, *args.output);
  }

 private:
  const Typed typed_;
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
    descriptor_ = {sizeof descriptor_,
                   supports,
                   id,
                   summary,
                   encoding,
                   options_schema_json,
                   static_cast<uint32_t>(alias_pointers_.size()),
                   0,
                   alias_pointers_.data()};
    table_ = {sizeof table_, 0, this, &descriptor_, &check_trampoline, &create_trampoline, nullptr};
  }
  virtual ~Dtype() = default;
  Dtype(const Dtype&) = delete;
  Dtype& operator=(const Dtype&) = delete;

  // Throws Error when it cannot quantize the layer. layer.scheme is there; a layer that is made from an encoding goes
  // to check_encoded().
  virtual void check(const rh_layer& layer) const = 0;
  virtual std::unique_ptr<Quantizer> create(const rh_layer& layer) const = 0;
  // The same for layers with an encoding in place of a scheme: with RH_SUPPORTS_ENCODED.
  virtual void check_encoded(const rh_layer& layer) const { create_encoded(layer); }
  virtual std::unique_ptr<Quantizer> create_encoded(const rh_layer&) const {
    throw Error(RH_UNIMPLEMENTED, std::string(descriptor_.id) + " makes no quantizers from encodings");
  }

  const rh_dtype* table() const { return &table_; }

 private:
  struct Instance {
    rh_quantizer table;
    std::unique_ptr<Quantizer> object;
    const rh_quantizer_info* info;
  };
  static Instance& instance(const rh_quantizer* q) { return *static_cast<Instance*>(q->data); }

  void check_either(const rh_layer& layer) const {
    require(layer.scheme || layer.encoding, std::string(layer.name) + ": neither a scheme nor an encoding is given");
    require(layer.matrices <= 1 || descriptor_.supports & RH_SUPPORTS_BATCHES,
            std::string(descriptor_.id) + " quantizes one matrix at a time");
    require(layer.matrices <= 1 || layer.rows % layer.matrices == 0,
            std::string(layer.name) + ": the rows are not those of equal matrices");
    require(!layer.scheme || layer.scheme->rounding != RH_ROUNDING_TUNED_SEARCH ||
                descriptor_.supports & RH_SUPPORTS_TUNED_SEARCH,
            std::string(descriptor_.id) + " does not tune from searched scales");
    layer.scheme ? check(layer) : check_encoded(layer);
  }

  static rh_code check_trampoline(const rh_dtype* dtype, const rh_layer* layer, rh_error* error) {
    return guard(error, [&] { static_cast<const Dtype*>(dtype->data)->check_either(*layer); });
  }

  static rh_code create_trampoline(const rh_dtype* dtype, const rh_layer* layer, rh_quantizer** out, rh_error* error) {
    return guard(error, [&] {
      const auto* self = static_cast<const Dtype*>(dtype->data);
      self->check_either(*layer);
      auto made = std::make_unique<Instance>();
      made->object = layer->scheme ? self->create(*layer) : self->create_encoded(*layer);
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
    return guard(error, [&] {
      const Cancellation here(exec->cancelled);
      (instance(q).object.get()->*method)(*exec, *args);
    });
  }

  std::vector<rh_alias> alias_storage_;
  std::vector<const rh_alias*> alias_pointers_;
  rh_dtype_descriptor descriptor_;
  rh_dtype table_;
};

}  // namespace rh

// SPDX-License-Identifier: Apache-2.0
// A format that keeps every rule, or, compiled with -DDEFECT=NAME, all but one: what the validator must notice.
//
// One file, model.flat: for each tensor its kind, name, element type, shape and bytes; of a layer also its parameters
// and encoded tensors. affine-int/1 with scales in bfloat16 or float32.
#include <pthread.h>
#include <roundhouse/entry.h>
#include <roundhouse/ext/assign.h>
#include <roundhouse/ext/lint.h>
#include <roundhouse/ext/model.h>
#include <roundhouse/ext/output.h>
#include <roundhouse/ext/resume.h>
#include <roundhouse/format.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/plugins/fixtures/leftovers.h"

#ifndef DEFECT
#define DEFECT None
#endif

namespace {

enum class Defect {
  None,
  // writing
  TakesOthers,
  CrashesOnGarbage,
  NeedsFacts,
  NeedsOutput,
  UnterminatedError,
  TouchesError,
  ChangesInput,
  KeepsPointer,
  ExactStructSize,
  AbortLeavesFile,
  AbortLeavesOpen,
  WritesBesides,
  IgnoresFailedWrite,
  IgnoresFailedCommit,
  CrashesWhenEmpty,
  LeaksWriter,
  LeaksReader,
  StartsThread,
  LeavesRounding,
  LeavesDenormals,
  LeavesLocale,
  LeavesUmask,
  LeavesFolder,
  LeavesHandler,
  ClosesOutput,
  LeavesOpen,
  AnswersTwice,
  LintFindsGoodFolder,
  LintForgets,
  LintWrites,
  LintIgnoresEngine,
  LintTrustsSizes,
  LintLeavesAdviceOut,
  ThrowsInFinish,
  PlanAnswersTwice,
  PlanForgetsOne,
  PlanGivesNoReason,
  PlanOmitsWhatItStores,
  PlanCopiesWhatItOmits,
  PlanCopiesWhatItPacks,
  PlanRefusesWithoutReason,
  AssumesOneGroup,
  GarbageAlias,
  AliasOfNoOption,
  OptionsAsText,
  DropsCancelledLayer,
  DropsCancelledRead,
  GarbageFacts,
  AnyFile,
  ResumeStartsOver,
  SaveForgetsBuffer,
  SaveRemembersInGlobals,
  SaveLeavesMark,
  SavesTwice,
  IgnoresFailedSync,
  RestoreCrashesOnGarbage,
  // reading
  LosesTensor,
  LosesHighBits,
  WrongName,
  IgnoresGroupIndex,
  LosesBias,
  StacksCollide,
  OffsetBeyondFile,
  ClaimsItsFile,
  NeedsOrder,
  ClaimsAll,
  ClaimsNone,
  CountsExports,
  SharedWriter,
  TrustsSizes,
  ItemBeyondEnd,
  GarbageDescriptor
};
constexpr bool has(Defect defect) { return defect == Defect::DEFECT; }

const rh_host *host = nullptr;
int exports = 0;
void *volatile leaked = nullptr;
constexpr const char *kFile = "model.flat";
constexpr const char *kMagic = "flat-1\n";

rh_code fail(rh_error *error, rh_code code, const std::string &message) {
  error->code = code;
  if (has(Defect::UnterminatedError))
    memset(error->message, 'x', sizeof error->message);
  else
    snprintf(error->message, sizeof error->message, "%s", message.c_str());
  return code;
}

// An object without members, with or without blanks.
bool empty_object(const char *json) {
  if (has(Defect::OptionsAsText)) return strcmp(json, "{}") == 0;
  const char *blanks = " \t\r\n";
  json += strspn(json, blanks);
  if (*json++ != '{') return false;
  json += strspn(json, blanks);
  if (*json++ != '}') return false;
  return json[strspn(json, blanks)] == 0;
}

int64_t elements(const int64_t *shape, int32_t ndim) {
  int64_t n = 1;
  for (int32_t i = 0; i < ndim; ++i) n *= shape[i];
  return n;
}
float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// ---- records ----

template <typename T>
void put(std::string &out, T value) {
  out.append(reinterpret_cast<const char *>(&value), sizeof value);
}
void put_text(std::string &out, const char *text) {
  put(out, static_cast<uint32_t>(strlen(text)));
  out += text;
}
void put_tensor(std::string &out, const rh_tensor &t) {
  put(out, t.dtype);
  put(out, t.ndim);
  for (int32_t i = 0; i < t.ndim; ++i) put(out, t.shape[i]);
  out.append(static_cast<const char *>(t.data), static_cast<size_t>(elements(t.shape, t.ndim) * (t.dtype.bits / 8)));
}

struct Tensor {
  std::string name;
  rh_data_type dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

struct Damaged {};

class Cursor {
 public:
  explicit Cursor(const std::string &bytes) : bytes_(bytes) {}
  bool at_end() const { return next_ == bytes_.size(); }
  std::string take(uint64_t n) {
    if (!has(Defect::TrustsSizes) && n > bytes_.size() - next_) throw Damaged();
    std::string out(bytes_.data() + next_, n);
    next_ += n;
    return out;
  }
  template <typename T>
  T number() {
    T value;
    memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string text() { return take(number<uint32_t>()); }
  Tensor tensor() {
    Tensor t;
    t.dtype = number<rh_data_type>();
    const auto ndim = number<int32_t>();
    if (ndim < 0 || ndim > RH_MAX_DIMS || t.dtype.bits % 8 != 0 || t.dtype.bits == 0 || t.dtype.lanes != 1)
      throw Damaged();
    int64_t n = t.dtype.bits / 8;
    for (int32_t i = 0; i < ndim; ++i) {
      t.shape.push_back(number<int64_t>());
      if (t.shape.back() < 0 || t.shape.back() > 1 << 20) throw Damaged();
      n *= t.shape.back();
      if (n > 1 << 30) throw Damaged();
    }
    t.bytes = take(static_cast<uint64_t>(n));
    return t;
  }

 private:
  const std::string &bytes_;
  size_t next_ = 0;
};

int parameter(const std::string &json, const char *key) {
  const size_t found = json.find(std::string("\"") + key + "\":");
  return found == std::string::npos ? 0 : atoi(json.c_str() + found + strlen(key) + 3);
}

// ---- writing ----

struct Writer {
  rh_writer table;
  const rh_export *target;
  const rh_output *output;
  rh_file *file;
  bool failed, any_layer;
  const char *kept;  // KeepsPointer
};
std::string shared_buffer;
std::string held_back;       // SaveForgetsBuffer
uint64_t remembered_length;  // SaveRemembersInGlobals

Writer *self(rh_writer *writer) { return static_cast<Writer *>(writer->data); }

rh_code write(Writer *w, const std::string &bytes, rh_error *error) {
  if (has(Defect::SharedWriter)) {
    shared_buffer += bytes;
    return RH_OK;
  }
  std::string next = bytes;
  if (has(Defect::SaveForgetsBuffer)) next.swap(held_back);
  rh_error ignored;
  const rh_code code =
      w->output->write(w->file, next.data(), next.size(), has(Defect::IgnoresFailedWrite) ? &ignored : error);
  if (code != RH_OK) w->failed = true;
  return has(Defect::IgnoresFailedWrite) ? RH_OK : code;
}

rh_code add_tensor(rh_writer *writer, const char *name, const rh_tensor *tensor, rh_error *error) {
  Writer *w = self(writer);
  if ((has(Defect::LosesTensor) || has(Defect::PlanCopiesWhatItOmits)) && strstr(name, "norm")) return RH_OK;
  if (has(Defect::TouchesError)) error->code = RH_OK;
  std::string out;
  put(out, uint8_t{RH_ITEM_TENSOR});
  put_text(out, name);
  put_tensor(out, *tensor);
  return write(w, out, error);
}

rh_code add_layer(rh_writer *writer, const rh_encoded_layer *encoded, rh_error *error) {
  Writer *w = self(writer);
  const rh_format_layer *layer = encoded->layer;
  if (has(Defect::ExactStructSize) && encoded->struct_size != sizeof *encoded)
    return fail(error, RH_INVALID_ARGUMENT, "a struct has another size");
  if (w->target->cancelled && *w->target->cancelled)
    return has(Defect::DropsCancelledLayer) ? RH_OK : fail(error, RH_CANCELLED, "cancelled");
  if (has(Defect::NeedsOrder) && strstr(layer->name, "q_proj") == nullptr && !w->any_layer)
    return fail(error, RH_FAILED_PRECONDITION, "q_proj comes first");
  if (has(Defect::KeepsPointer) && w->kept && w->kept[0] != '{')
    return fail(error, RH_INTERNAL, "the parameters are gone");
  w->kept = layer->encoding->parameters_json;
  w->any_layer = true;
  if (has(Defect::LeavesRounding)) leave_behind("rounding");
  if (has(Defect::LeavesDenormals)) leave_behind("denormals");
  if (has(Defect::LeavesLocale)) leave_behind("locale");
  if (has(Defect::LeavesUmask)) leave_behind("umask");
  if (has(Defect::LeavesFolder)) leave_behind("folder");
  if (has(Defect::LeavesHandler)) leave_behind("handler");
  if (has(Defect::ClosesOutput)) leave_behind("output");
  if (has(Defect::LeavesOpen)) leave_behind("file");
  if (has(Defect::StartsThread)) {
    pthread_t thread;
    pthread_create(
        &thread, nullptr, [](void *) -> void * { return sleep(1000), nullptr; }, nullptr);
  }
  std::string out;
  put(out, uint8_t{RH_ITEM_LAYER});
  const std::string name = has(Defect::StacksCollide) && layer->stack ? layer->stack->name : layer->name;
  put_text(out, has(Defect::WrongName) ? layer->name : (name + ".weight").c_str());
  put(out, layer->rows);
  put(out, layer->cols);
  put_text(out, layer->encoding->parameters_json);
  put(out, layer->encoding->tensor_count);
  for (uint32_t i = 0; i < layer->encoding->tensor_count; ++i) {
    put_text(out, layer->encoding->tensors[i]->name);
    if (has(Defect::ChangesInput)) static_cast<uint8_t *>(encoded->tensors[i]->data)[0] ^= 1;
    const size_t begin = out.size();
    put_tensor(out, *encoded->tensors[i]);
    if (has(Defect::LosesHighBits) && i == 0)
      for (size_t k = begin + 24; k < out.size(); ++k) out[k] &= 0x7;
  }
  if (encoded->bias && !has(Defect::LosesBias)) {
    put(out, uint8_t{RH_ITEM_TENSOR});
    put_text(out, (name + ".bias").c_str());
    put_tensor(out, *encoded->bias);
  }
  return write(w, out, error);
}

rh_code end(Writer *w, rh_code code) {
  if (!has(Defect::LeaksWriter)) free(w);
  return code;
}

rh_code finish(rh_writer *writer, rh_error *error) {
  Writer *w = self(writer);
  if (has(Defect::ThrowsInFinish)) throw 1;
  if (has(Defect::CrashesWhenEmpty) && !w->any_layer) abort();
  if (has(Defect::WritesBesides)) fclose(fopen("flat.tmp", "w"));
  if (has(Defect::SharedWriter)) w->output->write(w->file, shared_buffer.data(), shared_buffer.size(), error);
  if (has(Defect::CountsExports)) {
    std::string out;
    put(out, uint8_t{RH_ITEM_TENSOR});
    put_text(out, ("count" + std::to_string(++exports)).c_str());
    int64_t shape[] = {0};
    put_tensor(out, rh_tensor{nullptr, {RH_DEVICE_CPU, 0}, 1, {RH_KIND_UINT, 8, 1}, shape, nullptr, 0});
    write(w, out, error);
  }
  if (has(Defect::SaveForgetsBuffer)) write(w, "", error);
  if (w->failed && !has(Defect::IgnoresFailedWrite)) {
    w->output->discard(w->file);
    return end(w, fail(error, RH_DATA_LOSS, "an earlier write failed"));
  }
  rh_error ignored;
  const rh_code code = w->output->commit(w->file, has(Defect::IgnoresFailedCommit) ? &ignored : error);
  return end(w, has(Defect::IgnoresFailedCommit) ? RH_OK : code);
}

void abort_writer(rh_writer *writer) {
  Writer *w = self(writer);
  if (has(Defect::AbortLeavesFile)) fclose(fopen("flat.tmp", "w"));
  if (!has(Defect::AbortLeavesOpen)) w->output->discard(w->file);
  end(w, RH_OK);
}

// `saved`: the length of the file that another writer has left, or NULL.
rh_code make_writer(const rh_export *target, const uint64_t *saved, rh_writer **out, rh_error *error) {
  const auto *output = static_cast<const rh_output *>(host->get_extension(host, RH_EXT_OUTPUT));
  if (!output && !has(Defect::NeedsOutput)) return fail(error, RH_UNIMPLEMENTED, "the host has no output extension");
  if (!empty_object(target->plan->options_json)) {
    if (has(Defect::CrashesOnGarbage) && target->plan->options_json[0] != '{') abort();
    return fail(error, RH_INVALID_ARGUMENT, "there are no options");
  }
  if (has(Defect::NeedsFacts)) {
    const auto *model = static_cast<const rh_model *>(host->get_extension(host, RH_EXT_MODEL));
    exports += static_cast<int>(strlen(model->json(target, "config")) > 1000000);
  }
  rh_file *file = nullptr;
  rh_code code =
      saved ? output->reopen(target, kFile, *saved, &file, error) : output->create(target, kFile, &file, error);
  if (code != RH_OK) return code;
  if (!saved) code = output->write(file, kMagic, strlen(kMagic), error);
  if (code != RH_OK) {
    output->discard(file);
    return code;
  }
  auto *w = static_cast<Writer *>(calloc(1, sizeof(Writer)));
  w->target = target;
  w->output = output;
  w->file = file;
  w->table = {sizeof w->table, 0, w, add_layer, add_tensor, finish, abort_writer};
  shared_buffer.clear();
  held_back.clear();
  *out = &w->table;
  return RH_OK;
}

rh_code begin(const rh_format *, const rh_export *target, rh_writer **out, rh_error *error) {
  return make_writer(target, nullptr, out, error);
}

// ---- resuming: what is saved is the length of the file ----

rh_code save(rh_writer *writer, void (*take)(void *context, const void *bytes, uint64_t size), void *context,
             rh_error *error) {
  Writer *w = self(writer);
  uint64_t length = 0;
  if (has(Defect::SaveLeavesMark)) write(w, std::string(1, RH_ITEM_TENSOR), error);
  const rh_code code = w->output->sync(w->file, &length, error);
  if (code != RH_OK && !has(Defect::IgnoresFailedSync)) {
    w->failed = true;
    return code;
  }
  if (has(Defect::SaveRemembersInGlobals)) {
    remembered_length = length;
    length = 0;
  }
  take(context, &length, sizeof length);
  if (has(Defect::SavesTwice)) take(context, &length, sizeof length);
  return RH_OK;
}

rh_code restore(const rh_format *, const rh_export *target, const void *bytes, uint64_t size, rh_writer **out,
                rh_error *error) {
  uint64_t length = 0;
  if (size != sizeof length) {
    if (has(Defect::RestoreCrashesOnGarbage)) abort();
    return fail(error, RH_DATA_LOSS, "what was saved is damaged");
  }
  memcpy(&length, bytes, sizeof length);
  if (has(Defect::SaveRemembersInGlobals)) length = remembered_length;
  return make_writer(target, has(Defect::ResumeStartsOver) ? nullptr : &length, out, error);
}

rh_code plan(const rh_format *, const rh_plan *plan,
             void (*answer)(void *context, uint64_t tensor, int32_t what, const char *reason), void *context,
             rh_error *) {
  for (uint64_t i = 0; i < plan->tensor_count; ++i) {
    const rh_planned_tensor &tensor = *plan->tensors[i];
    const bool norm = strstr(tensor.name, "input_layernorm") != nullptr;
    if (norm && has(Defect::PlanForgetsOne)) continue;
    if (norm && has(Defect::PlanAnswersTwice)) answer(context, i, RH_TENSOR_COPIED, nullptr);
    if (norm && (has(Defect::PlanGivesNoReason) || has(Defect::PlanOmitsWhatItStores)))
      answer(context, i, RH_TENSOR_OMITTED, has(Defect::PlanGivesNoReason) ? nullptr : "engines compute it");
    else
      answer(context, i,
             tensor.extra && has(Defect::PlanRefusesWithoutReason) ? RH_TENSOR_REFUSED
             : tensor.layer && !has(Defect::PlanCopiesWhatItPacks) ? RH_TENSOR_PACKED
                                                                   : RH_TENSOR_COPIED,
             nullptr);
  }
  return RH_OK;
}

rh_code check(const rh_format *, const rh_format_layer *query, const char *options_json, rh_error *error) {
  if (has(Defect::ExactStructSize) && query->struct_size != sizeof *query)
    return fail(error, RH_INVALID_ARGUMENT, "a struct has another size");
  if (has(Defect::TakesOthers) && strcmp(query->encoding->id, RH_ENCODING_MX) == 0) return RH_OK;
  if (!empty_object(options_json)) {
    if (has(Defect::CrashesOnGarbage) && options_json[0] != '{') abort();
    return fail(error, RH_INVALID_ARGUMENT, "there are no options");
  }
  if (strcmp(query->encoding->id, RH_ENCODING_AFFINE_INT) != 0 || query->activation_encoding ||
      query->encoding->tensor_count < 2)
    return fail(error, RH_INVALID_ARGUMENT, "it stores affine-int/1 weights only");
  const rh_tensor_spec &last = *query->encoding->tensors[query->encoding->tensor_count - 1];
  if (strcmp(last.name, "outer_scale") == 0) return fail(error, RH_INVALID_ARGUMENT, "it has no place for outer_scale");
  if (strcmp(last.name, "group_index") == 0 && !has(Defect::IgnoresGroupIndex))
    return fail(error, RH_INVALID_ARGUMENT, "groups are neighbouring columns");
  const rh_data_type scale = query->encoding->tensors[1]->dtype;
  if (scale.kind == RH_KIND_FLOAT && scale.bits == 16)
    return fail(error, RH_INVALID_ARGUMENT, "scales are bfloat16 or float32");
  return RH_OK;
}

// ---- reading ----

struct Item {
  uint8_t kind;
  std::string name, parameters;
  int64_t shape[2];
  Tensor tensor;
  std::vector<Tensor> encoded;
  rh_encoding encoding;
  std::vector<rh_tensor_spec> specs;
  std::vector<const rh_tensor_spec *> spec_pointers;
};

struct Reader {
  rh_reader table;
  const volatile int32_t *cancelled;
  std::vector<Item *> items;
};
Reader *self(const rh_reader *reader) { return static_cast<Reader *>(reader->data); }

void close_reader(rh_reader *reader) {
  Reader *r = self(reader);
  for (Item *item : r->items) delete item;
  if (!has(Defect::LeaksReader)) delete r;
}

uint64_t count(const rh_reader *reader) { return self(reader)->items.size(); }

rh_code item(rh_reader *reader, uint64_t index, rh_item *out, rh_error *error) {
  Reader *r = self(reader);
  if (index >= r->items.size()) {
    if (has(Defect::ItemBeyondEnd))
      index = 0;
    else
      return fail(error, RH_OUT_OF_RANGE, "there is no such tensor");
  }
  Item &i = *r->items[index];
  const bool layer = i.kind == RH_ITEM_LAYER;
  out->kind = i.kind;
  out->name = i.name.c_str();
  out->dtype = layer ? rh_data_type{RH_KIND_FLOAT, 32, 1} : i.tensor.dtype;
  out->ndim = layer ? 2 : static_cast<int32_t>(i.tensor.shape.size());
  out->shape = layer ? i.shape : i.tensor.shape.data();
  out->encoding = layer ? &i.encoding : nullptr;
  out->file = kFile;
  out->offset = has(Defect::OffsetBeyondFile) ? 1 << 30 : strlen(kMagic);
  return RH_OK;
}

rh_code read(rh_reader *reader, uint64_t index, rh_tensor *output, rh_error *error) {
  Reader *r = self(reader);
  if (index >= r->items.size()) return fail(error, RH_OUT_OF_RANGE, "there is no such tensor");
  const Item &i = *r->items[index];
  if (r->cancelled && *r->cancelled)
    return has(Defect::DropsCancelledRead) ? RH_OK : fail(error, RH_CANCELLED, "cancelled");
  if (i.kind == RH_ITEM_TENSOR) {
    memcpy(output->data, i.tensor.bytes.data(), i.tensor.bytes.size());
    return RH_OK;
  }
  if (output->dtype.bits != 32) return fail(error, RH_UNIMPLEMENTED, "layers are read as float32");
  const Item *first = nullptr;  // of the layers
  for (const Item *other : r->items)
    if (other->kind == RH_ITEM_LAYER && !first) first = other;
  const int bits = parameter(i.parameters, "bits");
  const int group = parameter(has(Defect::AssumesOneGroup) ? first->parameters : i.parameters, "group_cols");
  const Tensor &codes = i.encoded[0], &scale = i.encoded[1];
  const int64_t per_row = scale.shape[1];
  for (int64_t row = 0; row < i.shape[0]; ++row)
    for (int64_t col = 0; col < i.shape[1]; ++col) {
      const int64_t at = row * per_row + col / group;
      uint32_t stored = 0;
      if (scale.dtype.bits == 32)
        memcpy(&stored, scale.bytes.data() + at * 4, 4);
      else
        memcpy(reinterpret_cast<char *>(&stored) + 2, scale.bytes.data() + at * 2, 2);
      const int zero = i.encoded.size() > 2 ? static_cast<uint8_t>(i.encoded[2].bytes[at]) : 1 << (bits - 1);
      const int code = static_cast<uint8_t>(codes.bytes[row * i.shape[1] + col]);
      static_cast<float *>(output->data)[row * i.shape[1] + col] = float_of(stored) * static_cast<float>(code - zero);
    }
  return RH_OK;
}

rh_code read_encoded(rh_reader *reader, uint64_t index, rh_tensor *const *tensors, rh_error *error) {
  Reader *r = self(reader);
  if (index >= r->items.size()) return fail(error, RH_OUT_OF_RANGE, "there is no such tensor");
  const Item &i = *r->items[index];
  for (size_t k = 0; k < i.encoded.size(); ++k)
    memcpy(tensors[k]->data, i.encoded[k].bytes.data(), i.encoded[k].bytes.size());
  return RH_OK;
}

rh_code facts_json(rh_reader *, const char **out, rh_error *) {
  *out = has(Defect::GarbageFacts) ? "none" : "{}";
  return RH_OK;
}

rh_code side_file(rh_reader *, const char *, void (*take)(void *context, const void *bytes, uint64_t size),
                  void *context, rh_error *error) {
  if (!has(Defect::AnyFile)) return fail(error, RH_NOT_FOUND, "it holds no files");
  take(context, "", 0);
  return RH_OK;
}

void check_layer(const Item &item) {
  const int bits = parameter(item.parameters, "bits"), group = parameter(item.parameters, "group_cols");
  if (item.encoded.size() < 2 || bits < 2 || bits > 8 || group < 1) throw Damaged();
  const Tensor &codes = item.encoded[0], &scale = item.encoded[1];
  const std::vector<int64_t> groups{item.shape[0], (item.shape[1] + group - 1) / group};
  const bool bfloat = scale.dtype.bits == 16 && scale.dtype.kind == RH_KIND_BFLOAT;
  const bool single = scale.dtype.bits == 32 && scale.dtype.kind == RH_KIND_FLOAT;
  if (codes.shape != std::vector<int64_t>{item.shape[0], item.shape[1]} || codes.dtype.bits != 8 ||
      scale.shape != groups || !(bfloat || single))
    throw Damaged();
  if (item.encoded.size() > 2 && (item.encoded[2].shape != groups || item.encoded[2].dtype.bits != 8)) throw Damaged();
}

Item *read_item(Cursor &cursor) {
  auto *item = new Item();
  try {
    item->kind = cursor.number<uint8_t>();
    item->name = cursor.text().c_str();
    if (item->kind == RH_ITEM_TENSOR) {
      item->tensor = cursor.tensor();
      return item;
    }
    if (item->kind != RH_ITEM_LAYER) throw Damaged();
    item->shape[0] = cursor.number<int64_t>();
    item->shape[1] = cursor.number<int64_t>();
    item->parameters = cursor.text().c_str();
    const auto count = cursor.number<uint32_t>();
    if (count > 3) throw Damaged();
    for (uint32_t i = 0; i < count; ++i) {
      const std::string name = cursor.text().c_str();
      item->encoded.push_back(cursor.tensor());
      item->encoded.back().name = name;
    }
    check_layer(*item);
  } catch (...) {
    delete item;
    throw;
  }
  for (const Tensor &t : item->encoded) {
    rh_tensor_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.struct_size = sizeof spec;
    spec.name = t.name.c_str();
    spec.dtype = t.dtype;
    for (const int64_t n : t.shape) spec.shape[spec.ndim++] = n;
    item->specs.push_back(spec);
  }
  for (const rh_tensor_spec &spec : item->specs) item->spec_pointers.push_back(&spec);
  item->encoding = {sizeof item->encoding, static_cast<uint32_t>(item->specs.size()), RH_ENCODING_AFFINE_INT,
                    item->parameters.c_str(), item->spec_pointers.data()};
  return item;
}

std::string path_in(const char *folder) { return std::string(folder) + "/" + kFile; }

rh_code open(const rh_format *, const rh_open *source, rh_reader **out, rh_error *error) {
  FILE *file = fopen(path_in(source->path).c_str(), "rb");
  if (!file) return fail(error, RH_NOT_FOUND, path_in(source->path) + " cannot be read");
  std::string bytes;
  char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;) bytes.append(buffer, n);
  fclose(file);
  auto *r = new Reader();
  r->table = {sizeof r->table, 0, r, close_reader, count, item, read, read_encoded, nullptr, facts_json, side_file};
  r->cancelled = source->cancelled;
  try {
    Cursor cursor(bytes);
    if (cursor.take(strlen(kMagic)) != kMagic) throw Damaged();
    while (!cursor.at_end()) r->items.push_back(read_item(cursor));
  } catch (const Damaged &) {
    close_reader(&r->table);
    return fail(error, RH_DATA_LOSS, path_in(source->path) + " is damaged");
  }
  *out = &r->table;
  return RH_OK;
}

int32_t probe(const rh_format *, const char *folder) {
  if (has(Defect::ClaimsAll)) return 1;
  if (has(Defect::ClaimsNone)) return 0;
  if (has(Defect::ClaimsItsFile) && std::string(folder).ends_with(kFile)) return 100;
  return access(path_in(folder).c_str(), R_OK) == 0 ? 100 : 0;
}

rh_code assign_types(const rh_format *, const char *, const char *, const char *, void (*take)(void *, const char *),
                     void *context, rh_error *) {
  take(context, "{}");
  if (has(Defect::AnswersTwice)) take(context, "{}");
  return RH_OK;
}
const rh_assign assign = {sizeof(rh_assign), 0, assign_types};

int lints = 0;

// Finds no wrong file, but that no engine loads it.
rh_code lint_folder(const rh_format *, const rh_open *source, const char *engine,
                    void (*take)(void *context, const rh_finding *finding), void *context, rh_error *error) {
  const std::string path = path_in(source->path);
  FILE *file = fopen(path.c_str(), has(Defect::LintWrites) ? "ab" : "rb");
  if (!file) return fail(error, RH_NOT_FOUND, path + " cannot be read");
  if (has(Defect::LintWrites)) fputc(0, file);
  fseek(file, 0, SEEK_END);
  if (has(Defect::LintTrustsSizes) && ftell(file) == 0) abort();
  fclose(file);
  rh_finding finding = {sizeof finding, RH_FINDING_WARNING, "llama.cpp", kFile, "no engine loads it", "Convert it"};
  if (has(Defect::LintFindsGoodFolder)) finding.severity = RH_FINDING_ERROR;
  if (has(Defect::LintLeavesAdviceOut)) finding.advice = nullptr;
  if (has(Defect::LintForgets) && lints++ > 2) return RH_OK;
  if (!engine || strcmp(engine, finding.engine) == 0 || has(Defect::LintIgnoresEngine)) take(context, &finding);
  return RH_OK;
}
const rh_lint lint = {sizeof(rh_lint), 0, lint_folder};

const rh_resume resume = {sizeof(rh_resume), 0, save, restore};

const void *get_extension(const rh_format *, const char *id) {
  if (strcmp(id, RH_EXT_RESUME) == 0) return &resume;
  if (strcmp(id, RH_EXT_LINT) == 0) return &lint;
  return strcmp(id, RH_EXT_ASSIGN) == 0 ? &assign : nullptr;
}

const char *const encodings[] = {RH_ENCODING_AFFINE_INT};
const rh_format_alias plain = {sizeof(rh_format_alias), 0, "plain",
                               has(Defect::GarbageAlias)      ? "{"
                               : has(Defect::AliasOfNoOption) ? "{\"type\": 1}"
                                                              : "{}"};
const rh_format_alias *const aliases[] = {&plain};
const rh_format_descriptor descriptor = {
    has(Defect::GarbageDescriptor) ? 70000u : static_cast<uint32_t>(sizeof(rh_format_descriptor)),
    1,
    "flat",
    "what the validator is tested with",
    encodings,
    "{}",
    1,
    0,
    aliases};
const rh_format format = {sizeof(rh_format), 0,     nullptr, &descriptor, check,        plan,
                          nullptr,           begin, probe,   open,        get_extension};

uint32_t format_count() { return 1; }
const rh_format *get(uint32_t index) { return index == 0 ? &format : nullptr; }
const rh_format_factory factory = {sizeof(rh_format_factory), 0, format_count, get};

rh_code init(const rh_host *given, rh_error *) {
  host = given;
  return RH_OK;
}
void deinit() {}
const void *get_factory(const char *id) { return strcmp(id, RH_FORMAT_FACTORY) == 0 ? &factory : nullptr; }

const rh_entry entry = {sizeof(rh_entry),
                        RH_ABI_MAJOR,
                        RH_ABI_MINOR,
                        "flat",
                        "Roundhouse",
                        "1.0.0",
                        "what the validator is tested with",
                        init,
                        deinit,
                        get_factory};

}  // namespace

extern "C" RH_EXPORT const rh_entry *rh_get_entry(void) { return &entry; }

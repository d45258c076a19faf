// SPDX-License-Identifier: Apache-2.0
// A data type that keeps every rule, or, compiled with -DDEFECT=NAME, all but one: what the validator must notice.
//
// Codes of 8 bits, q = round(w / s + v), s = max_scale * maximum / 127 for each group of columns in a row.
// C headers alone, so that many variants compile fast.
#include <math.h>
#include <pthread.h>
#include <roundhouse/dtype.h>
#include <roundhouse/entry.h>
#include <roundhouse/ext/log.h>
#include <roundhouse/ext/parallel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/plugins/fixtures/leftovers.h"

#ifndef DEFECT
#define DEFECT None
#endif

namespace {

enum class Defect {
  None,
  // library
  SecondSymbol,
  NeedsTorch,
  NullEntry,
  OtherMajor,
  SmallEntry,
  DeinitOnce,
  SlowInit,
  ThreadInInit,
  FileInInit,
  SignalHandler,
  HangsInInit,
  AbortsInInit,
  ExitsInInit,
  ThrowsInInit,
  UnknownFactory,
  LeaksInInit,
  RefusesNewerHost,
  NeedsLog,
  // descriptors
  GarbageDescriptor,
  BadSchema,
  EmptyId,
  PastTheEnd,
  AnyExtension,
  // calls
  HidesActivations,
  HidesTunedSearch,
  CreateTakesAll,
  UnterminatedError,
  SilentError,
  TouchesError,
  CrashesOnGarbage,
  ChangingInfo,
  SameNames,
  WritesPastOutput,
  WritesPastWorkspace,
  ReadsPastInput,
  ChangesInput,
  KeepsLayer,
  KeepsWeight,
  LosesLastElement,
  ReadsWorkspace,
  ExactStructSize,
  LeaksQuantizer,
  LeaksOnError,
  OrderOfChunks,
  StartsThread,
  LeavesRounding,
  LeavesDenormals,
  LeavesLocale,
  LeavesUmask,
  LeavesFolder,
  LeavesHandler,
  ClosesOutput,
  LeavesOpen,
  Nondeterministic,
  SharedBuffer,
  ThreadLocal,
  NeedsParallel,
  DropsCancelled,
  DropsCancelledChunks,
  // numbers
  ThrowsInForward,
  LosesRaggedColumns,
  NanOnZeros,
  NeedsResults,
  WrongRounding,
  AbsentIsZero,
  SquaredGradient,
  DoubledGradient,
  OppositeGradient,
  StepBeyondClamp,
  NoClamp,
  WrongEncode,
  DecodeIgnoresScale,
  DecodeIgnoresType,
  OneRowFails,
  WrongStatistic,
  EncodedDecodesOtherwise,
  EncodedTakesAll,
  EncodedForgetsRange,
  ClaimsIndependentRows,
  StepMixesRows,
  MixesImportance,
  MixesStatistics,
  TakesBatches,
  NeedsStatus,
  WritesStatus,
  HidesNan,
  HidesInfiniteScale,
  OptionsAsText
};
constexpr bool has(Defect defect) { return defect == Defect::DEFECT; }

const rh_host *host = nullptr;
int users = 0;
void *volatile leaked = nullptr;  // so that the compiler keeps what is stored here

// ---- small helpers ----

rh_code fail(rh_error *error, rh_code code, const char *message) {
  error->code = code;
  if (has(Defect::UnterminatedError))
    memset(error->message, 'x', sizeof error->message);
  else
    snprintf(error->message, sizeof error->message, "%s", has(Defect::SilentError) ? "" : message);
  return code;
}

float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
uint32_t to_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

bool is_f32(rh_data_type t) { return t.kind == RH_KIND_FLOAT && t.bits == 32; }
bool is_bf16(rh_data_type t) { return t.kind == RH_KIND_BFLOAT && t.bits == 16; }
bool is_f16(rh_data_type t) { return t.kind == RH_KIND_FLOAT && t.bits == 16; }

float round_bf16(float x) {
  if (x != x) return x;
  const uint32_t bits = to_bits(x);
  return from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
}

uint16_t half_of(float x) {
  const uint16_t sign = static_cast<uint16_t>(to_bits(x) >> 16 & 0x8000u);
  const float size = fabsf(x);
  if (size != size) return sign | 0x7e00;
  if (size >= 65520.0f) return sign | 0x7c00;
  int exponent = size < 6.103515625e-05f ? -14 : ilogbf(size);
  const float fraction = nearbyintf(ldexpf(size, 10 - exponent));  // units of the last bit, ties to even
  const int units = static_cast<int>(fraction);
  if (size < 6.103515625e-05f) return static_cast<uint16_t>(sign | units);
  return static_cast<uint16_t>(sign | (((exponent + 14) << 10) + units));
}

float load(const rh_tensor *t, int64_t i) {
  if (is_f32(t->dtype)) return static_cast<const float *>(t->data)[i];
  return from_bits(static_cast<uint32_t>(static_cast<const uint16_t *>(t->data)[i]) << 16);
}
void store(rh_tensor *t, int64_t i, float x) {
  if (is_f32(t->dtype)) {
    static_cast<float *>(t->data)[i] = x;
  } else {
    const uint16_t half = is_f16(t->dtype) ? half_of(x) : static_cast<uint16_t>(to_bits(round_bf16(x)) >> 16);
    memcpy(static_cast<char *>(t->data) + 2 * i, &half, sizeof half);
  }
}
float *floats(const rh_tensor *t) { return static_cast<float *>(t->data); }

void *wait_long(void *) {
  sleep(1000);
  return nullptr;
}
void start_thread() {
  pthread_t thread;
  pthread_create(&thread, nullptr, wait_long, nullptr);
}

// ---- the quantizer ----

struct Quantizer {
  rh_quantizer table;
  rh_quantizer_info info, other_info;
  rh_encoding encoding;
  rh_tensor_spec v, max_scale, maximum, largest, scale, codes, stored_scale;
  const rh_tensor_spec *tunables[2], *states[1], *results[1], *tensors[2], *range[1];
  const rh_layer *layer;    // KeepsLayer
  const rh_tensor *weight;  // KeepsWeight
  int64_t rows, cols, width, per_row, matrix_rows;
  char parameters[80];
  bool weights, tuned, calibrated, given;
  rh_data_type type;
  float cached_scale;
};

float shared_maximum[4096];              // SharedBuffer
thread_local float local_maximum[4096];  // ThreadLocal
int calls = 0;

Quantizer *self(const rh_quantizer *q) { return static_cast<Quantizer *>(q->data); }
int64_t groups(const Quantizer *q) { return q->rows * q->per_row; }

// body(first row, last row) on the host's threads.
template <typename Body>
void for_rows(int64_t rows, Body &&body) {
  struct Context {
    Body *body;
  } context{&body};
  const auto chunk = [](void *c, int64_t begin, int64_t end) { (*static_cast<Context *>(c)->body)(begin, end); };
  const auto *parallel = static_cast<const rh_parallel *>(host->get_extension(host, RH_EXT_PARALLEL));
  if (parallel || has(Defect::NeedsParallel))
    parallel->parallel_for(host, rows, 4, chunk, &context);
  else
    chunk(&context, 0, rows);
}

template <typename Args>
bool sizes_fit(const Args *args, const rh_exec *exec) {
  return !has(Defect::ExactStructSize) || (args->struct_size == sizeof(Args) && exec->struct_size == sizeof(rh_exec));
}
#define CHECK_SIZES() \
  if (!sizes_fit(args, exec)) return fail(error, RH_INVALID_ARGUMENT, "a struct has another size")

float magnitude_of(const rh_tensor *input, int64_t begin, int64_t end) {
  float largest = 0;
  for (int64_t i = begin; i < end; ++i) {
    const float size = fabsf(load(input, i));
    if (size != size) return size;
    largest = fmaxf(largest, size);
  }
  return largest;
}

float scale_of(float maximum, float max_scale) {
  const float clamped = has(Defect::NoClamp) ? max_scale : fminf(fmaxf(max_scale, 0), 1);
  const float scale = clamped * maximum / 127;
  if (has(Defect::HidesInfiniteScale) && scale > 65504) return INFINITY;  // as a float16 is
  return scale < 1e-30f && !has(Defect::NanOnZeros) ? 1e-30f : scale;
}

// The group's scale, as forward and its gradient see it.
float group_scale(const Quantizer *q, const rh_tensor *input, const rh_tensor *const *tunables,
                  const rh_tensor *const *states, int64_t row, int64_t group) {
  const int64_t index = row * q->per_row + group, begin = row * q->cols + group * q->width;
  const int64_t end = row * q->cols + (group + 1 == q->per_row ? q->cols : (group + 1) * q->width);
  float maximum;
  if (q->calibrated)
    maximum = floats(states[0])[0];
  else if (!q->weights)
    maximum = magnitude_of(input, begin, end);
  else if (has(Defect::SharedBuffer))
    maximum = shared_maximum[index % 4096];
  else if (has(Defect::ThreadLocal))
    maximum = local_maximum[index % 4096];
  else
    maximum = floats(states[0])[index];
  const bool given = tunables && tunables[1];
  const float absent = has(Defect::AbsentIsZero) && tunables ? 0.5f : 1.0f;
  return scale_of(maximum, given ? floats(tunables[1])[index] : absent);
}

struct Rounded {
  float code, scale, exact;
};
Rounded round_at(const rh_tensor *input, const rh_tensor *const *tunables, float scale, int64_t i) {
  const float v = tunables && tunables[0] ? floats(tunables[0])[i] : 0;
  const float exact = load(input, i) / scale + v;
  const float code = fminf(fmaxf(nearbyintf(exact), -127), 127);
  return {exact != exact && !has(Defect::HidesNan) ? exact : code, scale, exact};
}

void destroy(rh_quantizer *q) {
  if (!has(Defect::LeaksQuantizer)) free(self(q));
}

const rh_quantizer_info *info(const rh_quantizer *q) {
  if (has(Defect::ChangingInfo) && ++calls % 2) return &self(q)->other_info;
  return &self(q)->info;
}

uint64_t workspace_size(const rh_quantizer *q, int32_t operation, int32_t, int64_t) {
  return operation == RH_OP_FORWARD ? static_cast<uint64_t>(self(q)->per_row) * sizeof(float) : 0;
}

rh_code measure(rh_quantizer *table, const rh_exec *exec, const rh_measure_args *args, rh_error *error) {
  CHECK_SIZES();
  const int64_t matrices = self(table)->largest.shape[0];
  const int64_t n = args->input->shape[0] * args->input->shape[1] / matrices;
  for (int64_t matrix = 0; matrix < matrices; ++matrix) {
    float value = magnitude_of(args->input, matrix * n, (matrix + 1) * n);
    if (has(Defect::WrongStatistic)) {
      value = 0;
      for (int64_t i = 0; i < n; ++i) value += fabsf(load(args->input, i));
    }
    floats(args->statistic)[matrix] = value;
  }
  return RH_OK;
}

rh_code prepare(rh_quantizer *table, const rh_exec *exec, const rh_prepare_args *args, rh_error *error) {
  CHECK_SIZES();
  Quantizer *q = self(table);
  float *maximum = floats(args->states[0]);
  if (!q->weights) {
    maximum[0] = q->given ? floats(args->encoded[0])[0] : floats(args->statistic)[0];
    if (q->given && has(Defect::EncodedForgetsRange)) maximum[0] = 1;
    return RH_OK;
  }
  if (has(Defect::KeepsWeight)) q->weight = args->input;
  for (int64_t row = 0; row < q->rows; ++row)
    for (int64_t g = 0; g < q->per_row; ++g) {
      const int64_t begin = row * q->cols + g * q->width;
      const int64_t end = row * q->cols + (g + 1 == q->per_row ? q->cols : (g + 1) * q->width);
      float largest = magnitude_of(args->input, begin, end);
      if (has(Defect::HidesNan) && largest != largest) largest = 1;
      if (!isfinite(largest)) {
        if (has(Defect::LeaksOnError)) leaked = malloc(200);
        return fail(error, RH_INVALID_ARGUMENT, "the weight holds NaN or infinity");
      }
      // A group whose first column matters little is cut a little.
      const int64_t matrix = row / q->matrix_rows;
      largest = fminf(largest, floats(args->statistic)[has(Defect::MixesStatistics) ? 0 : matrix]);
      const int64_t important = has(Defect::MixesImportance) ? 0 : matrix;
      if (args->importance && floats(args->importance)[important * q->cols + g * q->width] < 1) largest *= 0.97f;
      maximum[row * q->per_row + g] =
          has(Defect::ClaimsIndependentRows) && row > 0 ? fmaxf(largest, maximum[(row - 1) * q->per_row + g]) : largest;
      shared_maximum[(row * q->per_row + g) % 4096] = largest;
      local_maximum[(row * q->per_row + g) % 4096] = largest;
    }
  return RH_OK;
}

rh_code forward(rh_quantizer *table, const rh_exec *exec, const rh_forward_args *args, rh_error *error) {
  CHECK_SIZES();
  Quantizer *q = self(table);
  const int64_t rows = args->input->shape[0], n = rows * q->cols;
  if (has(Defect::ThrowsInForward)) throw 1;
  if (has(Defect::NeedsStatus)) *static_cast<volatile uint32_t *>(exec->status) = 0;
  if (has(Defect::WritesStatus) && exec->status) *exec->status = RH_STATUS_SCALE_RANGE;
  if (exec->cancelled && *exec->cancelled) {
    if (has(Defect::DropsCancelled)) {
      for (int64_t i = 0; i < n; ++i) store(args->output, i, 0);
      return RH_OK;
    }
    return fail(error, RH_CANCELLED, "cancelled");
  }
  if (has(Defect::OneRowFails) && rows == 1) return fail(error, RH_INTERNAL, "one row is too few");
  if (has(Defect::StartsThread)) start_thread();
  if (has(Defect::LeavesRounding)) leave_behind("rounding");
  if (has(Defect::LeavesDenormals)) leave_behind("denormals");
  if (has(Defect::LeavesLocale)) leave_behind("locale");
  if (has(Defect::LeavesUmask)) leave_behind("umask");
  if (has(Defect::LeavesFolder)) leave_behind("folder");
  if (has(Defect::LeavesHandler)) leave_behind("handler");
  if (has(Defect::ClosesOutput)) leave_behind("output");
  if (has(Defect::LeavesOpen)) leave_behind("file");
  if (has(Defect::KeepsLayer) && q->layer->cols != q->cols) return fail(error, RH_INTERNAL, "another layer");
  if (has(Defect::KeepsWeight) && q->weights && load(q->weight, 0) > 1e30f) return fail(error, RH_INTERNAL, "large");
  float past = 0;
  if (has(Defect::ReadsPastInput)) past = 0 * static_cast<volatile float *>(floats(args->input))[n + 1024];
  auto *workspace = static_cast<float *>(exec->workspace);
  const float noise = has(Defect::ReadsWorkspace) ? workspace[0] : has(Defect::Nondeterministic) ? 1e-3f * ++calls : 0;
  for (int64_t g = 0; g < q->per_row; ++g) workspace[g] = past;
  if (has(Defect::WritesPastWorkspace)) reinterpret_cast<char *>(workspace)[q->per_row * 4] = 1;
  float *scales = args->results && args->results[0] ? floats(args->results[0]) : nullptr;
  if (has(Defect::NeedsResults)) *static_cast<volatile float *>(floats(args->results[0])) = 0;
  for_rows(rows, [&](int64_t first, int64_t last) {
    if (has(Defect::DropsCancelledChunks) && exec->cancelled && *exec->cancelled) return;
    for (int64_t row = first; row < last; ++row)
      for (int64_t g = 0; g < q->per_row; ++g) {
        const float scale = group_scale(q, args->input, args->tunables, args->states, row, g) + noise;
        if (scales) scales[row * q->per_row + g] = scale;
        const int64_t end = g + 1 == q->per_row ? q->cols : (g + 1) * q->width;
        for (int64_t c = g * q->width; c < end; ++c) {
          const int64_t i = row * q->cols + c;
          const Rounded r = round_at(args->input, args->tunables, scale, i);
          float value = r.code * scale;
          if (is_bf16(q->type) && !has(Defect::WrongRounding)) value = round_bf16(value);
          if (has(Defect::LosesRaggedColumns) && end - g * q->width < q->width) value = 0;
          if (has(Defect::LosesLastElement) && i == n - 1) continue;
          store(args->output, i, value);
        }
      }
    if (has(Defect::OrderOfChunks)) {  // the chunk that ran before leaks into this one
      static float before = 0;
      store(args->output, first * q->cols, load(args->output, first * q->cols) + before);
      before = first == 0 ? 0 : static_cast<float>(last);
    }
  });
  if (has(Defect::WritesPastOutput)) static_cast<char *>(args->output->data)[n * (args->output->dtype.bits / 8)] = 1;
  if (has(Defect::ChangesInput)) store(const_cast<rh_tensor *>(args->input), 0, 0);
  if (has(Defect::TouchesError)) error->code = RH_OK;
  return RH_OK;
}

// d output / d v, and d output / d max_scale of the group, under the straight-through estimate.
void gradients(Quantizer *q, const rh_tensor *input, const rh_tensor *const *tunables, const rh_tensor *const *states,
               const rh_tensor *grad_output, float *grad_v, float *grad_scale) {
  float sum = 0;
  for (int64_t row = 0; row < q->rows; ++row)
    for (int64_t g = 0; g < q->per_row; ++g) {
      const int64_t index = row * q->per_row + g;
      const float scale = group_scale(q, input, tunables, states, row, g);
      const int64_t end = g + 1 == q->per_row ? q->cols : (g + 1) * q->width;
      if (!has(Defect::StepMixesRows)) sum = 0;
      for (int64_t c = g * q->width; c < end; ++c) {
        const int64_t i = row * q->cols + c;
        const Rounded r = round_at(input, tunables, scale, i);
        const float slope = load(grad_output, i), inside = fabsf(r.exact) <= 127 ? 1.0f : 0.0f;
        float gradient = slope * scale * inside;
        if (has(Defect::SquaredGradient)) gradient = slope * slope * scale;
        if (has(Defect::DoubledGradient)) gradient *= 2;
        if (has(Defect::OppositeGradient)) gradient = -gradient;
        if (grad_v) grad_v[i] = gradient;
        sum += slope * (r.code - inside * load(input, i) / scale) * floats(states[0])[index] / 127;
      }
      if (grad_scale) grad_scale[index] = sum;
    }
}

rh_code backward(rh_quantizer *table, const rh_exec *exec, const rh_backward_args *args, rh_error *error) {
  CHECK_SIZES();
  Quantizer *q = self(table);
  if (q->weights) {
    const auto grad = [&](int i) {
      return args->grad_tunables && args->grad_tunables[i] ? floats(args->grad_tunables[i]) : nullptr;
    };
    gradients(q, args->input, args->tunables, args->states, args->grad_output, grad(0), grad(1));
  } else if (args->grad_input) {
    for (int64_t i = 0; i < args->input->shape[0] * q->cols; ++i) {
      const int64_t row = i / q->cols, g = i % q->cols / q->width;
      const float scale = group_scale(q, args->input, nullptr, args->states, row, g < q->per_row ? g : q->per_row - 1);
      const float inside = fabsf(load(args->input, i)) <= 127.5f * scale ? 1.0f : 0.0f;
      store(args->grad_input, i, load(args->grad_output, i) * inside);
    }
  }
  return RH_OK;
}

float step(float tunable, float rate, float gradient, const rh_tensor_spec &spec) {
  const float moved = tunable - rate * static_cast<float>((gradient > 0) - (gradient < 0));
  if (has(Defect::StepBeyondClamp)) return moved;
  return fminf(fmaxf(moved, static_cast<float>(spec.clamp_min)), static_cast<float>(spec.clamp_max));
}

rh_code sign_step(rh_quantizer *table, const rh_exec *exec, const rh_sign_step_args *args, rh_error *error) {
  CHECK_SIZES();
  Quantizer *q = self(table);
  auto *grad_v = static_cast<float *>(malloc(static_cast<size_t>(q->rows * q->cols + 1) * sizeof(float)));
  auto *grad_scale = static_cast<float *>(malloc(static_cast<size_t>(groups(q) + 1) * sizeof(float)));
  gradients(q, args->input, args->tunables, args->states, args->grad_output, grad_v, grad_scale);
  if (args->tunables[0])
    for (int64_t i = 0; i < q->rows * q->cols; ++i) {
      float &x = floats(args->tunables[0])[i];
      x = step(x, floats(args->learning_rates[RH_LR_ROUNDING])[0], grad_v[i], q->v);
    }
  if (args->tunables[1])
    for (int64_t i = 0; i < groups(q); ++i) {
      float &x = floats(args->tunables[1])[i];
      x = step(x, floats(args->learning_rates[RH_LR_RANGE])[0], grad_scale[i], q->max_scale);
    }
  free(grad_v);
  free(grad_scale);
  return RH_OK;
}

rh_code encode(rh_quantizer *table, const rh_exec *exec, const rh_encode_args *args, rh_error *error) {
  CHECK_SIZES();
  Quantizer *q = self(table);
  if (!q->weights) {
    floats(args->tensors[0])[0] = floats(args->states[0])[0];
    return RH_OK;
  }
  auto *codes = static_cast<int8_t *>(args->tensors[0]->data);
  for (int64_t row = 0; row < q->rows; ++row)
    for (int64_t g = 0; g < q->per_row; ++g) {
      const float scale = group_scale(q, args->input, args->tunables, args->states, row, g);
      floats(args->tensors[1])[row * q->per_row + g] = scale;
      const int64_t end = g + 1 == q->per_row ? q->cols : (g + 1) * q->width;
      for (int64_t c = g * q->width; c < end; ++c) {
        const float code = round_at(args->input, args->tunables, scale, row * q->cols + c).code;
        codes[row * q->cols + c] = static_cast<int8_t>(has(Defect::WrongEncode) ? -code : code);
      }
      q->cached_scale = scale;
    }
  return RH_OK;
}

rh_code decode(rh_quantizer *table, const rh_exec *exec, const rh_decode_args *args, rh_error *error) {
  CHECK_SIZES();
  Quantizer *q = self(table);
  const auto *codes = static_cast<const int8_t *>(args->tensors[0]->data);
  rh_tensor output = *args->output;
  if (has(Defect::DecodeIgnoresType) && is_f16(output.dtype)) output.dtype = q->type;
  for (int64_t i = 0; i < q->rows * q->cols; ++i) {
    const int64_t g = i % q->cols / q->width;
    const float stored = floats(args->tensors[1])[i / q->cols * q->per_row + (g < q->per_row ? g : q->per_row - 1)];
    store(&output, i,
          codes[i] * (has(Defect::DecodeIgnoresScale)                    ? q->cached_scale
                      : has(Defect::EncodedDecodesOtherwise) && q->given ? 2 * stored
                                                                         : stored));
  }
  return RH_OK;
}

const void *quantizer_extension(const rh_quantizer *q, const char *) { return has(Defect::AnyExtension) ? q : nullptr; }

// ---- the data type ----

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

// Columns of a group, 0 when the parameters are others.
int64_t group_of(const rh_encoding *e) {
  long long group = 0;
  return sscanf(e->parameters_json, "{\"group_cols\": %lld", &group) == 1 && group > 0 ? group : 0;
}
bool calibrated_in(const rh_encoding *e) { return strstr(e->parameters_json, "\"dynamic\": false") != nullptr; }

rh_code check_encoding(const rh_layer *layer, rh_error *error) {
  const rh_encoding &e = *layer->encoding;
  const uint32_t tensors = layer->target == RH_TARGET_WEIGHT ? 2 : calibrated_in(&e);
  if (has(Defect::EncodedTakesAll) && e.tensor_count == tensors) return RH_OK;
  if (strcmp(e.id, "example.com/defective/1") != 0)
    return fail(error, RH_INVALID_ARGUMENT, "the encoding must be example.com/defective/1");
  if (e.tensor_count != tensors || !group_of(&e))
    return fail(error, RH_INVALID_ARGUMENT, "the encoding must have its tensors and the parameter group_cols");
  return RH_OK;
}

rh_code check(const rh_dtype *, const rh_layer *layer, rh_error *error) {
  if (layer->encoding) return check_encoding(layer, error);
  const rh_scheme &s = *layer->scheme;
  const char *options = s.options_json;
  if (has(Defect::CrashesOnGarbage) && options[0] != '{') abort();
  if (!empty_object(options)) return fail(error, RH_INVALID_ARGUMENT, "there are no options");
  if (layer->matrices > 1 && layer->rows % layer->matrices != 0)
    return fail(error, RH_INVALID_ARGUMENT, "the matrices must have equal rows");
  if (s.bits != 8) return fail(error, RH_INVALID_ARGUMENT, "bits must be 8");
  if (!s.symmetric) return fail(error, RH_INVALID_ARGUMENT, "sym must be true");
  if (s.rounding == RH_ROUNDING_SEARCH || (s.rounding == RH_ROUNDING_TUNED_SEARCH && !has(Defect::HidesTunedSearch)))
    return fail(error, RH_INVALID_ARGUMENT, "there is no search");
  if (s.group_rows != 1 || (s.group_cols < 1 && s.group_cols != RH_GROUP_ROW))
    return fail(error, RH_INVALID_ARGUMENT, "group_size must be a number of columns or -1");
  if (!is_f32(layer->dtype) && !is_bf16(layer->dtype))
    return fail(error, RH_INVALID_ARGUMENT, "the tensor must be float32 or bfloat16");
  if (layer->cols < 1 || (layer->target == RH_TARGET_WEIGHT && layer->rows < 1))
    return fail(error, RH_INVALID_ARGUMENT, "a tensor needs a row and a column");
  return RH_OK;
}

rh_tensor_spec spec(const char *name, uint8_t kind, uint8_t bits, int64_t rows, int64_t cols) {
  rh_tensor_spec s;
  memset(&s, 0, sizeof s);
  s.struct_size = sizeof s;
  s.ndim = 2;
  s.name = name;
  s.dtype = {kind, bits, 1};
  s.shape[0] = rows;
  s.shape[1] = cols;
  s.clamp_min = -INFINITY;
  s.clamp_max = INFINITY;
  return s;
}

rh_code create(const rh_dtype *dtype, const rh_layer *layer, rh_quantizer **out, rh_error *error) {
  const rh_code checked = check(dtype, layer, error);
  if (checked != RH_OK && !has(Defect::CreateTakesAll)) return checked;
  if (has(Defect::ExactStructSize) && layer->struct_size != sizeof(rh_layer))
    return fail(error, RH_INVALID_ARGUMENT, "a struct has another size");
  auto *q = static_cast<Quantizer *>(calloc(1, sizeof(Quantizer)));
  const rh_scheme *scheme = layer->scheme;  // or NULL: an encoding
  const int64_t group = scheme ? scheme->group_cols : group_of(layer->encoding);
  q->layer = layer;
  q->weights = layer->target == RH_TARGET_WEIGHT;
  q->calibrated = !q->weights && (scheme ? !scheme->dynamic : calibrated_in(layer->encoding));
  q->matrix_rows = layer->matrices > 1 ? layer->rows / layer->matrices : layer->rows;
  if (q->matrix_rows < 1) q->matrix_rows = 1;
  q->tuned = scheme && scheme->rounding != RH_ROUNDING_PLAIN;
  q->given = !scheme;
  q->type = layer->dtype;
  q->rows = q->weights ? layer->rows : 0;
  q->cols = layer->cols;
  q->width = group > 0 && group < q->cols ? group : q->cols;
  if (q->width < 1) q->width = 1;
  q->per_row = (q->cols + q->width - 1) / q->width;
  q->v = spec("v", RH_KIND_FLOAT, 32, q->rows, q->cols);
  q->max_scale = spec(has(Defect::SameNames) ? "v" : "max_scale", RH_KIND_FLOAT, 32, q->rows, q->per_row);
  q->max_scale.lr_group = RH_LR_RANGE;
  q->max_scale.initial = 1;
  q->max_scale.clamp_min = 0;
  q->max_scale.clamp_max = 1;
  q->maximum = spec("maximum", RH_KIND_FLOAT, 32, q->weights ? q->rows : 1, q->weights ? q->per_row : 1);
  q->largest = spec("largest", RH_KIND_FLOAT, 32, q->weights && layer->matrices > 1 ? layer->matrices : 1, 1);
  q->scale = spec("scale", RH_KIND_FLOAT, 32, q->rows, q->per_row);
  q->codes = spec("codes", RH_KIND_INT, 8, q->rows, q->cols);
  q->stored_scale = spec("scale", RH_KIND_FLOAT, 32, q->rows, q->per_row);
  q->tunables[0] = &q->v;
  q->tunables[1] = &q->max_scale;
  q->states[0] = &q->maximum;
  q->results[0] = &q->scale;
  q->tensors[0] = &q->codes;
  q->tensors[1] = &q->stored_scale;
  q->range[0] = &q->maximum;
  snprintf(q->parameters, sizeof q->parameters,
           q->weights ? "{\"group_cols\": %lld}" : "{\"group_cols\": %lld, \"dynamic\": %s}",
           static_cast<long long>(q->width), q->calibrated ? "false" : "true");
  q->encoding = {sizeof q->encoding, q->weights ? 2u : q->calibrated, "example.com/defective/1", q->parameters,
                 q->weights ? q->tensors : q->range};
  q->info.struct_size = sizeof q->info;
  q->info.flags = q->weights ? RH_QUANTIZER_ROWS_INDEPENDENT : 0;
  q->info.row_multiple = 1;
  q->info.tunable_count = q->weights && !q->given ? 2 : 0;
  q->info.state_count = (q->weights && !q->given) || q->calibrated;
  q->info.result_count = q->weights;
  q->info.tunables = q->tunables;
  q->info.states = q->states;
  q->info.results = q->results;
  q->info.statistic = (q->weights || q->calibrated) && !q->given ? &q->largest : nullptr;
  q->info.reduce = q->info.statistic ? RH_REDUCE_MAX : RH_REDUCE_NONE;
  q->info.encoding = &q->encoding;
  q->other_info = q->info;
  q->table = {sizeof q->table, 0,       q,        destroy,   info,   workspace_size, measure,
              prepare,         forward, backward, sign_step, encode, decode,         quantizer_extension};
  *out = &q->table;
  return RH_OK;
}

const void *dtype_extension(const rh_dtype *dtype, const char *) { return has(Defect::AnyExtension) ? dtype : nullptr; }

const rh_dtype_descriptor descriptor = {
    has(Defect::GarbageDescriptor) ? 3u : static_cast<uint32_t>(sizeof(rh_dtype_descriptor)),
    RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_TUNING | RH_SUPPORTS_ENCODED |
        (has(Defect::TakesBatches) ? 0u : RH_SUPPORTS_BATCHES) |
        (has(Defect::HidesActivations) ? 0u : RH_SUPPORTS_ACTIVATIONS),
    has(Defect::EmptyId) ? "" : "defective",
    "what the validator is tested with",
    "example.com/defective/1",
    has(Defect::BadSchema) ? "{" : "{}",
    0,
    0,
    nullptr};
const rh_dtype dtype = {sizeof(rh_dtype), 0, nullptr, &descriptor, check, create, dtype_extension};

uint32_t count() { return users > 0 ? 1 : 0; }
const rh_dtype *get(uint32_t index) { return index == 0 || has(Defect::PastTheEnd) ? &dtype : nullptr; }
const rh_dtype_factory factory = {sizeof(rh_dtype_factory), 0, count, get};

// ---- the entry ----

rh_code init(const rh_host *given, rh_error *error) {
  if (has(Defect::HangsInInit)) sleep(1000);
  if (has(Defect::AbortsInInit)) abort();
  if (has(Defect::ExitsInInit)) exit(0);
  if (has(Defect::ThrowsInInit)) throw 1;
  if (has(Defect::SlowInit)) usleep(200000);
  if (has(Defect::ThreadInInit)) start_thread();
  if (has(Defect::FileInInit)) fclose(fopen("defective.txt", "w"));
  if (has(Defect::SignalHandler)) signal(SIGINT, SIG_IGN);
  if (has(Defect::LeaksInInit)) leaked = malloc(500);
  if (has(Defect::RefusesNewerHost) && given->abi_minor != RH_ABI_MINOR)
    return fail(error, RH_FAILED_PRECONDITION, "another minor version");
  if (has(Defect::NeedsLog))
    static_cast<const rh_log *>(given->get_extension(given, RH_EXT_LOG))->write(given, RH_LOG_INFO, "started");
  host = given;
  ++users;
  return RH_OK;
}

void deinit() { users = has(Defect::DeinitOnce) ? 0 : users - 1; }

const void *get_factory(const char *id) {
  return strcmp(id, RH_DTYPE_FACTORY) == 0 || has(Defect::UnknownFactory) ? &factory : nullptr;
}

const rh_entry entry = {has(Defect::SmallEntry) ? 8u : static_cast<uint32_t>(sizeof(rh_entry)),
                        has(Defect::OtherMajor) ? 2 : RH_ABI_MAJOR,
                        RH_ABI_MINOR,
                        "defective",
                        "Roundhouse",
                        "1.0.0",
                        "what the validator is tested with",
                        init,
                        deinit,
                        get_factory};

}  // namespace

extern "C" RH_EXPORT const rh_entry *rh_get_entry(void) { return has(Defect::NullEntry) ? nullptr : &entry; }

#ifdef SECOND_SYMBOL
extern "C" RH_EXPORT int defective_second_symbol(void) { return 1; }
#endif

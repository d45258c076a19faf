/* SPDX-License-Identifier: Apache-2.0 */
/* @NAME@: symmetric integers of 2 to 8 bits, a float16 scale for each group of columns, tuned rounding.
 *   scale = max |w| / (2^(bits-1) - 1)    q = clamp(round(w / scale + v))    output = q * scale
 * It emits affine-int/1, so every format that packs that can hold it. Change the arithmetic, keep the shape. */
#include <math.h>
#include <roundhouse/dtype.h>
#include <roundhouse/encoding/parameters.h>
#include <roundhouse/entry.h>
#include <roundhouse/helper/floats.h>
#include <stdio.h>
#include <stdlib.h>

/* One layer, [rows, cols]; `table` is what the host sees. */
typedef struct quantizer {
  rh_quantizer table;
  rh_quantizer_info info;
  rh_affine_int made;
  rh_encoding encoding;
  rh_tensor_spec v, scale, codes, encoded_scale;
  const rh_tensor_spec *tunables[1], *states[1], *tensors[2];
  char name[256], parameters[RH_PARAMETERS_SIZE];
  int64_t rows, cols, groups;
  float zero, largest;
} quantizer;

static rh_code fail(rh_error *error, const char *where, const char *what) {
  error->code = RH_INVALID_ARGUMENT;
  snprintf(error->message, sizeof error->message, "%.300s: %.200s", where, what);
  return RH_INVALID_ARGUMENT;
}

static quantizer *self(const rh_quantizer *q) { return (quantizer *)q->data; }

static rh_tensor_spec spec(const char *name, uint8_t kind, uint8_t bits, int64_t rows, int64_t cols) {
  rh_tensor_spec s = {sizeof(rh_tensor_spec), 2, name,      {kind, bits, 1}, RH_LR_ROUNDING,
                      {rows, cols},           0, -INFINITY, INFINITY};
  return s;
}

static void destroy(rh_quantizer *q) { free(q->data); }
static const rh_quantizer_info *info(const rh_quantizer *q) { return &self(q)->info; }

static rh_code prepare(rh_quantizer *table, const rh_exec *exec, const rh_prepare_args *args, rh_error *error) {
  const quantizer *q = self(table);
  const rh_data_type half = {RH_KIND_FLOAT, 16, 1};
  float *scale = (float *)args->states[0]->data;
  (void)exec;
  for (int64_t r = 0; r < q->rows; ++r) {
    for (int64_t g = 0; g < q->groups; ++g) {
      float largest = 0;
      for (int64_t c = g * q->made.group_cols; c < q->cols && c < (g + 1) * q->made.group_cols; ++c) {
        const float size = fabsf(rh_load(args->input, r * q->cols + c));
        if (!isfinite(size)) return fail(error, q->name, "a weight is NaN or infinite");
        largest = fmaxf(largest, size);
      }
      largest = rh_rounded(half, largest / q->largest);
      if (!isfinite(largest)) return fail(error, q->name, "a scale is too large for float16");
      scale[r * q->groups + g] = largest == 0 ? 1 : largest; /* 0: only zeros */
    }
  }
  return RH_OK;
}

static const float *optional(const rh_tensor *const *tensors) {
  return tensors && tensors[0] ? (const float *)tensors[0]->data : NULL;
}
static int64_t group_of(const quantizer *q, int64_t i) {
  return i / q->cols * q->groups + i % q->cols / q->made.group_cols;
}
static float before(const quantizer *q, const rh_tensor *weight, const float *scale, const float *v, int64_t i) {
  /* within what v declares, whatever the host hands in */
  return rh_load(weight, i) / scale[group_of(q, i)] + (v ? fminf(fmaxf(v[i], -0.5f), 0.5f) : 0);
}
static float quantized(const quantizer *q, const rh_tensor *weight, const float *scale, const float *v, int64_t i) {
  return fminf(fmaxf(nearbyintf(before(q, weight, scale, v, i)), -q->zero), q->largest);
}

static rh_code forward(rh_quantizer *table, const rh_exec *exec, const rh_forward_args *args, rh_error *error) {
  const quantizer *q = self(table);
  const float *scale = (const float *)args->states[0]->data, *v = optional(args->tunables);
  (void)exec, (void)error;
  for (int64_t i = 0; i < q->rows * q->cols; ++i)
    rh_store(args->output, i,
             rh_rounded(args->input->dtype, quantized(q, args->input, scale, v, i) * scale[group_of(q, i)]));
  return RH_OK;
}

/* Rounding passes the gradient on, clamping does not. */
static rh_code backward(rh_quantizer *table, const rh_exec *exec, const rh_backward_args *args, rh_error *error) {
  const quantizer *q = self(table);
  const float *scale = (const float *)args->states[0]->data, *v = optional(args->tunables);
  (void)exec;
  if (args->grad_input) return fail(error, q->name, "there is no gradient of the weight itself");
  if (!args->grad_tunables || !args->grad_tunables[0]) return RH_OK;
  for (int64_t i = 0; i < q->rows * q->cols; ++i) {
    const float x = before(q, args->input, scale, v, i);
    const int inside = x >= -q->zero && x <= q->largest;
    rh_store(args->grad_tunables[0], i, inside ? rh_load(args->grad_output, i) * scale[group_of(q, i)] : 0);
  }
  return RH_OK;
}

static rh_code encode(rh_quantizer *table, const rh_exec *exec, const rh_encode_args *args, rh_error *error) {
  const quantizer *q = self(table);
  const float *scale = (const float *)args->states[0]->data, *v = optional(args->tunables);
  uint8_t *codes = (uint8_t *)args->tensors[0]->data;
  (void)exec, (void)error;
  for (int64_t i = 0; i < q->rows * q->cols; ++i)
    codes[i] = (uint8_t)(quantized(q, args->input, scale, v, i) + q->zero);
  for (int64_t g = 0; g < q->rows * q->groups; ++g) rh_store(args->tensors[1], g, scale[g]);
  return RH_OK;
}

static rh_code decode(rh_quantizer *table, const rh_exec *exec, const rh_decode_args *args, rh_error *error) {
  const quantizer *q = self(table);
  const uint8_t *codes = (const uint8_t *)args->tensors[0]->data;
  (void)exec, (void)error;
  for (int64_t i = 0; i < q->rows * q->cols; ++i)
    rh_store(args->output, i, ((float)codes[i] - q->zero) * rh_load(args->tensors[1], group_of(q, i)));
  return RH_OK;
}

static rh_code check(const rh_dtype *dtype, const rh_layer *layer, rh_error *error) {
  const rh_scheme *scheme = layer->scheme;
  (void)dtype;
  if (!scheme) return fail(error, "@NAME@", "makes no quantizers from encodings (RH_SUPPORTS_ENCODED)");
  if (layer->matrices > 1) return fail(error, "@NAME@", "takes one matrix a call (RH_SUPPORTS_BATCHES)");
  if (layer->target != RH_TARGET_WEIGHT) return fail(error, "@NAME@", "quantizes weights, not activations");
  if (!rh_is_float(layer->dtype)) return fail(error, "@NAME@", "takes weights of float32, float16 or bfloat16");
  if (scheme->bits < 2 || scheme->bits > 8) return fail(error, "@NAME@", "has 2 to 8 bits");
  if (!scheme->symmetric) return fail(error, "@NAME@", "is symmetric: set sym: true");
  if (scheme->rounding != RH_ROUNDING_PLAIN && scheme->rounding != RH_ROUNDING_TUNED)
    return fail(error, "@NAME@", "has no searched rounding");
  if (scheme->group_rows != 1 || scheme->group_cols == RH_GROUP_TENSOR)
    return fail(error, "@NAME@", "groups columns of a row: set group_size to a number of columns, or -1 for a row");
  return RH_OK;
}

static rh_code create(const rh_dtype *dtype, const rh_layer *layer, rh_quantizer **out, rh_error *error) {
  const rh_code checked = check(dtype, layer, error);
  int64_t group;
  quantizer *q;
  if (checked != RH_OK) return checked;
  q = (quantizer *)calloc(1, sizeof *q);
  if (!q) {
    fail(error, "@NAME@", "out of memory");
    return error->code = RH_RESOURCE_EXHAUSTED;
  }
  q->rows = layer->rows;
  q->cols = layer->cols;
  /* What was asked; from here on only what is made counts. */
  group = layer->scheme->group_cols == RH_GROUP_ROW || layer->scheme->group_cols > q->cols ? q->cols
                                                                                           : layer->scheme->group_cols;
  q->made = (rh_affine_int){
      .bits = layer->scheme->bits, .symmetric = 1, .group_rows = 1, .group_cols = group, .dynamic = RH_INPUT_NONE};
  rh_affine_int_print(&q->made, q->parameters, sizeof q->parameters);
  snprintf(q->name, sizeof q->name, "%s", layer->name);
  q->groups = (q->cols + group - 1) / group;
  q->zero = (float)(1 << (q->made.bits - 1));
  q->largest = q->zero - 1;
  q->v = spec("v", RH_KIND_FLOAT, 32, q->rows, q->cols);
  q->v.clamp_min = -0.5;
  q->v.clamp_max = 0.5;
  q->scale = spec("scale", RH_KIND_FLOAT, 32, q->rows, q->groups);
  q->codes = spec("codes", RH_KIND_UINT, 8, q->rows, q->cols);
  q->encoded_scale = spec("scale", RH_KIND_FLOAT, 16, q->rows, q->groups);
  q->tunables[0] = &q->v;
  q->states[0] = &q->scale;
  q->tensors[0] = &q->codes;
  q->tensors[1] = &q->encoded_scale;
  q->encoding = (rh_encoding){sizeof q->encoding, 2, RH_ENCODING_AFFINE_INT, q->parameters, q->tensors};
  q->info = (rh_quantizer_info){.struct_size = sizeof q->info,
                                .flags = RH_QUANTIZER_ROWS_INDEPENDENT,
                                .row_multiple = 1,
                                .tunable_count = 1,
                                .tunables = q->tunables,
                                .state_count = 1,
                                .states = q->states,
                                .encoding = &q->encoding};
  q->table = (rh_quantizer){.struct_size = sizeof q->table,
                            .data = q,
                            .destroy = destroy,
                            .info = info,
                            .prepare = prepare,
                            .forward = forward,
                            .backward = backward,
                            .encode = encode,
                            .decode = decode};
  *out = &q->table;
  return RH_OK;
}

static const rh_alias symmetric = {sizeof(rh_alias), 0, "@NAME@", "{\"sym\": true}"};
static const rh_alias *const aliases[] = {&symmetric};
static const rh_dtype_descriptor descriptor = {.struct_size = sizeof(rh_dtype_descriptor),
                                               .supports = RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_TUNING,
                                               .id = "@NAME@",
                                               .summary = "Symmetric integers with float16 scales.",
                                               .encoding = RH_ENCODING_AFFINE_INT,
                                               .options_schema_json = "{}",
                                               .alias_count = 1,
                                               .aliases = aliases};
static const rh_dtype dtype = {
    .struct_size = sizeof(rh_dtype), .descriptor = &descriptor, .check = check, .create = create};

static uint32_t count(void) { return 1; }
static const rh_dtype *get(uint32_t index) { return index == 0 ? &dtype : NULL; }
static const rh_dtype_factory factory = {sizeof(rh_dtype_factory), 0, count, get};

static rh_code init(const rh_host *host, rh_error *error) {
  (void)host, (void)error;
  return RH_OK;
}
static void deinit(void) {}
static const void *get_factory(const char *id) { return strcmp(id, RH_DTYPE_FACTORY) == 0 ? &factory : NULL; }

const rh_entry *rh_get_entry(void) {
  static const rh_entry entry = {sizeof(rh_entry),
                                 RH_ABI_MAJOR,
                                 RH_ABI_MINOR,
                                 "@NAME@",
                                 "My company",
                                 "0.1.0",
                                 "Symmetric integers with float16 scales.",
                                 init,
                                 deinit,
                                 get_factory};
  return &entry;
}

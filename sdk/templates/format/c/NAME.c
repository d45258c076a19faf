/* SPDX-License-Identifier: Apache-2.0 */
/* @NAME@: a checkpoint with integer codes and their scales, in safetensors.
 *   LAYER.codes       u8 [rows, cols]
 *   LAYER.scale       as the data type sent it
 *   LAYER.zero_point  u8, shape of scale; absent when symmetric
 *   LAYER.layout      i64 [4]: bits, columns of a group, kind and bits of the weight's element type
 * It packs affine-int/1 of any data type, one group a row or more. Change the packing, keep the shape. */
#include <roundhouse/encoding/parameters.h>
#include <roundhouse/entry.h>
#include <roundhouse/ext/model.h>
#include <roundhouse/ext/output.h>
#include <roundhouse/ext/safetensors.h>
#include <roundhouse/helper/floats.h>

#define MARKER "@NAME@.json" /* by which probe() knows the folder */
#define MAX_NAME 512

static const rh_host *host;

static rh_code fail(rh_error *error, rh_code code, const char *where, const char *what) {
  error->code = code;
  snprintf(error->message, sizeof error->message, "%.300s: %.200s", where, what);
  return code;
}

static const void *extension(const char *id) { return host->get_extension(host, id); }

static int64_t elements(const rh_tensor *t) {
  int64_t n = 1;
  for (int32_t i = 0; i < t->ndim; ++i) n *= t->shape[i];
  return n;
}

/* ---- writing ---- */

/* What a checkpoint holds is told before it is written: the same functions run with a writer that has no file yet, and
 * note names, types and shapes, and later with the data. */
typedef struct writer {
  rh_writer table;
  const rh_export *target;
  const rh_safetensors *api;
  rh_st_writer *file; /* NULL: noting */
  const rh_st_tensor **noted;
  uint64_t count;
} writer;

static writer *writing(rh_writer *w) { return (writer *)w->data; }

static rh_code note(writer *w, const char *name, const rh_tensor *tensor, rh_error *error) {
  const size_t length = strlen(name) + 1;
  rh_st_tensor *made = (rh_st_tensor *)malloc(sizeof *made + length);
  const rh_st_tensor **grown = (const rh_st_tensor **)realloc((void *)w->noted, (w->count + 1) * sizeof *grown);
  if (grown) w->noted = grown;
  if (!made || !grown) {
    free(made);
    return fail(error, RH_RESOURCE_EXHAUSTED, "@NAME@", "out of memory");
  }
  *made = (rh_st_tensor){sizeof *made, tensor->ndim, (char *)(made + 1), tensor->dtype, 0, tensor->shape};
  memcpy(made + 1, name, length);
  w->noted[w->count++] = made;
  return RH_OK;
}

static void free_notes(writer *w) {
  for (uint64_t i = 0; i < w->count; ++i) free((void *)w->noted[i]);
  free((void *)w->noted);
}

/* Adds LAYER.what. Shapes of tensors that are noted live until the file is created. */
static rh_code add(writer *w, const char *layer, const char *what, const rh_tensor *tensor, rh_error *error) {
  char name[MAX_NAME];
  snprintf(name, sizeof name, "%s%s%s", layer, *what ? "." : "", what);
  return w->file ? w->api->add(w->file, name, tensor, error) : note(w, name, tensor, error);
}

/* `tensors`: NULL, or those of the encoding. */
static rh_code store_layer(writer *w, const rh_format_layer *layer, const rh_tensor *const *tensors, rh_error *error) {
  static int64_t count[1] = {4};
  int64_t layout[4];
  rh_tensor view = {layout, {RH_DEVICE_CPU, 0}, 1, {RH_KIND_INT, 64, 1}, count, NULL, 0};
  rh_affine_int made;
  rh_code code = RH_OK;
  if (!rh_affine_int_parse(layer->encoding->parameters_json, &made))
    return fail(error, RH_INVALID_ARGUMENT, layer->name, "its encoding has no such parameters");
  for (uint32_t i = 0; i < layer->encoding->tensor_count && code == RH_OK; ++i) {
    const rh_tensor_spec *spec = layer->encoding->tensors[i];
    rh_tensor none = {NULL, {RH_DEVICE_CPU, 0}, spec->ndim, spec->dtype, (int64_t *)spec->shape, NULL, 0};
    code = add(w, layer->name, spec->name, tensors ? tensors[i] : &none, error);
  }
  layout[0] = made.bits;
  layout[1] = made.group_cols;
  layout[2] = layer->dtype.kind;
  layout[3] = layer->dtype.bits;
  return code == RH_OK ? add(w, layer->name, "layout", &view, error) : code;
}

/* Notes all that the plan will send. A layer's bias is one of its tensors, and is stored under its name. */
static rh_code note_plan(writer *w, const rh_plan *plan, rh_error *error) {
  rh_code code = RH_OK;
  for (uint64_t i = 0; i < plan->tensor_count && code == RH_OK; ++i) {
    const rh_planned_tensor *t = plan->tensors[i];
    rh_tensor none = {NULL, {RH_DEVICE_CPU, 0}, t->ndim, t->dtype, (int64_t *)t->shape, NULL, 0};
    code = t->layer ? store_layer(w, t->layer, NULL, error) : add(w, t->name, "", &none, error);
  }
  return code;
}

static rh_code add_layer(rh_writer *table, const rh_encoded_layer *encoded, rh_error *error) {
  writer *w = writing(table);
  const rh_code code = store_layer(w, encoded->layer, encoded->tensors, error);
  return code == RH_OK && encoded->bias ? add(w, encoded->layer->name, "bias", encoded->bias, error) : code;
}

static rh_code add_tensor(rh_writer *table, const char *name, const rh_tensor *tensor, rh_error *error) {
  return add(writing(table), name, "", tensor, error);
}

static rh_code write_text(const rh_export *target, const char *name, const char *text, rh_error *error) {
  const rh_output *output = (const rh_output *)extension(RH_EXT_OUTPUT);
  rh_file *file = NULL;
  rh_code code = output->create(target, name, &file, error);
  if (code != RH_OK) return code;
  code = output->write(file, text, strlen(text), error);
  if (code == RH_OK) return output->commit(file, error);
  output->discard(file);
  return code;
}

/* Copies a file of the model's folder, if it is there. */
static rh_code copy(const rh_export *target, const char *name, rh_error *error) {
  const rh_model *model = (const rh_model *)extension(RH_EXT_MODEL);
  const rh_output *output = (const rh_output *)extension(RH_EXT_OUTPUT);
  char path[4096];
  FILE *file;
  snprintf(path, sizeof path, "%s/%s", model->path(target, "model"), name);
  file = fopen(path, "rb");
  if (!file) return RH_OK;
  fclose(file);
  return output->copy(target, path, name, error);
}

static rh_code finish(rh_writer *table, rh_error *error) {
  static const char *const side_files[] = {"generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                           "special_tokens_map.json", "tokenizer.model"};
  writer *w = writing(table);
  const rh_model *model = (const rh_model *)extension(RH_EXT_MODEL);
  rh_code code = w->api->finish(w->file, error);
  if (code == RH_OK) code = write_text(w->target, "config.json", model->json(w->target, "config"), error);
  if (code == RH_OK) code = write_text(w->target, MARKER, "{\"version\": 1}\n", error);
  for (size_t i = 0; i < sizeof side_files / sizeof *side_files && code == RH_OK; ++i)
    code = copy(w->target, side_files[i], error);
  free(w);
  return code;
}

static void abort_writing(rh_writer *table) {
  writing(table)->api->abort(writing(table)->file);
  free(writing(table));
}

static rh_code begin(const rh_format *format, const rh_export *target, rh_writer **out, rh_error *error) {
  writer *w = (writer *)calloc(1, sizeof *w);
  const rh_model *model;
  rh_code code;
  (void)format;
  if (!w) return fail(error, RH_RESOURCE_EXHAUSTED, "@NAME@", "out of memory");
  w->target = target;
  w->api = (const rh_safetensors *)extension(RH_EXT_SAFETENSORS);
  model = (const rh_model *)extension(RH_EXT_MODEL);
  if (w->api && extension(RH_EXT_OUTPUT) && model && model->json(target, "config") && model->path(target, "model"))
    code = note_plan(w, target->plan, error);
  else
    code = fail(error, RH_UNIMPLEMENTED, "@NAME@", "this host lacks what it needs to know and to write");
  if (code == RH_OK) code = w->api->create(target, "{\"format\": \"pt\"}", w->noted, w->count, &w->file, error);
  free_notes(w);
  if (code != RH_OK) {
    free(w);
    return code;
  }
  w->table = (rh_writer){.struct_size = sizeof w->table,
                         .data = w,
                         .add_layer = add_layer,
                         .add_tensor = add_tensor,
                         .finish = finish,
                         .abort = abort_writing};
  *out = &w->table;
  return RH_OK;
}

/* ---- reading ---- */

typedef struct item {
  char name[MAX_NAME];
  const rh_tensor *tensor; /* stored as it is, or the codes of a layer */
  const int64_t *layout;   /* NULL: no layer */
  const rh_tensor *scale, *zero_point;
} item;

typedef struct reader {
  rh_reader table;
  const rh_safetensors *api;
  rh_st_reader *file;
  item *items;
  uint64_t count;
} reader;

static reader *reading(const rh_reader *r) { return (reader *)r->data; }

static const rh_tensor *find(reader *r, const char *layer, int length, const char *what) {
  char name[MAX_NAME];
  const rh_tensor *view = NULL;
  rh_error unused;
  snprintf(name, sizeof name, "%.*s.%s", length, layer, what);
  return r->api->find(r->file, name, &view, &unused) == RH_OK ? view : NULL;
}

/* Adds what the stored tensor stands for: itself, a layer, or nothing. */
static rh_code add_item(reader *r, const char *name, const rh_tensor *view, rh_error *error) {
  const char *dot = strrchr(name, '.');
  const int length = dot ? (int)(dot - name) : 0;
  const rh_tensor *layout = dot ? find(r, name, length, "layout") : NULL;
  item *it = &r->items[r->count];
  int64_t groups;
  it->tensor = view;
  snprintf(it->name, sizeof it->name, "%s", name);
  if (layout && strcmp(dot, ".codes") == 0) {
    it->layout = (const int64_t *)layout->data;
    it->scale = find(r, name, length, "scale");
    it->zero_point = find(r, name, length, "zero_point");
    if (elements(layout) != 4 || it->layout[0] < 2 || it->layout[0] > 8 || it->layout[1] < 1 || view->ndim != 2)
      return fail(error, RH_DATA_LOSS, name, "its layout is damaged");
    groups = view->shape[0] * ((view->shape[1] + it->layout[1] - 1) / it->layout[1]);
    if (!it->scale || !rh_is_float(it->scale->dtype) || elements(it->scale) != groups ||
        (it->zero_point && elements(it->zero_point) != groups))
      return fail(error, RH_DATA_LOSS, name, "its scales are missing or damaged");
    snprintf(it->name, sizeof it->name, "%.*s.weight", length, name);
  } else if (layout && strcmp(dot, ".bias") != 0) {
    return RH_OK;
  }
  ++r->count;
  return RH_OK;
}

static void close_reader(rh_reader *table) {
  reader *r = reading(table);
  r->api->close(r->file);
  free(r->items);
  free(r);
}

static uint64_t count_items(const rh_reader *table) { return reading(table)->count; }

static rh_code get_item(rh_reader *table, uint64_t index, rh_item *out, rh_error *error) {
  const item *it = &reading(table)->items[index];
  if (index >= reading(table)->count) return fail(error, RH_OUT_OF_RANGE, "@NAME@", "no tensor has that index");
  out->kind = it->layout ? RH_ITEM_LAYER : RH_ITEM_TENSOR;
  out->name = it->name;
  out->dtype = it->tensor->dtype;
  out->ndim = it->tensor->ndim;
  out->shape = it->tensor->shape;
  if (it->layout) {
    out->dtype.kind = (uint8_t)it->layout[2];
    out->dtype.bits = (uint8_t)it->layout[3];
  }
  return RH_OK;
}

static rh_code read_item(rh_reader *table, uint64_t index, rh_tensor *output, rh_error *error) {
  const item *it = &reading(table)->items[index];
  int64_t cols, groups;
  if (index >= reading(table)->count) return fail(error, RH_OUT_OF_RANGE, "@NAME@", "no tensor has that index");
  if (elements(output) != elements(it->tensor) || (it->layout && !rh_is_float(output->dtype)))
    return fail(error, RH_INVALID_ARGUMENT, it->name, "the output has another shape or element type");
  if (!it->layout) {
    memcpy(output->data, it->tensor->data, (size_t)elements(output) * (output->dtype.bits / 8));
    return RH_OK;
  }
  cols = output->shape[1];
  groups = (cols + it->layout[1] - 1) / it->layout[1];
  for (int64_t i = 0; i < elements(output); ++i) {
    const int64_t g = i / cols * groups + i % cols / it->layout[1];
    const int64_t zero = it->zero_point ? ((const uint8_t *)it->zero_point->data)[g] : 1 << (it->layout[0] - 1);
    rh_store(output, i, (float)(((const uint8_t *)it->tensor->data)[i] - zero) * rh_load(it->scale, g));
  }
  return RH_OK;
}

static rh_code open_path(const rh_format *format, const rh_open *source, rh_reader **out, rh_error *error) {
  reader *r = (reader *)calloc(1, sizeof *r);
  uint64_t stored;
  rh_code code;
  (void)format;
  if (!r) return fail(error, RH_RESOURCE_EXHAUSTED, "@NAME@", "out of memory");
  r->table = (rh_reader){.struct_size = sizeof r->table,
                         .data = r,
                         .close = close_reader,
                         .count = count_items,
                         .item = get_item,
                         .read = read_item};
  r->api = (const rh_safetensors *)extension(RH_EXT_SAFETENSORS);
  code = r->api ? r->api->open(host, source->path, &r->file, error)
                : fail(error, RH_UNIMPLEMENTED, "@NAME@", "this host has no safetensors extension");
  if (code != RH_OK) {
    free(r);
    return code;
  }
  stored = r->api->count(r->file);
  r->items = (item *)calloc(stored + 1, sizeof *r->items);
  if (!r->items) code = fail(error, RH_RESOURCE_EXHAUSTED, "@NAME@", "out of memory");
  for (uint64_t i = 0; i < stored && code == RH_OK; ++i) {
    const char *name = NULL;
    const rh_tensor *view = NULL;
    code = r->api->get(r->file, i, &name, &view, error);
    if (code == RH_OK) code = add_item(r, name, view, error);
  }
  if (code == RH_OK)
    *out = &r->table;
  else
    close_reader(&r->table);
  return code;
}

/* ---- the format ---- */

static rh_code check(const rh_format *format, const rh_format_layer *layer, const char *options_json, rh_error *error) {
  rh_affine_int made;
  (void)format, (void)options_json;
  if (strcmp(layer->encoding->id, RH_ENCODING_AFFINE_INT) != 0 ||
      !rh_affine_int_parse(layer->encoding->parameters_json, &made))
    return fail(error, RH_INVALID_ARGUMENT, "@NAME@", "packs " RH_ENCODING_AFFINE_INT " only");
  if (made.group_rows != 1) return fail(error, RH_INVALID_ARGUMENT, "@NAME@", "holds groups of columns of one row");
  if (layer->activation_encoding)
    return fail(error, RH_INVALID_ARGUMENT, "@NAME@", "does not say how activations are quantized");
  for (uint32_t i = 0; i < layer->encoding->tensor_count; ++i)
    if (strcmp(layer->encoding->tensors[i]->name, "outer_scale") == 0 ||
        strcmp(layer->encoding->tensors[i]->name, "group_index") == 0)
      return fail(error, RH_INVALID_ARGUMENT, "@NAME@", "holds neither outer_scale nor group_index");
  return RH_OK;
}

/* Layers are packed, all other tensors copied. */
static rh_code plan(const rh_format *format, const rh_plan *plan,
                    void (*answer)(void *context, uint64_t tensor, int32_t what, const char *reason), void *context,
                    rh_error *error) {
  (void)format, (void)error;
  for (uint64_t i = 0; i < plan->tensor_count; ++i)
    answer(context, i, plan->tensors[i]->layer ? RH_TENSOR_PACKED : RH_TENSOR_COPIED, NULL);
  return RH_OK;
}

static int32_t probe(const rh_format *format, const char *path) {
  char marker[4096];
  FILE *file;
  (void)format;
  snprintf(marker, sizeof marker, "%s/" MARKER, path);
  file = fopen(marker, "rb");
  if (file) fclose(file);
  return file ? 10 : 0;
}

static const char *const encodings[] = {RH_ENCODING_AFFINE_INT};
static const rh_format_descriptor descriptor = {.struct_size = sizeof(rh_format_descriptor),
                                                .encoding_count = 1,
                                                .encodings = encodings,
                                                .id = "@NAME@",
                                                .summary = "Integer codes and their scales in safetensors.",
                                                .options_schema_json = "{}"};
static const rh_format format = {.struct_size = sizeof(rh_format),
                                 .descriptor = &descriptor,
                                 .check = check,
                                 .plan = plan,
                                 .begin = begin,
                                 .probe = probe,
                                 .open = open_path};

static uint32_t count(void) { return 1; }
static const rh_format *get(uint32_t index) { return index == 0 ? &format : NULL; }
static const rh_format_factory factory = {sizeof(rh_format_factory), 0, count, get};

static rh_code init(const rh_host *h, rh_error *error) {
  (void)error;
  host = h;
  return RH_OK;
}
static void deinit(void) {}
static const void *get_factory(const char *id) { return strcmp(id, RH_FORMAT_FACTORY) == 0 ? &factory : NULL; }

const rh_entry *rh_get_entry(void) {
  static const rh_entry entry = {sizeof(rh_entry),
                                 RH_ABI_MAJOR,
                                 RH_ABI_MINOR,
                                 "@NAME@",
                                 "My company",
                                 "0.1.0",
                                 "Integer codes and their scales in safetensors.",
                                 init,
                                 deinit,
                                 get_factory};
  return &entry;
}

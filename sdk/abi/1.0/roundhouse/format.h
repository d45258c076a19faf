/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: the format plugin.
 *
 * A format packs encoded layers, writes a checkpoint, and reads it back. Writing streams: one layer is resident at a time.
 *   check (each layer, plan time) -> plan (all tensors, plan time) -> begin -> add_layer / add_tensor, many times
 *        -> finish, or abort
 *   probe -> open -> count / item / read -> close
 * A format reads encodings (encoding.h); no scheme is handed to it.
 */
#ifndef ROUNDHOUSE_FORMAT_H
#define ROUNDHOUSE_FORMAT_H

#include "host.h"
#include "layer.h"

#define RH_FORMAT_FACTORY "roundhouse.format-factory/1"

/* A quantized layer, as a format sees it at plan time and when it is written. Owned by the host; borrowed for the call
 * that passes it, or valid as long as the rh_plan that holds it. since 1.0 */
typedef struct rh_format_layer {
  uint32_t struct_size;
  rh_data_type dtype;                     /* the weight's element type in the source checkpoint */
  const char *name;                       /* "model.layers.0.self_attn.q_proj" */
  const char *role;                       /* "q_proj", "lm_head", "" when unknown */
  int64_t rows;                           /* out_features */
  int64_t cols;                           /* in_features */
  const rh_encoding *encoding;            /* what the data type made, or at plan time: will make */
  const rh_encoding *activation_encoding; /* what an engine must do to the layer's input; NULL: nothing */
  const rh_stack *stack;                  /* the stack that the layer belongs to, or NULL */
  /* end of 1.0: do not modify above */
} rh_format_layer;
RH_ASSERT_END(rh_format_layer, stack, 64);

/* Where the source checkpoint has a matrix, or a bias, that it stores with others as one tensor of all experts:
 * [count, parts * rows, cols], [count, cols, parts * rows] when transposed, and of biases [count, parts * rows]; or, count 0,
 * one that it stores alone and transposed, [cols, rows]. Owned by the host, valid with its rh_plan. since 1.0 */
typedef struct rh_part {
  uint32_t struct_size;
  int32_t transposed;
  const char *tensor;   /* "model.layers.0.mlp.experts.gate_up_proj" */
  int64_t index, count; /* the expert, and how many there are; 0 of 0: the tensor is no stack */
  int64_t part, parts;  /* whose rows these are of an expert's, one part's below the other's */
  int32_t interleaved;  /* 1: row i of this part is row i * parts + part of the expert; 0: row part * rows + i */
  int32_t only;         /* 1: engines look for the tensor of all experts, and would not find one expert's by its name */
  /* end of 1.0: do not modify above */
} rh_part;
RH_ASSERT_END(rh_part, only, 56);

/* A tensor of the source checkpoint. Owned by the host, valid as long as the rh_plan that holds it. since 1.0 */
typedef struct rh_planned_tensor {
  uint32_t struct_size;
  int32_t ndim;
  const char *name; /* by which add_tensor gets it; the weight of a layer L: "L.weight" */
  rh_data_type dtype;
  int32_t extra;                /* 1: the architecture does not know it */
  const int64_t *shape;         /* [ndim] */
  const rh_format_layer *layer; /* the quantized layer whose weight it is: add_layer gets it. NULL: it stays as it is */
  const rh_part *part;          /* the source has it within another tensor. NULL: as a tensor of its own */
  /* end of 1.0: do not modify above */
} rh_planned_tensor;
RH_ASSERT_END(rh_planned_tensor, part, 48);

/* Everything that a writer will get: each tensor of the source once, in the order of its files; in place of a tensor of
 * all experts, the weights and biases of each expert. A layer's bias is there as "L.bias"; it comes with the layer. Owned by the
 * host. since 1.0 */
typedef struct rh_plan {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t tensor_count;
  const rh_planned_tensor *const *tensors; /* [tensor_count] */
  const char *options_json;      /* this format's options from the recipe, an object; "{}" when there are none */
  const char *architecture_json; /* the key "architecture" of ext/model.h */
  /* end of 1.0: do not modify above */
} rh_plan;
RH_ASSERT_END(rh_plan, architecture_json, 40);

/* What a format will do with a planned tensor. A reason with one of the first two is a warning: what the file cannot say.
 */
#define RH_TENSOR_PACKED 0  /* the layer's encoding is stored */
#define RH_TENSOR_COPIED 1  /* its values are stored, in its own element type or another one */
#define RH_TENSOR_OMITTED 2 /* not stored, on purpose: the reason says why nobody misses it */
#define RH_TENSOR_REFUSED 3 /* the plan cannot be carried out: the reason says why, and what would work */

/* A quantized layer on its way into a checkpoint. Borrowed for the call. since 1.0 */
typedef struct rh_encoded_layer {
  uint32_t struct_size;
  uint32_t reserved;
  const rh_format_layer *layer;
  const rh_tensor *const *tensors;            /* [layer->encoding->tensor_count], on the CPU */
  const rh_tensor *bias;                      /* [rows], or NULL */
  const rh_tensor *const *activation_tensors; /* [layer->activation_encoding->tensor_count], a calibrated range, on the
                                                 CPU */
  /* end of 1.0: do not modify above */
} rh_encoded_layer;
RH_ASSERT_END(rh_encoded_layer, activation_tensors, 40);

/* An export in progress. The host gives one to rh_format.begin; it stays valid until the writer's finish or abort has
 * returned. since 1.0 */
typedef struct rh_export {
  uint32_t struct_size;
  uint32_t reserved;
  const rh_host *host;
  void *data;          /* the host's own */
  const rh_plan *plan; /* the one that the format agreed to */
  uint64_t max_shard_bytes;
  const volatile int32_t *cancelled; /* NULL, or becomes non-zero: return RH_CANCELLED soon */
  /* end of 1.0: do not modify above */
} rh_export;
RH_ASSERT_END(rh_export, cancelled, 48);

/* What writes an export. Made by begin; finish or abort ends it. since 1.0 */
typedef struct rh_writer {
  uint32_t struct_size;
  uint32_t reserved;
  void *data; /* the plugin's own */
  /* Packs a quantized layer and writes it, with its bias. Layers come in any order, each once; the layer is borrowed
   * for the call. After a failure only abort is called. [worker] since 1.0 */
  rh_code (*add_layer)(struct rh_writer *writer, const rh_encoded_layer *layer, rh_error *error);
  /* Writes an unquantized CPU tensor, given under its name in the source checkpoint. Borrowed for the call. After a
   * failure only abort is called. [worker] since 1.0 */
  rh_code (*add_tensor)(struct rh_writer *writer, const char *name, const rh_tensor *tensor, rh_error *error);
  /* Writes what is left (shards, index, config) and frees the writer, whatever the result. [worker] since 1.0 */
  rh_code (*finish)(struct rh_writer *writer, rh_error *error);
  /* Frees the writer and ends its files; the host removes them. Called instead of finish. Cannot fail.
   * [worker] since 1.0 */
  void (*abort)(struct rh_writer *writer);
  /* end of 1.0: do not modify above */
} rh_writer;
RH_ASSERT_END(rh_writer, abort, 48);

/* What a format opens. Borrowed for the call. since 1.0 */
typedef struct rh_open {
  uint32_t struct_size;
  uint32_t reserved;
  const char *path;              /* a folder, or a file where the format is one file */
  const char *architecture_json; /* the key "architecture" of ext/model.h, for a reader that translates names; "{}": not
                                    known */
  const volatile int32_t *cancelled; /* NULL, or becomes non-zero: return RH_CANCELLED soon. Valid until close. */
  /* end of 1.0: do not modify above */
} rh_open;
RH_ASSERT_END(rh_open, cancelled, 32);

#define RH_ITEM_TENSOR 0 /* unquantized */
#define RH_ITEM_LAYER 1  /* a quantized layer's weight */

/* One tensor that a checkpoint holds, under its name in the source checkpoint ("....q_proj.weight").
 * The host sets struct_size and zeroes the rest; the reader writes no member that lies beyond struct_size. The pointers
 * are the reader's, valid until close. since 1.0 */
typedef struct rh_item {
  uint32_t struct_size;
  int32_t kind; /* RH_ITEM_* */
  const char *name;
  rh_data_type dtype; /* the tensor's; a layer's: the element type to decode into */
  int32_t ndim;
  const int64_t *shape;
  const rh_encoding *encoding;            /* layers: what it is packed from, or NULL when the reader does not say */
  const rh_encoding *activation_encoding; /* layers: what an engine does to the input; NULL: nothing */
  const rh_stack *stack; /* the stack that the matrix belongs to; NULL: none, or the reader does not say */
  const char *file;      /* the file that holds the first byte, for messages; NULL: not said */
  uint64_t offset;       /* in that file */
  uint64_t bytes;        /* that all stored tensors of the item take; 0: not said */
  /* end of 1.0: do not modify above */
} rh_item;
RH_ASSERT_END(rh_item, bytes, 80);

/* A checkpoint opened for reading. since 1.0 */
typedef struct rh_reader {
  uint32_t struct_size;
  uint32_t reserved;
  void *data; /* the plugin's own */
  /* Frees the reader and all that its items point to. Called once, last. Cannot fail. [worker] since 1.0 */
  void (*close)(struct rh_reader *reader);
  /* How many tensors the checkpoint holds; the same until close. [worker] since 1.0 */
  uint64_t (*count)(const struct rh_reader *reader);
  /* Describes tensor `index`; RH_OUT_OF_RANGE when index >= count(). Cheap: reads no tensor. [worker] since 1.0 */
  rh_code (*item)(struct rh_reader *reader, uint64_t index, rh_item *out, rh_error *error);
  /* Writes the tensor, or the dequantized weight; `output` has the item's shape. A layer is written as f32, f16 or
   * bf16; a tensor in its own element type. [worker] since 1.0 */
  rh_code (*read)(struct rh_reader *reader, uint64_t index, rh_tensor *output, rh_error *error);
  /* Optional: unpacks a layer into its encoding's tensors, as the item's encoding declares them.
   * [worker] since 1.0 */
  rh_code (*read_encoded)(struct rh_reader *reader, uint64_t index, rh_tensor *const *tensors, rh_error *error);
  /* Optional: a layer's calibrated activation range, as the item's activation_encoding declares its tensors.
   * [worker] since 1.0 */
  rh_code (*read_activation)(struct rh_reader *reader, uint64_t index, rh_tensor *const *tensors, rh_error *error);
  /* Optional: what the checkpoint records beside its tensors, an object with the keys of ext/model.h: "config" when the
   * format holds the model's configuration in another form than config.json, with "config_problem" when it is not enough
   * to make another checkpoint of the tensors: a text that says why; "tuning" when it records how the model was
   * tuned. "{}" when it has none of them. The text is the reader's, valid until close. [worker] since 1.0 */
  rh_code (*facts_json)(struct rh_reader *reader, const char **out, rh_error *error);
  /* Optional: the contents of a file that the checkpoint holds within itself (tokenizer.json, chat_template.jinja). Calls
   * take(context, bytes, size) once; RH_NOT_FOUND when it has no such file, and then the host looks beside the
   * checkpoint. [worker] since 1.0 */
  rh_code (*side_file)(struct rh_reader *reader, const char *name,
                       void (*take)(void *context, const void *bytes, uint64_t size), void *context, rh_error *error);
  /* end of 1.0: do not modify above */
} rh_reader;
RH_ASSERT_END(rh_reader, side_file, 80);

/* Another name for a format with some options fixed: {"gguf:q4_k_m", "{\"type\": \"q4_k_m\"}"}. since 1.0 */
typedef struct rh_format_alias {
  uint32_t struct_size;
  uint32_t reserved;
  const char *name;
  const char *options_json; /* options that the name stands for, an object */
  /* end of 1.0: do not modify above */
} rh_format_alias;
RH_ASSERT_END(rh_format_alias, options_json, 24);

/* Static facts. Owned by the plugin, valid from init to deinit. since 1.0 */
typedef struct rh_format_descriptor {
  uint32_t struct_size;
  uint32_t encoding_count;
  const char *id;                  /* what recipes write under formats: "auto_gptq" */
  const char *summary;             /* one sentence */
  const char *const *encodings;    /* ids that it packs, [encoding_count]; one that is "*" packs any, through decode */
  const char *options_schema_json; /* JSON Schema of its options; "{}": none */
  uint32_t alias_count;
  uint32_t reserved;
  const rh_format_alias *const *aliases; /* [alias_count] */
  /* end of 1.0: do not modify above */
} rh_format_descriptor;
RH_ASSERT_END(rh_format_descriptor, aliases, 56);

/* One format. Owned by the plugin, valid from init to deinit. since 1.0 */
typedef struct rh_format {
  uint32_t struct_size;
  uint32_t reserved;
  void *data; /* the plugin's own */
  const rh_format_descriptor *descriptor;
  /* Says at plan time whether it can hold a layer, seen by itself: RH_OK, or RH_INVALID_ARGUMENT with the reason.
   * `options_json` is as in rh_plan; options are compared as JSON values, never as text. [thread-safe] since 1.0 */
  rh_code (*check)(const struct rh_format *format, const rh_format_layer *layer, const char *options_json,
                   rh_error *error);
  /* Says at plan time what it will do with each tensor: calls answer(context, index of the tensor, RH_TENSOR_*, reason or
   * NULL) once for each of them, in any order. Each layer has passed check; here belongs what concerns several of them. A
   * plan that is refused as a whole gives RH_INVALID_ARGUMENT with the reason. The reason is copied.
   * [thread-safe] since 1.0 */
  rh_code (*plan)(const struct rh_format *format, const rh_plan *plan,
                  void (*answer)(void *context, uint64_t tensor, int32_t what, const char *reason), void *context,
                  rh_error *error);
  /* Which engines load the result: a JSON array of {"engine", "devices": [..], "bits": [..], "group_sizes": [..],
   * "sym": [..], "encodings": [..], "parameters": {"KEY": [..]} of the encoding, "packing", "priority", "command",
   * "fuses": [[roles of layers that the engine fuses into one, so that they must be quantized alike], ..]}, all but the
   * engine optional; "{folder}" in the command stands for the checkpoint. Valid until deinit. Optional.
   * [thread-safe] since 1.0 */
  const char *(*backends_json)(const struct rh_format *format);
  /* Starts an export. The caller owns the writer and ends it with finish or abort; `export_` stays valid until that
   * has returned. Forbidden: files by other ways than the host's extensions. [worker] since 1.0 */
  rh_code (*begin)(const struct rh_format *format, const rh_export *export_, rh_writer **out, rh_error *error);
  /* How sure the format is that the folder or file `path` is its own: 0, not; higher wins; built-in formats say at most
   * 100. Any path may be asked about, and one that cannot be read is not its own. Must be quick.
   * [worker] since 1.0 */
  int32_t (*probe)(const struct rh_format *format, const char *path);
  /* Opens a checkpoint for reading. The caller owns the reader and ends it with close. Damaged files give RH_DATA_LOSS
   * with the reason. [worker] since 1.0 */
  rh_code (*open)(const struct rh_format *format, const rh_open *source, rh_reader **out, rh_error *error);
  /* Returns the function table of an extension, NULL for an unknown id. Owned by the plugin, valid until deinit.
   * Optional. [thread-safe] since 1.0 */
  const void *(*get_extension)(const struct rh_format *format, const char *id);
  /* end of 1.0: do not modify above */
} rh_format;
RH_ASSERT_END(rh_format, get_extension, 80);

/* The formats of a plugin. Owned by the plugin, valid from init to deinit. since 1.0 */
typedef struct rh_format_factory {
  uint32_t struct_size;
  uint32_t reserved;
  /* How many formats there are; the same from init to deinit. [thread-safe] since 1.0 */
  uint32_t (*count)(void);
  /* One of them, the same pointer each time; NULL when index >= count(). [thread-safe] since 1.0 */
  const rh_format *(*get)(uint32_t index);
  /* end of 1.0: do not modify above */
} rh_format_factory;
RH_ASSERT_END(rh_format_factory, get, 24);

#endif /* ROUNDHOUSE_FORMAT_H */

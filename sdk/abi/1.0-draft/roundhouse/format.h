/* Roundhouse SDK: the format plugin.
 *
 * A format packs encoded layers, writes a checkpoint, and reads it back. Writing streams: one layer is resident at a time.
 *   check (plan time) -> begin -> add_layer / add_tensor, many times -> finish, or abort
 *   probe -> open -> count / item / read -> close
 */
#ifndef ROUNDHOUSE_FORMAT_H
#define ROUNDHOUSE_FORMAT_H

#include "host.h"
#include "scheme.h"

#define RH_FORMAT_FACTORY "roundhouse.format-factory/1"

/* One layer of a plan, as a format is asked about it. since 1.0 */
typedef struct rh_format_query {
  uint32_t struct_size;
  uint32_t reserved;
  const char *name; /* "model.layers.0.self_attn.q_proj" */
  const char *role; /* "q_proj", "lm_head", "" when unknown */
  int64_t rows; /* out_features */
  int64_t cols; /* in_features */
  const rh_scheme *scheme; /* the weight's */
  const rh_scheme *activation; /* NULL: not quantized */
  const rh_encoding *encoding; /* what the data type emits for it */
  const rh_encoding *activation_encoding; /* what the activation's data type declares; NULL: not quantized */
  const char *options_json; /* this format's options from the recipe */
  /* end of 1.0: do not modify above */
} rh_format_query;
RH_ASSERT_END(rh_format_query, options_json, 80);

/* A quantized layer on its way into a checkpoint. Borrowed for the call. since 1.0 */
typedef struct rh_encoded_layer {
  uint32_t struct_size;
  rh_data_type dtype; /* the weight's element type in the source checkpoint */
  const char *name; /* "model.layers.0.self_attn.q_proj" */
  const char *role;
  int64_t rows;
  int64_t cols;
  const rh_scheme *scheme;
  const rh_scheme *activation; /* NULL: not quantized */
  const rh_encoding *encoding;
  const rh_tensor *const *tensors; /* [encoding->tensor_count], on the CPU */
  const rh_tensor *bias; /* [rows], or NULL */
  const rh_encoding *activation_encoding; /* NULL: not quantized */
  const rh_tensor *const *activation_tensors; /* [activation_encoding->tensor_count], a calibrated range, on the CPU */
  /* end of 1.0: do not modify above */
} rh_encoded_layer;
RH_ASSERT_END(rh_encoded_layer, activation_tensors, 96);

/* The host's way to weights for a format that does not know an encoding: the data type that emitted it decodes. */
#define RH_EXT_DECODE "roundhouse.decode/1"

/* since 1.0 */
typedef struct rh_decode {
  uint32_t struct_size;
  uint32_t reserved;
  /* Writes the dequantized weight [rows, cols] in f32, f16 or bf16 to the plugin's own memory.
   * Forbidden but for the layer of the add_layer that runs. [worker] since 1.0 */
  rh_code (*decode)(const rh_export *export_, const rh_encoded_layer *layer, rh_tensor *output, rh_error *error);
  /* end of 1.0: do not modify above */
} rh_decode;
RH_ASSERT_END(rh_decode, decode, 16);

/* An export in progress. Made by begin; finish or abort ends it. since 1.0 */
typedef struct rh_writer {
  uint32_t struct_size;
  uint32_t reserved;
  void *data; /* the plugin's own */
  /* Packs a quantized layer and writes it, with its bias. Layers come in the plan's order, each once; the layer is
   * borrowed for the call. After a failure only abort is called. [worker] since 1.0 */
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
  const char *folder;
  const char *architecture_json; /* rh_model's "architecture", for a reader that translates names; "{}": not known */
  /* end of 1.0: do not modify above */
} rh_open;
RH_ASSERT_END(rh_open, architecture_json, 24);

#define RH_ITEM_TENSOR 0 /* unquantized */
#define RH_ITEM_LAYER 1 /* a quantized layer's weight */

/* One tensor that a checkpoint holds, under its name in the source checkpoint ("....q_proj.weight").
 * The host sets struct_size and zeroes the rest; the reader writes no member that lies beyond struct_size. The pointers
 * are the reader's, valid until close. since 1.0 */
typedef struct rh_item {
  uint32_t struct_size;
  int32_t kind; /* RH_ITEM_* */
  const char *name;
  rh_data_type dtype; /* of the tensor; of a layer, the element type to decode into */
  int32_t ndim;
  const int64_t *shape;
  const rh_encoding *encoding; /* layers: what it is packed from, or NULL when the reader does not say */
  const rh_encoding *activation_encoding; /* layers: what an engine does to the input; NULL: nothing */
  const rh_scheme *scheme; /* layers: bits, symmetry and groups of the weight, its data type ""; NULL: not said */
  /* end of 1.0: do not modify above */
} rh_item;
RH_ASSERT_END(rh_item, scheme, 56);

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
  /* end of 1.0: do not modify above */
} rh_reader;
RH_ASSERT_END(rh_reader, read_activation, 64);

/* Static facts. Owned by the plugin, valid from init to deinit. since 1.0 */
typedef struct rh_format_descriptor {
  uint32_t struct_size;
  uint32_t encoding_count;
  const char *id; /* what recipes write under formats: "auto_gptq" */
  const char *summary; /* one sentence */
  const char *const *encodings; /* ids that it packs, [encoding_count]; one that is "*" packs any, through decode */
  const char *options_schema_json; /* JSON Schema of its options; "{}": none */
  /* end of 1.0: do not modify above */
} rh_format_descriptor;
RH_ASSERT_END(rh_format_descriptor, options_schema_json, 40);

/* One format. Owned by the plugin, valid from init to deinit. since 1.0 */
typedef struct rh_format {
  uint32_t struct_size;
  uint32_t reserved;
  void *data; /* the plugin's own */
  const rh_format_descriptor *descriptor;
  /* Says at plan time whether it can hold a layer: RH_OK, or RH_INVALID_ARGUMENT with the reason.
   * [thread-safe] since 1.0 */
  rh_code (*check)(const struct rh_format *format, const rh_format_query *query, rh_error *error);
  /* Which engines load the result: a JSON array of {"engine", "devices": [..], "bits": [..], "group_sizes": [..],
   * "sym": [..], "encodings": [..], "parameters": {"KEY": [..]} of the encoding, "packing", "priority", "command"}, all
   * but the engine optional; "{folder}" in the command stands for the checkpoint. Valid until deinit. Optional.
   * [thread-safe] since 1.0 */
  const char *(*backends_json)(const struct rh_format *format);
  /* Starts an export. The caller owns the writer and ends it with finish or abort; `export_` stays valid until that
   * has returned. Forbidden: files by other ways than the host's extensions. [worker] since 1.0 */
  rh_code (*begin)(const struct rh_format *format, const rh_export *export_, rh_writer **out, rh_error *error);
  /* How sure the format is that `folder` is its own: 0, not; higher wins; built-in formats say at most 100. Any folder
   * may be asked about, and one that cannot be read is not its own. Must be quick. [worker] since 1.0 */
  int32_t (*probe)(const struct rh_format *format, const char *folder);
  /* Opens a checkpoint for reading. The caller owns the reader and ends it with close. Damaged files give RH_DATA_LOSS
   * with the reason. [worker] since 1.0 */
  rh_code (*open)(const struct rh_format *format, const rh_open *source, rh_reader **out, rh_error *error);
  /* Returns the function table of an extension, NULL for an unknown id. Owned by the plugin, valid until deinit.
   * Optional. [thread-safe] since 1.0 */
  const void *(*get_extension)(const struct rh_format *format, const char *id);
  /* end of 1.0: do not modify above */
} rh_format;
RH_ASSERT_END(rh_format, get_extension, 72);

/* ---- an extension of rh_format: data types by a layer's role ---- */
#define RH_EXT_ASSIGN "roundhouse.assign/1"

/* since 1.0 */
typedef struct rh_assign {
  uint32_t struct_size;
  uint32_t reserved;
  /* Asked at plan time: which data type a layer is to have, where no entry of the recipe's `layers` says it.
   * `plan_json` and `architecture_json` are rh_model's "plan" and "architecture"; of the layers, the embedding is there
   * too. Calls take(context, text) once with {"LAYER": {"data_type": "...", ...: keys of a recipe's scheme, "reason": why
   * it is not what the user would expect, optional}}; a layer that is not there keeps the recipe's scheme, and outside
   * the blocks its weight. With a tied head, the embedding's data type is both's.
   * [thread-safe] since 1.0 */
  rh_code (*assign)(const rh_format *format, const char *plan_json, const char *architecture_json,
                    const char *options_json, void (*take)(void *context, const char *text), void *context,
                    rh_error *error);
  /* end of 1.0: do not modify above */
} rh_assign;
RH_ASSERT_END(rh_assign, assign, 16);

/* ---- an extension of rh_format: what all layers of a checkpoint must have in common ---- */
#define RH_EXT_UNIFORM "roundhouse.uniform/1"

/* since 1.0 */
typedef struct rh_uniform {
  uint32_t struct_size;
  uint32_t reserved;
  /* Asked at plan time of each layer that check() has taken. Calls take(context, text) once with what the format can
   * have but one of in a checkpoint ("packing_format auto_round:fp8_static"), or with "". The host refuses a plan whose
   * layers give different texts; "" goes with every other. [thread-safe] since 1.0 */
  rh_code (*uniform)(const rh_format *format, const rh_format_query *query, void (*take)(void *context, const char *text),
                     void *context, rh_error *error);
  /* end of 1.0: do not modify above */
} rh_uniform;
RH_ASSERT_END(rh_uniform, uniform, 16);

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

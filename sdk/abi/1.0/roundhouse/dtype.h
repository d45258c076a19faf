/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: the data type plugin.
 *
 * A data type quantizes weights (and, where it can, activations). The host makes a quantizer for each layer and calls
 *   info -> measure -> (the host reduces the statistic over siblings or batches) -> prepare
 *        -> forward / backward / sign_step, many times -> encode
 * decode turns what encode wrote into weights again. A quantizer that is made from an encoding takes the other way:
 *   info -> prepare(encoded tensors) -> forward (activations), or decode (weights)
 * story.md beside the headers follows one layer through both plugins, call by call.
 *
 * Tensors: `input` is the weight [rows, cols] in f32, f16 or bf16, or an activation [tokens, cols]. Tunables, states and
 * results have the shapes that info() declares. All tensors of a call live on exec->device; the host allocates them all.
 */
#ifndef ROUNDHOUSE_DTYPE_H
#define ROUNDHOUSE_DTYPE_H

#include "host.h"
#include "layer.h"

#define RH_DTYPE_FACTORY "roundhouse.dtype-factory/1"

/* How the host combines a statistic that measure() wrote for several inputs. */
#define RH_REDUCE_NONE 0
#define RH_REDUCE_MAX 1
#define RH_REDUCE_MIN 2
#define RH_REDUCE_SUM 3

/* Quantizer flags. */
#define RH_QUANTIZER_SHARED_STATISTIC 1u /* the statistic is also reduced over the layer's siblings (q/k/v, gate/up) */
#define RH_QUANTIZER_CPU_PREPARE 2u      /* prepare() runs on the CPU, wherever the other calls run */
/* Once the statistic is given, no row depends on another one: a quantizer for a range of rows that begins and ends at
 * multiples of row_multiple (or at the last row) gives the bits that these rows have in the whole. The host may split a
 * layer so, or put equal matrices one below the other. */
#define RH_QUANTIZER_ROWS_INDEPENDENT 4u

/* What one quantizer needs and emits. Owned by the quantizer, valid until destroy, never changes. since 1.0 */
typedef struct rh_quantizer_info {
  uint32_t struct_size;
  uint32_t flags;         /* RH_QUANTIZER_* */
  uint32_t tunable_count; /* tensors that tuning changes */
  uint32_t state_count;   /* tensors that prepare() writes and the others read */
  uint32_t result_count;  /* tensors that forward() can show beside the output: "scale", "zp", ... */
  int32_t reduce;         /* RH_REDUCE_*, of `statistic` */
  const rh_tensor_spec *const *tunables;
  const rh_tensor_spec *const *states;
  const rh_tensor_spec *const *results;
  /* What measure() writes, or NULL: no measure(). Where a matrix has [a, ...], a batch of n has [n * a, ...], a matrix
   * after the other. */
  const rh_tensor_spec *statistic;
  /* What encode() writes, never NULL where the layer has a scheme, unless no format can hold the result. For an activation:
   * what an engine must do to its inputs, with the tensors of a calibrated range; without tensors when it is dynamic. */
  const rh_encoding *encoding;
  int64_t row_multiple; /* with RH_QUANTIZER_ROWS_INDEPENDENT: the rows of a group, at least 1 */
  /* end of 1.0: do not modify above */
} rh_quantizer_info;
RH_ASSERT_END(rh_quantizer_info, row_multiple, 72);

/* The arguments of measure(), borrowed for the call. since 1.0 */
typedef struct rh_measure_args {
  uint32_t struct_size;
  uint32_t reserved;
  const rh_tensor *input;
  rh_tensor *statistic; /* out */
  /* end of 1.0: do not modify above */
} rh_measure_args;
RH_ASSERT_END(rh_measure_args, statistic, 24);

/* The arguments of prepare(), borrowed for the call. since 1.0 */
typedef struct rh_prepare_args {
  uint32_t struct_size;
  uint32_t reserved;
  const rh_tensor *input;      /* NULL for an activation, and with `encoded` */
  const rh_tensor *importance; /* f32 [cols], or [matrices, cols] of a batch: sum of squared inputs a channel (imatrix);
                                  or NULL */
  const rh_tensor *statistic;  /* reduced; NULL when info declares none, and with `encoded` */
  rh_tensor *const *states;    /* out, [state_count] */
  const rh_tensor *const
      *encoded; /* with rh_layer.encoding: its tensors, as info's encoding declares them; else NULL */
  /* end of 1.0: do not modify above */
} rh_prepare_args;
RH_ASSERT_END(rh_prepare_args, encoded, 48);

/* The arguments of forward(), borrowed for the call. `tunables` is NULL for plain or searched rounding; an element may be
 * NULL: its initial value, not tuned. Any tunable given makes the arithmetic float32, else it is that of the input's
 * element type. since 1.0 */
typedef struct rh_forward_args {
  uint32_t struct_size;
  uint32_t reserved;
  const rh_tensor *input;
  const rh_tensor *const *tunables; /* [tunable_count] or NULL */
  const rh_tensor *const *states;   /* [state_count] */
  rh_tensor *output;         /* out: quantized and dequantized; shape of input; f32, f16 or bf16, rounded to the input's
                        element type first. May be the input's own memory. */
  rh_tensor *const *results; /* out, NULL or [result_count]; an element may be NULL: not wanted */
  /* end of 1.0: do not modify above */
} rh_forward_args;
RH_ASSERT_END(rh_forward_args, results, 48);

/* The arguments of backward(), borrowed for the call: straight-through gradients. since 1.0 */
typedef struct rh_backward_args {
  uint32_t struct_size;
  uint32_t reserved;
  const rh_tensor *input;
  const rh_tensor *const *tunables; /* as in forward */
  const rh_tensor *const *states;
  const rh_tensor *grad_output;    /* f32, f16 or bf16, shape of input */
  rh_tensor *const *grad_tunables; /* out f32, [tunable_count]; an element may be NULL: not wanted */
  rh_tensor *grad_input;           /* out, type and shape of input; or NULL: not wanted. Activations need it. */
  /* end of 1.0: do not modify above */
} rh_backward_args;
RH_ASSERT_END(rh_backward_args, grad_input, 56);

/* The arguments of sign_step(), borrowed for the call:
 *   tunable <- clamp(tunable - learning_rate * sign(gradient))
 * without a gradient tensor of the tunable's size. since 1.0 */
typedef struct rh_sign_step_args {
  uint32_t struct_size;
  uint32_t learning_rate_count; /* groups that the host knows: at least RH_LR_ROUNDING and RH_LR_RANGE */
  const rh_tensor *input;
  rh_tensor *const *tunables; /* in and out; an element may be NULL: not tuned */
  const rh_tensor *const *states;
  const rh_tensor *grad_output;
  const rh_tensor *const *learning_rates; /* [learning_rate_count], 0-d f32 on the device */
  /* end of 1.0: do not modify above */
} rh_sign_step_args;
RH_ASSERT_END(rh_sign_step_args, learning_rates, 48);

/* The arguments of encode(), borrowed for the call. since 1.0 */
typedef struct rh_encode_args {
  uint32_t struct_size;
  uint32_t reserved;
  const rh_tensor *input;           /* NULL for an activation */
  const rh_tensor *const *tunables; /* as in forward */
  const rh_tensor *const *states;
  rh_tensor *const *tensors; /* out, as info's encoding declares them */
  /* end of 1.0: do not modify above */
} rh_encode_args;
RH_ASSERT_END(rh_encode_args, tensors, 40);

/* The arguments of decode(), borrowed for the call. since 1.0 */
typedef struct rh_decode_args {
  uint32_t struct_size;
  uint32_t reserved;
  const rh_tensor *const *tensors; /* as info's encoding declares them */
  rh_tensor *output;               /* out [rows, cols]; f32, f16 or bf16 */
  /* end of 1.0: do not modify above */
} rh_decode_args;
RH_ASSERT_END(rh_decode_args, output, 24);

/* Operations that may need workspace. */
#define RH_OP_MEASURE 0
#define RH_OP_PREPARE 1
#define RH_OP_FORWARD 2
#define RH_OP_BACKWARD 3
#define RH_OP_SIGN_STEP 4
#define RH_OP_ENCODE 5
#define RH_OP_DECODE 6

/* Made by the plugin for one layer; `data` is its own. Members marked optional may be NULL.
 * All operations enqueue on exec->stream, write nothing but their args' out tensors and exec->status, keep no pointer of
 * exec or args after they return, and give the same bits for the same input. since 1.0 */
typedef struct rh_quantizer {
  uint32_t struct_size;
  uint32_t reserved;
  void *data;
  /* Frees the quantizer and all that info() and get_extension() gave. Called once, last. Cannot fail.
   * [worker] since 1.0 */
  void (*destroy)(struct rh_quantizer *quantizer);
  /* What the quantizer needs and emits; the same pointer each time, never NULL. Owned by the quantizer, valid until
   * destroy. [thread-safe] since 1.0 */
  const rh_quantizer_info *(*info)(const struct rh_quantizer *quantizer);
  /* Bytes of workspace that an operation (RH_OP_*) needs on a device kind (RH_DEVICE_*) for an input of `rows` rows; without
   * an input, `rows` is the weight's, and 0 for an activation. The host gives at least so many in exec->workspace. 0 for an
   * operation that it does not know. Optional: none.
   * [thread-safe] since 1.0 */
  uint64_t (*workspace_size)(const struct rh_quantizer *quantizer, int32_t operation, int32_t device_type,
                             int64_t rows);
  /* Writes the statistic of one input; the host reduces over several. Required when info declares a statistic, else
   * never called. [worker] since 1.0 */
  rh_code (*measure)(struct rh_quantizer *quantizer, const rh_exec *exec, const rh_measure_args *args, rh_error *error);
  /* Writes all states, which then stay as they are. Called before forward; again when the statistic has changed.
   * Required when info declares states, else never called. [worker] since 1.0 */
  rh_code (*prepare)(struct rh_quantizer *quantizer, const rh_exec *exec, const rh_prepare_args *args, rh_error *error);
  /* Quantizes and dequantizes: output = decode(encode(input)), with the tunables added when there are any. Required,
   * except for weights from an encoding. Forbidden: changing tunables or states. [worker] since 1.0 */
  rh_code (*forward)(struct rh_quantizer *quantizer, const rh_exec *exec, const rh_forward_args *args, rh_error *error);
  /* Writes, and does not add to, the gradients of those tunables (and of the input) that are wanted, given that of
   * forward's output. Optional: without it (and sign_step) the layer is rounded but not tuned. [worker] since 1.0 */
  rh_code (*backward)(struct rh_quantizer *quantizer, const rh_exec *exec, const rh_backward_args *args,
                      rh_error *error);
  /* One step of signed gradient descent on all given tunables, in place, each with the rate of
   * its group (RH_LR_*). Optional: the host steps with backward when it is missing. [worker] since 1.0 */
  rh_code (*sign_step)(struct rh_quantizer *quantizer, const rh_exec *exec, const rh_sign_step_args *args,
                       rh_error *error);
  /* Writes all tensors of the encoding, every byte. Required when info's encoding has tensors. [worker] since 1.0 */
  rh_code (*encode)(struct rh_quantizer *quantizer, const rh_exec *exec, const rh_encode_args *args, rh_error *error);
  /* Writes the weight that the encoding's formula gives. Required for weights: decode(encode(w)) equals forward(w) bit for
   * bit in the weight's element type, except for the sign of a zero, which codes may not carry. [worker] since 1.0 */
  rh_code (*decode)(struct rh_quantizer *quantizer, const rh_exec *exec, const rh_decode_args *args, rh_error *error);
  /* Returns the function table of an extension, NULL for an unknown id. Owned by the plugin, valid until destroy.
   * Optional. [thread-safe] since 1.0 */
  const void *(*get_extension)(const struct rh_quantizer *quantizer, const char *id);
  /* end of 1.0: do not modify above */
} rh_quantizer;
RH_ASSERT_END(rh_quantizer, get_extension, 104);

/* Another name for a data type with some scheme fields fixed: {"int_sym", "{\"sym\": true}"}. With the data type's own
 * id as the name: the fields that it fixes itself. since 1.0 */
typedef struct rh_alias {
  uint32_t struct_size;
  uint32_t reserved;
  const char *name;
  const char *scheme_json; /* recipe keys and values that the name stands for, an object */
  /* end of 1.0: do not modify above */
} rh_alias;
RH_ASSERT_END(rh_alias, scheme_json, 24);

#define RH_SUPPORTS_CPU 1u /* required: decode is called there, and one quantizer's calls may name several devices */
#define RH_SUPPORTS_CUDA 2u
#define RH_SUPPORTS_WEIGHTS 4u
#define RH_SUPPORTS_ACTIVATIONS 8u
#define RH_SUPPORTS_SEARCH 16u
#define RH_SUPPORTS_TUNING 32u
#define RH_SUPPORTS_TUNED_SEARCH 64u /* RH_ROUNDING_TUNED_SEARCH */
#define RH_SUPPORTS_ENCODED 128u     /* makes quantizers from encodings: rh_layer.encoding */
#define RH_SUPPORTS_BATCHES 256u     /* rh_layer.matrices above 1, where rows are independent */

/* Static facts. Owned by the plugin, valid from init to deinit. since 1.0 */
typedef struct rh_dtype_descriptor {
  uint32_t struct_size;
  uint32_t supports;               /* RH_SUPPORTS_* */
  const char *id;                  /* what recipes write as data_type: "int" */
  const char *summary;             /* one sentence */
  const char *encoding;            /* the id of the encoding that it emits */
  const char *options_schema_json; /* JSON Schema of the options beside the scheme's own fields; "{}": none */
  uint32_t alias_count;
  uint32_t reserved;
  const rh_alias *const *aliases;
  /* end of 1.0: do not modify above */
} rh_dtype_descriptor;
RH_ASSERT_END(rh_dtype_descriptor, aliases, 56);

/* One data type. Owned by the plugin, valid from init to deinit. since 1.0 */
typedef struct rh_dtype {
  uint32_t struct_size;
  uint32_t reserved;
  void *data; /* the plugin's own */
  const rh_dtype_descriptor *descriptor;
  /* Says at plan time whether it can quantize a layer: RH_OK, or RH_INVALID_ARGUMENT with a message that says what
   * would work. Any scheme or encoding may be asked about, and options_json may be any object; options are compared as JSON
   * values, never as text. [thread-safe] since 1.0 */
  rh_code (*check)(const struct rh_dtype *dtype, const rh_layer *layer, rh_error *error);
  /* Makes a quantizer; the plugin copies what it needs of the layer, its scheme and its encoding. The caller owns it
   * and ends it with its destroy. Fails as check does. [worker] since 1.0 */
  rh_code (*create)(const struct rh_dtype *dtype, const rh_layer *layer, rh_quantizer **out, rh_error *error);
  /* Returns the function table of an extension, NULL for an unknown id. Owned by the plugin, valid until deinit.
   * Optional. [thread-safe] since 1.0 */
  const void *(*get_extension)(const struct rh_dtype *dtype, const char *id);
  /* end of 1.0: do not modify above */
} rh_dtype;
RH_ASSERT_END(rh_dtype, get_extension, 48);

/* The data types of a plugin. Owned by the plugin, valid from init to deinit. since 1.0 */
typedef struct rh_dtype_factory {
  uint32_t struct_size;
  uint32_t reserved;
  /* How many data types there are; the same from init to deinit. [thread-safe] since 1.0 */
  uint32_t (*count)(void);
  /* One of them, the same pointer each time; NULL when index >= count(). [thread-safe] since 1.0 */
  const rh_dtype *(*get)(uint32_t index);
  /* end of 1.0: do not modify above */
} rh_dtype_factory;
RH_ASSERT_END(rh_dtype_factory, get, 24);

#endif /* ROUNDHOUSE_DTYPE_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: the tensors that plugins declare, and encodings.
 *
 * An encoding is the joint between data types and formats: a data type names the one that it emits, a format those that it
 * packs, and neither knows the other. One law: the scheme is what was asked, the encoding is what was made; formats read
 * the encoding, never the scheme.
 *
 * Below the structs stand the encodings that Roundhouse's own plugins share, with their normative decode formulas.
 * encoding/ has helpers for them, in C++ and in C (encoding/parameters.h). A vendor's own encoding has an id under a name
 * of its own ("example.com/nf4/1").
 *
 * Conventions: W is [rows, cols] = [out_features, in_features]; codes cross one a byte; packing is the format's work.
 */
#ifndef ROUNDHOUSE_ENCODING_H
#define ROUNDHOUSE_ENCODING_H

#include "tensor.h"

/* Learning-rate groups of tunables. */
#define RH_LR_ROUNDING 0 /* the recipe's `lr` */
#define RH_LR_RANGE 1    /* the recipe's `minmax_lr` */

/* A tensor that a plugin declares and the host allocates. Its elements have whole bytes; a tunable is f32. Owned by the
 * plugin. since 1.0 */
typedef struct rh_tensor_spec {
  uint32_t struct_size;
  int32_t ndim;
  const char *name; /* unique among its kind: "v", "scale" */
  rh_data_type dtype;
  int32_t lr_group; /* tunables: RH_LR_* */
  int64_t shape[RH_MAX_DIMS];
  double initial;   /* tunables: every element at the start */
  double clamp_min; /* tunables: the range that forward and sign_step keep them in; -inf, inf: none */
  double clamp_max;
  /* end of 1.0: do not modify above */
} rh_tensor_spec;
RH_ASSERT_END(rh_tensor_spec, clamp_max, 112);

/* An encoding is a contract (id and parameters) with the tensors that carry it. Their order is its maker's own: a reader
 * finds them by name. Owned by whoever returned it. since 1.0 */
typedef struct rh_encoding {
  uint32_t struct_size;
  uint32_t tensor_count;
  const char *id;                       /* "affine-int/1", or a vendor's own "example.com/nf4/1" */
  const char *parameters_json;          /* an object */
  const rh_tensor_spec *const *tensors; /* [tensor_count] */
  /* end of 1.0: do not modify above */
} rh_encoding;
RH_ASSERT_END(rh_encoding, tensors, 32);

/* affine-int/1: W[r][c] = scale[r][g] * (code[r][c] - zero_point[r][g])
 *
 *   g = c / group_cols; the last group of a row may be shorter. Computed in float32, rounded once to the output type.
 *   parameters  {"bits": 2..8,
 *                "group_cols": columns of a group (cols: one group a row),
 *                "group_rows": 1, or rows (one group for the whole tensor: scale is [1, 1]),
 *                "symmetric": true (zero_point is 2^(bits-1) everywhere and not sent) or false}
 *   tensors     "codes"       u8 [rows, cols], 0 .. 2^bits - 1
 *               "scale"       f16, bf16 or f32 [rows / group_rows, ceil(cols / group_cols)]; may be negative
 *               "zero_point"  u8, shape of scale, 0 .. 2^bits - 1; absent when symmetric
 *               "outer_scale" f32 [1], optional (progressive quantization): W = outer_scale * (scale * (code - zero_point)),
 *                             where what outer_scale multiplies is rounded to the output type first
 *               "group_index" i32 [cols], optional (GPTQ's desc_act): the group of each column, in place of
 *                             c / group_cols
 * since 1.0 */
#define RH_ENCODING_AFFINE_INT "affine-int/1"

/* scaled-fp8/1: W[r][c] = value(code[r][c]) * scale[r / group_rows][c / group_cols]
 *
 *   Computed in float32, rounded once to the output type; the last group of a row or column may be smaller.
 *   parameters  {"element": "e4m3" (FN: no infinity, largest 448) or "e5m2" (IEEE, largest 57344),
 *                "group_rows", "group_cols": rows and columns that share a scale}
 *   tensors     "codes" u8 [rows, cols], the element's bit pattern (OCP 8-bit floating point, 1.0)
 *               "scale" f32, bf16 or f16 [ceil(rows / group_rows), ceil(cols / group_cols)], positive; absent for scale 1
 * since 1.0 */
#define RH_ENCODING_SCALED_FP8 "scaled-fp8/1"

/* mx/1: W[r][c] = value(code[r][c]) * 2^(scale[r][c / group_cols] - 127)   (OCP Microscaling formats, 1.0)
 *
 *   Exact in float32, rounded once to the output type.
 *   parameters  {"element": "fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "int8", "int4" or "int2",
 *                "group_cols": 32}
 *   tensors     "codes" u8 [rows, cols], the element's bit pattern in the low bits; int<b>: two's complement in the low b
 *                       bits, in units of 2^-(b-2)
 *               "scale" u8 [rows, ceil(cols / group_cols)], E8M0
 * since 1.0 */
#define RH_ENCODING_MX "mx/1"

/* nvfp/1: W[r][c] = value(code[r][c]) * d, d = scale[r][c / group_cols] / global_scale
 *
 *   In float32, rounded once to the output type. With ue5m3, d is the scale itself. With e4m3 the quotient is computed as
 *   the weight was quantized, and this is the normative formula: 1 / (1 / (scale * (1 / global_scale))), each step rounded
 *   to float32, and 0 where a divisor is 0. It differs from a plain division in the last bits only.
 *   parameters  {"scale": "e4m3" or "ue5m3" (unsigned, bias 15, 0xff is NaN), "group_cols": 16 or 32}
 *   tensors     "codes"        u8 [rows, cols], fp4_e2m1 in the low four bits
 *               "scale"        u8 [rows, ceil(cols / group_cols)], the scale element's bit pattern
 *               "global_scale" f32 [1]; absent for ue5m3: 1
 * since 1.0 */
#define RH_ENCODING_NVFP "nvfp/1"

/* ggml-block/1: finished blocks of ggml, as GGUF files hold them; ggml's own dequantization is the formula.
 *
 *   parameters  {"type": "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k" or "q6_k"}
 *   tensors     "blocks" u8 [rows, cols / (columns of a block) * (bytes of a block)]; a row is whole blocks
 * since 1.0 */
#define RH_ENCODING_GGML_BLOCK "ggml-block/1"

/* The encoding of an activation says what an engine must do to a layer's input before it multiplies. It has the id that the
 * same numbers have as a weight, groups along the features of one token (group_rows 1) or one group for the whole tensor
 * (group_rows 0), and the parameter "dynamic": true when the scale follows from each input, false when it was calibrated.
 * It has no tensors, except for a calibrated range: "scale" f32 [1] (scaled-fp8/1 without it: the scale is 1), or for
 * nvfp/1 "global_scale" f32 [1].
 *
 * How a scale follows from the values x that share it, with a = max |x|:
 *   affine-int/1  symmetric: the x of largest magnitude / -2^(bits-1); with the parameter "mirrored": true
 *                 (min x < 0 ? 2 a : a) / (2^bits - 1). Else (max(x, 0) - min(x, 0)) / (2^bits - 1), and the zero point
 *                 is -min(x, 0) / scale, rounded
 *   scaled-fp8/1  a / the element's largest
 *   mx/1          by the parameter "exponent": "floor" (absent: this one; OCP's), 2^(floor(log2 a) - floor(log2 of the
 *                 element's largest)); "rceil", 2^ceil(log2(a / the element's largest)); "rceil_v2", fp4_e2m1 alone,
 *                 2^ceil(log2(a / 7.25)) (arXiv 2607.24377)
 *   nvfp/1        e4m3: min(448, G * a / 6), rounded to e4m3, where G is "global_scale"; "dynamic" is said of G alone,
 *                 which is then 2688 / max |x| over all of the input. ue5m3: a / 6, rounded to ue5m3, at most its largest
 * The code of an x is that of the nearest value, ties to even, of those that the codes can have: x beyond them gets the
 * last one. */

#endif /* ROUNDHOUSE_ENCODING_H */

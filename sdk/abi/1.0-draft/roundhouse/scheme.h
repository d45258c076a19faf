/* Roundhouse SDK: how one layer is quantized, and the tensors that plugins declare. */
#ifndef ROUNDHOUSE_SCHEME_H
#define ROUNDHOUSE_SCHEME_H

#include "tensor.h"

/* How codes are chosen. */
#define RH_ROUNDING_PLAIN 0 /* nearest, in the arithmetic of the weight's element type */
#define RH_ROUNDING_SEARCH 1 /* scales searched for the least (importance-weighted) error, then nearest */
#define RH_ROUNDING_TUNED 2 /* nearest after adding tuned tensors, in float32 */

/* Values of group_cols beside a group's width in columns. */
#define RH_GROUP_ROW (-1) /* one group a row */
#define RH_GROUP_TENSOR 0 /* one group for the whole tensor */

/* The weight's or the activation's side of a scheme. Owned by the host; borrowed for the call that passes it, except
 * where a function says that it stays valid longer. since 1.0 */
typedef struct rh_scheme {
  uint32_t struct_size;
  int32_t bits;
  const char *dtype; /* the dtype plugin's id */
  int32_t symmetric; /* 0 or 1 */
  int32_t rounding; /* RH_ROUNDING_* */
  int64_t group_rows; /* 1, or the rows of a 2-D group */
  int64_t group_cols; /* columns of a group, RH_GROUP_ROW or RH_GROUP_TENSOR */
  int32_t super_bits; /* bits of the quantized scales of a super-group, 0: none */
  int32_t super_group; /* groups in a super-group, 0: none */
  int32_t dynamic; /* activations: 1, range taken from each input; 0, calibrated */
  rh_data_type scale_dtype; /* bits 0: the dtype's default */
  float scale_threshold; /* smallest magnitude of a scale (q_scale_thresh), 0: the dtype's default */
  float weight_fp8_max_scale; /* 0: the dtype's default */
  const char *options_json; /* a vendor's own options, an object; never NULL */
  /* end of 1.0: do not modify above */
} rh_scheme;
RH_ASSERT_END(rh_scheme, options_json, 72);

#define RH_TARGET_WEIGHT 0
#define RH_TARGET_ACTIVATION 1

/* What a quantizer is made for. since 1.0 */
typedef struct rh_layer {
  uint32_t struct_size;
  int32_t target; /* RH_TARGET_* */
  const char *name; /* "model.layers.0.self_attn.q_proj" */
  const char *role; /* "q_proj": the descriptor's word; "" when unknown */
  const rh_scheme *scheme;
  int64_t rows; /* weight: out_features. activation: -1, any number of tokens */
  int64_t cols; /* in_features */
  rh_data_type dtype; /* element type of the weight in the checkpoint, or of the activation */
  uint32_t reserved;
  /* end of 1.0: do not modify above */
} rh_layer;
RH_ASSERT_END(rh_layer, reserved, 56);

#define RH_MAX_DIMS 8

/* Learning-rate groups of tunables. */
#define RH_LR_ROUNDING 0 /* the recipe's `lr` */
#define RH_LR_RANGE 1 /* the recipe's `minmax_lr` */
#define RH_LR_GROUPS 2

/* A tensor that a plugin declares and the host allocates. Owned by the plugin. since 1.0 */
typedef struct rh_tensor_spec {
  uint32_t struct_size;
  int32_t ndim;
  const char *name; /* unique among its kind: "v", "scale" */
  rh_data_type dtype;
  int32_t lr_group; /* tunables: RH_LR_* */
  int64_t shape[RH_MAX_DIMS];
  double initial; /* tunables: every element at the start */
  double clamp_min; /* tunables: the range that forward and sign_step keep them in; -inf, inf: none */
  double clamp_max;
  /* end of 1.0: do not modify above */
} rh_tensor_spec;
RH_ASSERT_END(rh_tensor_spec, clamp_max, 112);

/* An encoding is a contract (id and parameters) with the tensors that carry it; encodings.h has the normative decode
 * formulas. Owned by whoever returned it. since 1.0 */
typedef struct rh_encoding {
  uint32_t struct_size;
  uint32_t tensor_count;
  const char *id; /* "affine-int/1", or a vendor's own "example.com/nf4/1" */
  const char *parameters_json; /* an object */
  const rh_tensor_spec *const *tensors; /* [tensor_count] */
  /* end of 1.0: do not modify above */
} rh_encoding;
RH_ASSERT_END(rh_encoding, tensors, 32);

#endif /* ROUNDHOUSE_SCHEME_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: what a quantizer is made for. */
#ifndef ROUNDHOUSE_LAYER_H
#define ROUNDHOUSE_LAYER_H

#include "encoding.h"
#include "scheme.h"

#define RH_TARGET_WEIGHT 0
#define RH_TARGET_ACTIVATION 1

/* A layer's place among equal matrices, such as the experts of a block. Owned by the host, valid as long as the struct
 * that points to it. since 1.0 */
typedef struct rh_stack {
  uint32_t struct_size;
  uint32_t reserved;
  const char *name; /* the same for all matrices of the stack: "model.layers.0.mlp.experts.gate_proj" */
  int64_t index;    /* this matrix, from 0 */
  int64_t count;    /* matrices in the stack */
  /* end of 1.0: do not modify above */
} rh_stack;
RH_ASSERT_END(rh_stack, count, 32);

/* What a quantizer is made for. Either `scheme` or `encoding` is NULL: with a scheme the quantizer makes an encoding; with
 * an encoding it takes over tensors that were made before (RH_SUPPORTS_ENCODED). since 1.0 */
typedef struct rh_layer {
  uint32_t struct_size;
  int32_t target;              /* RH_TARGET_* */
  const char *name;            /* "model.layers.0.self_attn.q_proj" */
  const char *role;            /* "q_proj": the descriptor's word; "" when unknown */
  const rh_scheme *scheme;     /* what was asked, or NULL */
  const rh_encoding *encoding; /* what was made, or NULL */
  int64_t rows;                /* weight: out_features. activation: -1, any number of tokens */
  int64_t cols;                /* in_features */
  rh_data_type dtype;          /* element type of the weight in the checkpoint, or of the activation */
  uint32_t
      matrices; /* 0 or 1; or n, with RH_SUPPORTS_BATCHES: the weight is n equal matrices of rows / n rows, one below
                        the other */
  const rh_stack *stack; /* the stack that the layer belongs to, or NULL */
  /* end of 1.0: do not modify above */
} rh_layer;
RH_ASSERT_END(rh_layer, stack, 72);

#endif /* ROUNDHOUSE_LAYER_H */

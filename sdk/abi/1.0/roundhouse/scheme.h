/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a scheme, which says how one tensor is to be quantized.
 *
 * The scheme is what was asked; the encoding (encoding.h) is what was made. A data type reads the scheme. Formats read the
 * encoding, and never see a scheme: a data type may choose groups or widths of its own.
 */
#ifndef ROUNDHOUSE_SCHEME_H
#define ROUNDHOUSE_SCHEME_H

#include "tensor.h"

/* How codes are chosen. */
#define RH_ROUNDING_PLAIN 0        /* nearest, in the arithmetic of the weight's element type */
#define RH_ROUNDING_SEARCH 1       /* scales searched for the least (importance-weighted) error, then nearest */
#define RH_ROUNDING_TUNED 2        /* nearest after adding tuned tensors, in float32 */
#define RH_ROUNDING_TUNED_SEARCH 3 /* tuned, and the tuning starts from searched scales */

/* Values of group_cols beside a group's width in columns. */
#define RH_GROUP_ROW (-1) /* one group a row */
#define RH_GROUP_TENSOR 0 /* one group for the whole tensor */

/* The weight's or the activation's side of a scheme. Owned by the host; borrowed for the call that passes it. since 1.0 */
typedef struct rh_scheme {
  uint32_t struct_size;
  int32_t bits;
  const char *dtype;        /* the data type's id */
  int32_t symmetric;        /* 0 or 1 */
  int32_t rounding;         /* RH_ROUNDING_* */
  int64_t group_rows;       /* 1, or the rows of a 2-D group */
  int64_t group_cols;       /* columns of a group, RH_GROUP_ROW or RH_GROUP_TENSOR */
  int32_t dynamic;          /* activations: 1, range taken from each input; 0, calibrated */
  rh_data_type scale_dtype; /* bits 0: the data type's default */
  float scale_threshold;    /* smallest magnitude of a scale (q_scale_thresh), 0: the data type's default */
  uint32_t reserved;
  const char *options_json; /* the data type's own options, an object; never NULL */
  /* end of 1.0: do not modify above */
} rh_scheme;
RH_ASSERT_END(rh_scheme, options_json, 64);

#endif /* ROUNDHOUSE_SCHEME_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: borrowed tensor views.
 *
 * rh_tensor is laid out as DLPack's DLTensor (version 1), so that a plugin can hand it to any DLPack library.
 * In this major version tensors are contiguous, row-major: `strides` is NULL and `byte_offset` is 0.
 * Elements narrower than a byte are packed without gaps: element i begins at bit i * bits, counted from the lowest bit of
 * the first byte. A tensor has (elements * bits + 7) / 8 bytes.
 */
#ifndef ROUNDHOUSE_TENSOR_H
#define ROUNDHOUSE_TENSOR_H

#include "abi.h"

/* Element kinds: the numbers of DLDataTypeCode. */
#define RH_KIND_INT 0
#define RH_KIND_UINT 1
#define RH_KIND_FLOAT 2
#define RH_KIND_BFLOAT 4
#define RH_KIND_COMPLEX 5
#define RH_KIND_BOOL 6
#define RH_KIND_FLOAT8_E4M3FN 10
#define RH_KIND_FLOAT8_E5M2 12
#define RH_KIND_FLOAT8_E8M0FNU 14
#define RH_KIND_FLOAT6_E2M3FN 15
#define RH_KIND_FLOAT6_E3M2FN 16
#define RH_KIND_FLOAT4_E2M1FN 17

/* Frozen: 4 bytes. since 1.0 */
typedef struct rh_data_type {
  uint8_t kind;
  uint8_t bits;   /* bits of one element */
  uint16_t lanes; /* always 1 */
} rh_data_type;

/* Device kinds: the numbers of DLDeviceType. */
#define RH_DEVICE_CPU 1
#define RH_DEVICE_CUDA 2

#define RH_MAX_DIMS 8

/* Frozen: 8 bytes. since 1.0 */
typedef struct rh_device {
  int32_t type;
  int32_t id;
} rh_device;

/* A view of memory that somebody else owns. `data` is NULL only when the tensor has no elements.
 * Frozen: 48 bytes. since 1.0 */
typedef struct rh_tensor {
  void *data;
  rh_device device;
  int32_t ndim;
  rh_data_type dtype;
  int64_t *shape;       /* [ndim] */
  int64_t *strides;     /* NULL: contiguous, row-major */
  uint64_t byte_offset; /* 0 */
} rh_tensor;

RH_STATIC_ASSERT(sizeof(rh_data_type) == 4 && offsetof(rh_data_type, bits) == 1 && offsetof(rh_data_type, lanes) == 2,
                 "rh_data_type is frozen");
RH_STATIC_ASSERT(sizeof(rh_device) == 8 && offsetof(rh_device, id) == 4, "rh_device is frozen");
RH_STATIC_ASSERT(sizeof(rh_tensor) == 48 && offsetof(rh_tensor, device) == 8 && offsetof(rh_tensor, ndim) == 16 &&
                     offsetof(rh_tensor, dtype) == 20 && offsetof(rh_tensor, shape) == 24 &&
                     offsetof(rh_tensor, strides) == 32 && offsetof(rh_tensor, byte_offset) == 40,
                 "rh_tensor is frozen");

#endif /* ROUNDHOUSE_TENSOR_H */

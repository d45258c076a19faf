/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: borrowed tensor views.
 *
 * rh_tensor is laid out as DLPack's DLTensor (version 1), so that a plugin can hand it to any DLPack library.
 * In this major version tensors are contiguous, row-major: `strides` is NULL and `byte_offset` is 0.
 *
 * Numbers are little-endian; a complex one is two floats of half its bits, the real part first.
 * Elements narrower than a byte are packed without gaps across rows: element i begins at bit i * bits, counted from the
 * lowest bit of the first byte, so that of two 4-bit elements in a byte the first is in the low bits. A tensor has
 * (elements * bits + 7) / 8 bytes; bits behind the last element are 0.
 * These are the bytes of a safetensors file. Whoever copies a tensor copies bytes, whatever its type.
 */
#ifndef ROUNDHOUSE_TENSOR_H
#define ROUNDHOUSE_TENSOR_H

#include "abi.h"

/* Element kinds: the numbers of DLDataTypeCode. With `bits` they name every element type of safetensors:
 *   F64, F32, F16   RH_KIND_FLOAT          BF16      RH_KIND_BFLOAT           C64   RH_KIND_COMPLEX, 64
 *   I64 to I8       RH_KIND_INT            U64 to U8 RH_KIND_UINT             BOOL  RH_KIND_BOOL, 8
 *   F8_E4M3         RH_KIND_FLOAT8_E4M3FN  F8_E5M2   RH_KIND_FLOAT8_E5M2      F8_E8M0  RH_KIND_FLOAT8_E8M0FNU
 *   F8_E4M3FNUZ     ..._E4M3FNUZ           F8_E5M2FNUZ  ..._E5M2FNUZ
 *   F6_E2M3, F6_E3M2, F4  RH_KIND_FLOAT6_E2M3FN, RH_KIND_FLOAT6_E3M2FN, RH_KIND_FLOAT4_E2M1FN */
#define RH_KIND_INT 0
#define RH_KIND_UINT 1
#define RH_KIND_FLOAT 2
#define RH_KIND_BFLOAT 4
#define RH_KIND_COMPLEX 5
#define RH_KIND_BOOL 6
#define RH_KIND_FLOAT8_E4M3FN 10
#define RH_KIND_FLOAT8_E4M3FNUZ 11
#define RH_KIND_FLOAT8_E5M2 12
#define RH_KIND_FLOAT8_E5M2FNUZ 13
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

/* A view of memory that somebody else owns. `data` is NULL only when the tensor has no elements; it is aligned to the size
 * of an element, and may be to no more, as in a mapped file.
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

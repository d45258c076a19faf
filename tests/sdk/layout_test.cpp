// SPDX-License-Identifier: Apache-2.0
// rh_tensor promises DLPack's layout; libtorch brings the DLPack header to hold it against.
#include <ATen/dlpack.h>
#include <gtest/gtest.h>
#include <roundhouse/entry.h>
#include <roundhouse/tensor.h>

#include <cstddef>

#define SAME_OFFSET(ours, theirs) static_assert(offsetof(rh_tensor, ours) == offsetof(DLTensor, theirs))
static_assert(sizeof(rh_tensor) == sizeof(DLTensor));
SAME_OFFSET(data, data);
SAME_OFFSET(device, device);
SAME_OFFSET(ndim, ndim);
SAME_OFFSET(dtype, dtype);
SAME_OFFSET(shape, shape);
SAME_OFFSET(strides, strides);
SAME_OFFSET(byte_offset, byte_offset);
static_assert(sizeof(rh_device) == sizeof(DLDevice) && offsetof(rh_device, id) == offsetof(DLDevice, device_id));
static_assert(sizeof(rh_data_type) == sizeof(DLDataType) && offsetof(rh_data_type, bits) == offsetof(DLDataType, bits));
static_assert(RH_KIND_INT == kDLInt && RH_KIND_UINT == kDLUInt && RH_KIND_FLOAT == kDLFloat);
static_assert(RH_KIND_BFLOAT == kDLBfloat && RH_KIND_BOOL == kDLBool);
static_assert(RH_KIND_FLOAT8_E4M3FN == kDLFloat8_e4m3fn && RH_KIND_FLOAT8_E5M2 == kDLFloat8_e5m2);
static_assert(RH_KIND_FLOAT8_E8M0FNU == kDLFloat8_e8m0fnu && RH_KIND_FLOAT4_E2M1FN == kDLFloat4_e2m1fn);
static_assert(RH_KIND_FLOAT6_E2M3FN == kDLFloat6_e2m3fn && RH_KIND_FLOAT6_E3M2FN == kDLFloat6_e3m2fn);
static_assert(RH_DEVICE_CPU == kDLCPU && RH_DEVICE_CUDA == kDLCUDA);

TEST(Layout, HasMacroChecksSizeAndNull) {
  rh_entry entry{};
  entry.init = [](const rh_host*, rh_error*) -> rh_code { return RH_OK; };
  entry.struct_size = sizeof entry;
  EXPECT_TRUE(RH_HAS(&entry, init));
  EXPECT_FALSE(RH_HAS(&entry, deinit)) << "NULL";
  entry.struct_size = offsetof(rh_entry, init);
  EXPECT_FALSE(RH_HAS(&entry, init)) << "the writer did not know the member";
  EXPECT_FALSE(RH_HAS(static_cast<rh_entry*>(nullptr), init));
}

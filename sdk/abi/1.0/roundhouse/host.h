/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: what the host offers to plugins.
 *
 * The host passes an rh_host to rh_entry.init. Everything beyond it is an extension, asked for by id;
 * an id that the host does not know gives NULL, and the plugin must work without it or say what it lacks. Each extension
 * has a header of its own under ext/.
 */
#ifndef ROUNDHOUSE_HOST_H
#define ROUNDHOUSE_HOST_H

#include "tensor.h"

/* Owned by the host, valid from init to deinit. since 1.0 */
typedef struct rh_host {
  uint32_t struct_size;
  uint16_t abi_major;
  uint16_t abi_minor;
  const char *name;    /* "roundhouse" */
  const char *version; /* the product's version, "0.1.0" */
  void *data;          /* the host's own */

  /* Returns the function table of an extension, or NULL when the host does not have it: the plugin works without, or
   * fails with RH_UNIMPLEMENTED and names the id. Owned by the host, valid until deinit.
   * [thread-safe] since 1.0 */
  const void *(*get_extension)(const struct rh_host *host, const char *id);
  /* end of 1.0: do not modify above */
} rh_host;
RH_ASSERT_END(rh_host, get_extension, 40);

#define RH_STATUS_NOT_FINITE 1u  /* the input holds NaN or infinity */
#define RH_STATUS_SCALE_RANGE 2u /* a scale is beyond its element type */

/* Where a call runs. The host owns device, stream, memory and threads: the plugin enqueues on `stream`,
 * never synchronizes the device, and leaves the current device as it found it, which is `device` where that is CUDA's.
 * What was enqueued may still run when the call has returned: until it has, the data of the call's tensors, workspace and
 * status stay where they are. Structs, shapes and arrays of pointers are borrowed for the call alone. since 1.0 */
typedef struct rh_exec {
  uint32_t struct_size;
  uint32_t reserved;
  rh_device device;
  void *stream;    /* cudaStream_t on CUDA, else NULL */
  void *workspace; /* at least the bytes that workspace_size() asked for, 256-byte aligned, on `device` */
  uint64_t workspace_size;
  const volatile int32_t *cancelled; /* NULL, or becomes non-zero: return RH_CANCELLED soon */
  uint32_t
      *status; /* NULL, or a word on `device`: a kernel that meets a weight or a scale which it cannot represent sets
                       bits RH_STATUS_* in it, beside those that earlier calls have set, because it may not wait for the
                       stream. The host reads it when it waits for the stream itself, and fails as if the call had
                       returned RH_INVALID_ARGUMENT. */
  /* end of 1.0: do not modify above */
} rh_exec;
RH_ASSERT_END(rh_exec, status, 56);

#endif /* ROUNDHOUSE_HOST_H */

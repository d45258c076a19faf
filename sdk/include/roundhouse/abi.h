/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: basic types of the C ABI.
 * Rules that hold for every header of this folder:
 *  (1) Growable structs begin with `uint32_t struct_size`, the bytes that their writer knows. New members
 *      are appended, and padding is explicit: a member in what was hidden padding would seem known to old writers.
 *      Before a reader touches a member that 1.0 did not have, it asks RH_HAS() of a pointer, RH_KNOWS() of any other;
 *      it compares sizes with >=, never with ==. The writer sets `reserved` to 0; readers ignore it.
 *      Frozen structs (rh_error, rh_data_type, rh_device, rh_tensor) have no size field and never change within a major
 *      version. Arrays of growable structs are arrays of pointers.
 *  (2) Every fallible call returns an rh_code and, on failure, fills the caller's rh_error.
 *      What `out` points to is written only when RH_OK is returned. Nothing aborts, exits or throws across the boundary.
 *  (3) Pointers that cross are borrowed for the call, unless the comment says otherwise: whoever needs the bytes later
 *      copies them. Strings are UTF-8 and NUL-terminated. Pointer arguments are not NULL unless the comment says so.
 *  (4) Each function's comment ends with its thread tag, then the version that introduced it:
 *      [main]         only the thread that runs the host's main loop
 *      [worker]       any thread, but one at a time for one instance: a data type, a format, and each quantizer, writer
 *                     and reader that they made stands for itself
 *      [thread-safe]  any thread, at any time
 *      A constant or id without a version is as old as the struct or extension that it is for.
 *      What a function calls back (take, answer, body of a loop), it calls before it returns, and on the thread of its
 *      own call, but for the bodies of loops.
 *  (5) Members of function tables marked optional may be NULL; the caller asks RH_HAS(). One that is required in some
 *      cases may be NULL in the others. All others are there.
 *  (6) A later minor may define numbers and bits that mean nothing here. A reader fails at a number that it does not
 *      know, unless the comment says otherwise, and ignores such a bit; so whoever sets one must do without its effect.
 */
#ifndef ROUNDHOUSE_ABI_H
#define ROUNDHOUSE_ABI_H

#include <stddef.h>
#include <stdint.h>

#define RH_ABI_MAJOR 1
#define RH_ABI_MINOR 0
/* The SDK's own version. What it adds to the one before may still change while it says draft. */
#define RH_SDK_VERSION "1.0"

#if defined(__cplusplus)
#define RH_EXTERN_C extern "C"
#define RH_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#define RH_EXTERN_C
#define RH_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif

/* A published revision of a growable struct ends with `last` at `bytes`, for ever: pointers have 64 bits. */
#define RH_ASSERT_END(type, last, bytes) \
  RH_STATIC_ASSERT(offsetof(type, last) + sizeof(((type *)0)->last) == (bytes), #type " has changed")

#if defined(_WIN32)
#define RH_EXPORT __declspec(dllexport)
#else
#define RH_EXPORT __attribute__((visibility("default")))
#endif

/* Result codes: the numbers of absl::StatusCode. */
typedef int32_t rh_code;
#define RH_OK 0
#define RH_CANCELLED 1
#define RH_UNKNOWN 2
#define RH_INVALID_ARGUMENT 3
#define RH_NOT_FOUND 5
#define RH_ALREADY_EXISTS 6
#define RH_RESOURCE_EXHAUSTED 8
#define RH_FAILED_PRECONDITION 9
#define RH_ABORTED 10
#define RH_OUT_OF_RANGE 11
#define RH_UNIMPLEMENTED 12
#define RH_INTERNAL 13
#define RH_UNAVAILABLE 14
#define RH_DATA_LOSS 15

/* A caller-owned error. The callee writes it only when it returns something other than RH_OK.
 * The message says what went wrong, where (layer, file) and what to do; it is cut at 507 bytes.
 * Frozen: 512 bytes. since 1.0 */
typedef struct rh_error {
  rh_code code;
  char message[508];
} rh_error;
RH_STATIC_ASSERT(sizeof(rh_error) == 512 && offsetof(rh_error, message) == 4, "rh_error is frozen");
RH_STATIC_ASSERT(sizeof(void *) == 8, "the ABI is defined for 64-bit pointers");

/* True when the struct that `p` points to is large enough to hold `member` and the member is not NULL.
 * For pointers and function pointers only. */
#define RH_HAS(p, member)                                                                                        \
  ((p) != NULL &&                                                                                                \
   (size_t)((const char *)&(p)->member - (const char *)(p)) + sizeof((p)->member) <= (size_t)(p)->struct_size && \
   (p)->member != NULL)

/* True when the struct is large enough to hold `member`, whatever its value. */
#define RH_KNOWS(p, member) \
  ((p) != NULL &&           \
   (size_t)((const char *)&(p)->member - (const char *)(p)) + sizeof((p)->member) <= (size_t)(p)->struct_size)

#endif /* ROUNDHOUSE_ABI_H */

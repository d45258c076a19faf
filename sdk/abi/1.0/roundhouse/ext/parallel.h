/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a host extension that runs loops on the host's threads.
 *
 * Plugins start no threads and bring no OpenMP of their own. */
#ifndef ROUNDHOUSE_EXT_PARALLEL_H
#define ROUNDHOUSE_EXT_PARALLEL_H

#include "../host.h"

#define RH_EXT_PARALLEL "roundhouse.parallel/1"

/* since 1.0 */
typedef struct rh_parallel {
  uint32_t struct_size;
  uint32_t reserved;
  /* The most threads that parallel_for uses. [thread-safe] since 1.0 */
  int32_t (*max_threads)(const rh_host *host);
  /* Calls body(context, begin, end) for consecutive chunks of `grain` items (the last may be shorter) that
   * cover [0, n), on any threads in any order; returns when all have ended. The chunks depend on n and grain
   * alone, so a reduction over chunk results has the same bits for any thread count. Borrows `context`.
   * Forbidden: exceptions that leave `body`, and calling it from inside `body`. [thread-safe] since 1.0 */
  void (*parallel_for)(const rh_host *host, int64_t n, int64_t grain,
                       void (*body)(void *context, int64_t begin, int64_t end), void *context);
  /* end of 1.0: do not modify above */
} rh_parallel;
RH_ASSERT_END(rh_parallel, parallel_for, 24);

#endif /* ROUNDHOUSE_EXT_PARALLEL_H */

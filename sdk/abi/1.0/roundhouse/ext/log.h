/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a host extension that prints messages. */
#ifndef ROUNDHOUSE_EXT_LOG_H
#define ROUNDHOUSE_EXT_LOG_H

#include "../host.h"

#define RH_EXT_LOG "roundhouse.log/1"
#define RH_LOG_DEBUG 0
#define RH_LOG_INFO 1
#define RH_LOG_WARNING 2
#define RH_LOG_ERROR 3

/* since 1.0 */
typedef struct rh_log {
  uint32_t struct_size;
  uint32_t reserved;
  /* Prints one message (severity: RH_LOG_*) without a newline. The host copies the text. For failures return a code
   * instead: the host prints those. [thread-safe] since 1.0 */
  void (*write)(const rh_host *host, int32_t severity, const char *message);
  /* end of 1.0: do not modify above */
} rh_log;
RH_ASSERT_END(rh_log, write, 16);

#endif /* ROUNDHOUSE_EXT_LOG_H */

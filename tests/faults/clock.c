/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded: the time of day goes back by an hour at each look at it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <time.h>

static atomic_long g_hours;

int clock_gettime(clockid_t clock, struct timespec *time) {
  const int code = ((__typeof__(&clock_gettime))dlsym(RTLD_NEXT, "clock_gettime"))(clock, time);
  if (code == 0 && clock == CLOCK_REALTIME) time->tv_sec -= 3600 * atomic_fetch_add(&g_hours, 1);
  return code;
}

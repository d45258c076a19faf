/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: how a plugin is found and started.
 *
 * A plugin is a shared object that exports one function, rh_get_entry, and nothing else. The host calls, in order:
 *   rh_get_entry -> compares abi_major -> init -> get_factory -> descriptors -> create -> use -> destroy -> deinit
 * Descriptors must be available before any instance exists, and cost nothing: init runs under 100 ms, starts no
 * thread, touches no GPU and does no I/O.
 *
 * Every call leaves as it found them: the floating-point environment of its threads (rounding, denormals, traps), and of
 * the process locale, umask, current folder, signal handlers, and descriptors that are not the plugin's own.
 */
#ifndef ROUNDHOUSE_ENTRY_H
#define ROUNDHOUSE_ENTRY_H

#include "host.h"

#define RH_ENTRY_SYMBOL "rh_get_entry"

/* Owned by the plugin, valid as long as it is loaded. The first 8 bytes are frozen across all majors, so that any
 * host can read any plugin well enough to refuse it in words. An equal major is required; a differing minor loads.
 * since 1.0 */
typedef struct rh_entry {
  uint32_t struct_size;
  uint16_t abi_major; /* RH_ABI_MAJOR of the headers that the plugin was built with */
  uint16_t abi_minor;
  const char *name; /* short, for messages: "int" */
  const char *vendor;
  const char *version; /* the plugin's own */
  const char *summary; /* one sentence */

  /* Makes the plugin ready for get_factory. Counted: it may be called more than once, with the same `host`, and each
   * success is paired with a deinit; `host` stays valid until the last. A plugin that cannot work here (a missing driver
   * or licence) fails and says why; then nothing else of it is called.
   * Forbidden: threads, files, the GPU, more than 100 ms. [main] since 1.0 */
  rh_code (*init)(const rh_host *host, rh_error *error);
  /* Ends one init; the last one frees all that the plugin owns, and every table and string that it gave out is gone.
   * Forbidden while a quantizer, writer or reader of the plugin lives. The code stays loaded. [main] since 1.0 */
  void (*deinit)(void);
  /* Returns an rh_dtype_factory for RH_DTYPE_FACTORY, an rh_format_factory for RH_FORMAT_FACTORY; NULL for what it does
   * not offer and for every id that it does not know. Owned by the plugin, valid until deinit.
   * Forbidden before init. [thread-safe] since 1.0 */
  const void *(*get_factory)(const char *factory_id);
  /* end of 1.0: do not modify above */
} rh_entry;
RH_ASSERT_END(rh_entry, get_factory, 64);

RH_STATIC_ASSERT(offsetof(rh_entry, abi_major) == 4 && offsetof(rh_entry, abi_minor) == 6, "frozen across majors");

/* The one exported symbol. Returns the same pointer each time; never NULL. Owned by the plugin, valid as long as it is
 * loaded. Does nothing else: init is where a plugin starts. [thread-safe] since 1.0 */
RH_EXTERN_C RH_EXPORT const rh_entry *rh_get_entry(void);

#endif /* ROUNDHOUSE_ENTRY_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a format's extension that looks at a finished checkpoint as the engines will. */
#ifndef ROUNDHOUSE_EXT_LINT_H
#define ROUNDHOUSE_EXT_LINT_H

#include "../format.h"

#define RH_EXT_LINT "roundhouse.lint/1"

#define RH_FINDING_ERROR 0   /* the engine refuses the checkpoint, or computes something else than was exported */
#define RH_FINDING_WARNING 1 /* the engine loads it, but not as one would expect */

/* What an engine will stumble over. Owned by the plugin; borrowed for the call that passes it. No text is NULL.
 * since 1.0 */
typedef struct rh_finding {
  uint32_t struct_size;
  int32_t severity;    /* RH_FINDING_* */
  const char *engine;  /* "vllm", "transformers", "llama.cpp"; "": every engine that loads the format */
  const char *file;    /* relative to the checkpoint: "config.json"; "": no single one */
  const char *message; /* what is wrong, and what the engine makes of it */
  const char *advice;  /* what to do about it */
  /* end of 1.0: do not modify above */
} rh_finding;
RH_ASSERT_END(rh_finding, advice, 40);

/* since 1.0 */
typedef struct rh_lint {
  uint32_t struct_size;
  uint32_t reserved;
  /* Calls take(context, finding) for each finding about a checkpoint of the format, whoever wrote it: the same ones in
   * the same order each time. `engine`: only those of that engine and of every engine; NULL: all. A folder that the
   * format has just written, in which layers that engines fuse are quantized alike, gives no error. What damage hides
   * is RH_DATA_LOSS, as in open. Forbidden: writing to the checkpoint. [worker] since 1.0 */
  rh_code (*lint)(const rh_format *format, const rh_open *source, const char *engine,
                  void (*take)(void *context, const rh_finding *finding), void *context, rh_error *error);
  /* end of 1.0: do not modify above */
} rh_lint;
RH_ASSERT_END(rh_lint, lint, 16);

#endif /* ROUNDHOUSE_EXT_LINT_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a format's extension that goes on with an export which another process has begun.
 *
 * A format without it starts over. */
#ifndef ROUNDHOUSE_EXT_RESUME_H
#define ROUNDHOUSE_EXT_RESUME_H

#include "../format.h"

#define RH_EXT_RESUME "roundhouse.resume/1"

/* since 1.0 */
typedef struct rh_resume {
  uint32_t struct_size;
  uint32_t reserved;
  /* Forces to the disk what the writer has got so far, and calls take(context, bytes, size) once with what restore needs.
   * Called after any number of add_layer and add_tensor; the writer goes on, and may be saved again.
   * [worker] since 1.0 */
  rh_code (*save)(rh_writer *writer, void (*take)(void *context, const void *bytes, uint64_t size), void *context,
                  rh_error *error);
  /* As rh_format.begin, for an export with the same plan and limits over the folder of a writer that was saved, whatever
   * has become of that writer: makes one that stands where it stood. It gets all layers and tensors that had not come
   * when it was saved, and finish gives the same bytes as an export without a break. The folder may hold what was
   * written later. RH_DATA_LOSS when it does not hold what was saved, or when the bytes are damaged.
   * [worker] since 1.0 */
  rh_code (*restore)(const rh_format *format, const rh_export *export_, const void *bytes, uint64_t size,
                     rh_writer **out, rh_error *error);
  /* end of 1.0: do not modify above */
} rh_resume;
RH_ASSERT_END(rh_resume, restore, 24);

#endif /* ROUNDHOUSE_EXT_RESUME_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a host extension, the only way to write files.
 *
 * The folder appears whole, or not at all: files become visible when the export is finished. */
#ifndef ROUNDHOUSE_EXT_OUTPUT_H
#define ROUNDHOUSE_EXT_OUTPUT_H

#include "../format.h"

#define RH_EXT_OUTPUT "roundhouse.output/1"

typedef struct rh_file rh_file; /* opaque, the host's */

/* since 1.0 */
typedef struct rh_output {
  uint32_t struct_size;
  uint32_t reserved;
  /* Opens `name` (a relative path without ".." that does not end in ".tmp") in the export's folder for appending;
   * folders in it are made. The file is the plugin's until commit or discard, one of which must end it before the writer's finish or abort returns.
   * [worker] since 1.0 */
  rh_code (*create)(const rh_export *export_, const char *name, rh_file **out, rh_error *error);
  /* Appends `size` bytes, all or none that count: a short write or a full disk gives RH_RESOURCE_EXHAUSTED or
   * RH_DATA_LOSS, and then only discard is allowed. The bytes may be freed on return. [worker] since 1.0 */
  rh_code (*write)(rh_file *file, const void *bytes, uint64_t size, rh_error *error);
  /* As write(), but at `offset`, which may lie beyond the end; write() goes on where write() has ended.
   * [worker] since 1.0 */
  rh_code (*write_at)(rh_file *file, uint64_t offset, const void *bytes, uint64_t size, rh_error *error);
  /* Forces the file to the disk, closes and names it, in place of an older one of that name; `file` is gone whatever
   * the result. [worker] since 1.0 */
  rh_code (*commit)(rh_file *file, rh_error *error);
  /* Closes and removes the file; `file` is gone. Cannot fail. [worker] since 1.0 */
  void (*discard)(rh_file *file);
  /* Copies the regular file at `path` into the folder as `name`, as create, write and commit would.
   * [worker] since 1.0 */
  rh_code (*copy)(const rh_export *export_, const char *path, const char *name, rh_error *error);
  /* Forces the file to the disk as it is, and says how many bytes long it is; `length` may be NULL. It stays open.
   * [worker] since 1.0 */
  rh_code (*sync)(rh_file *file, uint64_t *length, rh_error *error);
  /* Opens the file that an earlier process had created as `name` and whose length sync has told, committed since or
   * not, and cuts it to that length; write() appends. RH_NOT_FOUND when there is none, RH_DATA_LOSS when it is shorter.
   * The file is the plugin's, as by create. [worker] since 1.0 */
  rh_code (*reopen)(const rh_export *export_, const char *name, uint64_t length, rh_file **out, rh_error *error);
  /* end of 1.0: do not modify above */
} rh_output;
RH_ASSERT_END(rh_output, reopen, 72);

#endif /* ROUNDHOUSE_EXT_OUTPUT_H */

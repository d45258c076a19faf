/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a host extension that lends the host's safetensors reader and streaming writer to format plugins. */
#ifndef ROUNDHOUSE_EXT_SAFETENSORS_H
#define ROUNDHOUSE_EXT_SAFETENSORS_H

#include "../format.h"

#define RH_EXT_SAFETENSORS "roundhouse.safetensors/1"

typedef struct rh_st_reader rh_st_reader; /* opaque, the host's */
typedef struct rh_st_writer rh_st_writer; /* opaque, the host's */

/* A tensor that a writer will get. Borrowed for the call. since 1.0 */
typedef struct rh_st_tensor {
  uint32_t struct_size;
  int32_t ndim;
  const char *name;
  rh_data_type dtype;
  uint32_t reserved;
  const int64_t *shape; /* [ndim] */
  /* end of 1.0: do not modify above */
} rh_st_tensor;
RH_ASSERT_END(rh_st_tensor, shape, 32);

/* since 1.0 */
typedef struct rh_safetensors {
  uint32_t struct_size;
  uint32_t reserved;
  /* Opens a checkpoint folder (one file, or shards with an index) for reading. The reader is the plugin's until close.
   * Headers are checked: a damaged file gives RH_DATA_LOSS with the reason. [thread-safe] since 1.0 */
  rh_code (*open)(const rh_host *host, const char *folder, rh_st_reader **out, rh_error *error);
  /* How many tensors there are; get() takes indices below it, in file order. [worker] since 1.0 */
  uint64_t (*count)(const rh_st_reader *reader);
  /* Name and a view of tensor `index`; either out pointer may be NULL: not wanted. Both belong to the reader and are
   * valid until close. RH_OUT_OF_RANGE when there is no such index.
   * Forbidden: writing to the view's bytes, which are a mapped file. [worker] since 1.0 */
  rh_code (*get)(rh_st_reader *reader, uint64_t index, const char **name, const rh_tensor **view, rh_error *error);
  /* A view of the tensor called `name`, as get() gives it; RH_NOT_FOUND when there is none. [worker] since 1.0 */
  rh_code (*find)(rh_st_reader *reader, const char *name, const rh_tensor **view, rh_error *error);
  /* Frees the reader, with all names and views that it gave. Cannot fail. [worker] since 1.0 */
  void (*close)(rh_st_reader *reader);
  /* Starts model.safetensors in the export's folder; `metadata_json` is an object of strings, or NULL. `tensors` are all
   * that the writer will get: they are divided into files of rh_export.max_shard_bytes in this order, and each file's
   * header is written first. The writer is the plugin's until finish or abort, one of which must end it before the
   * rh_writer's finish or abort returns. [worker] since 1.0 */
  rh_code (*create)(const rh_export *export_, const char *metadata_json, const rh_st_tensor *const *tensors,
                    uint64_t tensor_count, rh_st_writer **out, rh_error *error);
  /* Writes a contiguous CPU tensor to its place: each once, in any order, with the type and shape that create was told.
   * The caller may free it on return. [worker] since 1.0 */
  rh_code (*add)(rh_st_writer *writer, const char *name, const rh_tensor *tensor, rh_error *error);
  /* Closes the files and writes the index; RH_FAILED_PRECONDITION, naming one, when a tensor has not come. `writer` is
   * gone whatever the result. [worker] since 1.0 */
  rh_code (*finish)(rh_st_writer *writer, rh_error *error);
  /* Frees the writer; what it wrote is removed with the export. Cannot fail. [worker] since 1.0 */
  void (*abort)(rh_st_writer *writer);
  /* Forces to the disk what was added so far, and calls take(context, bytes, size) once with what restore needs. The
   * writer goes on. [worker] since 1.0 */
  rh_code (*save)(rh_st_writer *writer, void (*take)(void *context, const void *bytes, uint64_t size), void *context,
                  rh_error *error);
  /* As create, in the folder and with the metadata and tensors of a writer that was saved: goes on from where it was
   * then. What was added after it is added again. RH_DATA_LOSS when the folder does not hold what was saved.
   * [worker] since 1.0 */
  rh_code (*restore)(const rh_export *export_, const char *metadata_json, const rh_st_tensor *const *tensors,
                     uint64_t tensor_count, const void *bytes, uint64_t size, rh_st_writer **out, rh_error *error);
  /* end of 1.0: do not modify above */
} rh_safetensors;
RH_ASSERT_END(rh_safetensors, restore, 96);

#endif /* ROUNDHOUSE_EXT_SAFETENSORS_H */

/* Roundhouse SDK: what the host offers to plugins.
 *
 * The host passes an rh_host to rh_entry.init. Everything beyond it is an extension, asked for by id;
 * an id that the host does not know gives NULL, and the plugin must work without it or say what it lacks.
 */
#ifndef ROUNDHOUSE_HOST_H
#define ROUNDHOUSE_HOST_H

#include "tensor.h"

/* Owned by the host, valid from init to deinit. since 1.0 */
typedef struct rh_host {
  uint32_t struct_size;
  uint16_t abi_major;
  uint16_t abi_minor;
  const char *name; /* "roundhouse" */
  const char *version; /* the product's version, "0.1.0" */
  void *data; /* the host's own */

  /* Returns the function table of an extension, or NULL when the host does not have it: the plugin works without, or
   * fails with RH_UNIMPLEMENTED and names the id. Owned by the host, valid until deinit.
   * [thread-safe] since 1.0 */
  const void *(*get_extension)(const struct rh_host *host, const char *id);
  /* end of 1.0: do not modify above */
} rh_host;
RH_ASSERT_END(rh_host, get_extension, 40);

/* Where a call runs. The host owns device, stream, memory and threads: the plugin enqueues on `stream`,
 * never synchronizes the device, and leaves the current device as it found it. since 1.0 */
typedef struct rh_exec {
  uint32_t struct_size;
  uint32_t reserved;
  rh_device device;
  void *stream; /* cudaStream_t on CUDA, else NULL */
  uint64_t seed; /* the same seed and input give the same bits */
  void *workspace; /* at least the bytes that workspace_size() asked for, 256-byte aligned, on `device` */
  uint64_t workspace_size;
  const volatile int32_t *cancelled; /* NULL, or becomes non-zero: return RH_CANCELLED soon */
  /* end of 1.0: do not modify above */
} rh_exec;
RH_ASSERT_END(rh_exec, cancelled, 56);

/* ---- log ---- */
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

/* ---- parallel ----
 * Plugins start no threads and bring no OpenMP of their own. */
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
   * Forbidden: exceptions that leave `body`, and calling it from inside `body`. [worker] since 1.0 */
  void (*parallel_for)(const rh_host *host, int64_t n, int64_t grain,
                       void (*body)(void *context, int64_t begin, int64_t end), void *context);
  /* end of 1.0: do not modify above */
} rh_parallel;
RH_ASSERT_END(rh_parallel, parallel_for, 24);

/* ---- an export in progress ----
 * The host gives one to rh_format.begin; it stays valid until the writer's finish or abort has returned. since 1.0 */
typedef struct rh_export {
  uint32_t struct_size;
  uint32_t reserved;
  const rh_host *host;
  void *data; /* the host's own */
  const char *options_json; /* this format's options from the recipe, an object; "{}" when there are none */
  uint64_t max_shard_bytes;
  /* end of 1.0: do not modify above */
} rh_export;
RH_ASSERT_END(rh_export, max_shard_bytes, 40);

/* ---- model facts: read-only, as JSON and paths ---- */
#define RH_EXT_MODEL "roundhouse.model/1"

/* Keys of json():
 *   "config"       the source checkpoint's config.json, as it is
 *   "architecture" {"family", "vocab", "hidden", "intermediate", "blocks", "positions", "heads", "kv_heads", "head_dim",
 *                  "norm_eps", "rotary": {"dims", "theta", "scaling": "none", "linear" or "llama3", "factor",
 *                  "low_freq_factor", "high_freq_factor", "original_positions"} or null, "tied_head",
 *                  "sliding_windows": [positions that a block sees, or null], "names": as in its descriptor}
 *   "plan"         {"scheme": {...}, "layers": [{"name", "role", "rows", "cols", "quantized", "scheme", "encoding": {"id",
 *                  "parameters"} or null, "matched": pattern or null}], "tensors": [{"name", "shape", "dtype": "bfloat16"}],
 *                  "block_prefix": "model.layers", "tied_head": bool, "dtype": "bfloat16"};
 *                  "scheme" is the recipe's global scheme; a layer's "scheme" has the same keys; "tensors" are those of
 *                  the source, layers' too, under the names that a writer gets them by
 *   "tuning"       {"iters", "lr", "minmax_lr", "samples", "seqlen", "batch_size", "gradient_accumulation",
 *                  "quantized_input", "search", "seed"}
 *   "host"         {"name", "version"}
 * Keys of path():
 *   "model"        the source checkpoint's folder
 * since 1.0 */
typedef struct rh_model {
  uint32_t struct_size;
  uint32_t reserved;
  /* The fact's JSON text, or NULL for a key that the host does not know. Owned by the host, valid as long as `export_`.
   * Readers ignore members that they do not know. [thread-safe] since 1.0 */
  const char *(*json)(const rh_export *export_, const char *key);
  /* An absolute or relative path, or NULL for an unknown key. Owned by the host, valid as long as `export_`.
   * Forbidden: writing to what it leads to. [thread-safe] since 1.0 */
  const char *(*path)(const rh_export *export_, const char *key);
  /* end of 1.0: do not modify above */
} rh_model;
RH_ASSERT_END(rh_model, path, 24);

/* ---- output: the only way to write files ----
 * The folder appears whole, or not at all: files become visible when the export is finished. */
#define RH_EXT_OUTPUT "roundhouse.output/1"

typedef struct rh_file rh_file; /* opaque, the host's */

/* since 1.0 */
typedef struct rh_output {
  uint32_t struct_size;
  uint32_t reserved;
  /* Opens `name` (a relative path without "..") in the export's folder for appending; folders in it are made. The
   * file is the plugin's until commit or discard, one of which must end it before the writer's finish or abort returns.
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
  /* end of 1.0: do not modify above */
} rh_output;
RH_ASSERT_END(rh_output, copy, 56);

/* ---- safetensors: the host's own reader and streaming writer, lent to format plugins ---- */
#define RH_EXT_SAFETENSORS "roundhouse.safetensors/1"

typedef struct rh_st_reader rh_st_reader; /* opaque, the host's */
typedef struct rh_st_writer rh_st_writer; /* opaque, the host's */

/* since 1.0 */
typedef struct rh_safetensors {
  uint32_t struct_size;
  uint32_t reserved;
  /* Opens a checkpoint folder (one file, or shards with an index) for reading. The reader is the plugin's until close.
   * Headers are checked: a damaged file gives RH_DATA_LOSS with the reason. [worker] since 1.0 */
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
  /* Starts model.safetensors in the export's folder, sharded by rh_export.max_shard_bytes; `metadata_json` is an
   * object of strings, or NULL. The writer is the plugin's until finish or abort, one of which must end it before the
   * rh_writer's finish or abort returns. [worker] since 1.0 */
  rh_code (*create)(const rh_export *export_, const char *metadata_json, rh_st_writer **out, rh_error *error);
  /* Adds a contiguous CPU tensor under a name that was not there yet. Writes the bytes at once: the caller may free
   * them on return. [worker] since 1.0 */
  rh_code (*add)(rh_st_writer *writer, const char *name, const rh_tensor *tensor, rh_error *error);
  /* Closes the last shard and writes the index; `writer` is gone whatever the result. [worker] since 1.0 */
  rh_code (*finish)(rh_st_writer *writer, rh_error *error);
  /* Frees the writer; what it wrote is removed with the export. Cannot fail. [worker] since 1.0 */
  void (*abort)(rh_st_writer *writer);
  /* end of 1.0: do not modify above */
} rh_safetensors;
RH_ASSERT_END(rh_safetensors, abort, 80);

#endif /* ROUNDHOUSE_HOST_H */

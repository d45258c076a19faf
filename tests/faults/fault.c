/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a program: one of its calls on files under a folder fails.
 *   FAULT=write:7:5        the seventh write fails with errno 5 (EIO)
 *   FAULT=readonly:7:30    the seventh call that changes something fails with errno 30 (EROFS), and all after it
 *   FAULT=memory:7:12      the seventh allocation after the first such file was opened fails with errno 12 (ENOMEM)
 *   FAULT_FOLDER=/path     files elsewhere are not counted
 *   FAULT_HIT=/path/file   is created when the call fails: a loop ends where no run has so many calls
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long g_calls;
static atomic_int g_opened; /* a file that is counted */

static int counted_path(const char *path) {
  const char *folder = getenv("FAULT_FOLDER");
  return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int counted(int fd) {
  char link[64], path[4096];
  ssize_t n;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  n = syscall(SYS_readlink, link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return counted_path(path);
}

/* Whether this call of `kind`, on a file that is counted, fails; errno is set. `changes`: something on the disk. */
static int fails(const char *kind, int on_counted_file, int changes) {
  const char *wish = getenv("FAULT");
  size_t size;
  char *end;
  long which, call;
  int from_now_on;
  if (!on_counted_file || !wish) return 0;
  from_now_on = changes && strncmp(wish, "readonly:", 9) == 0;
  size = from_now_on ? strlen("readonly") : strlen(kind);
  if (!from_now_on && (strncmp(wish, kind, size) != 0 || wish[size] != ':')) return 0;
  which = strtol(wish + size + 1, &end, 10);
  call = atomic_fetch_add(&g_calls, 1) + 1;
  if (from_now_on ? call < which : call != which) return 0;
  syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, getenv("FAULT_HIT"), O_CREAT | O_WRONLY, 0600));
  errno = atoi(end + 1);
  return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(kind, condition, changes) \
  if (fails(kind, condition, changes)) return -1
#define WRITES(flags) (((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0)

ssize_t write(int fd, const void *data, size_t n) {
  FAIL("write", counted(fd), 1);
  return NEXT(write)(fd, data, n);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
  FAIL("write", counted(fd), 1);
  return NEXT(writev)(fd, parts, n);
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t offset) {
  FAIL("write", counted(fd), 1);
  return NEXT(pwrite)(fd, data, n, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t offset) {
  FAIL("write", counted(fd), 1);
  return NEXT(pwrite64)(fd, data, n, offset);
}
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *where, size_t n, unsigned flags) {
  FAIL("write", counted(to), 1);
  return NEXT(copy_file_range)(from, at, to, where, n, flags);
}
ssize_t read(int fd, void *data, size_t n) {
  FAIL("read", counted(fd), 0);
  return NEXT(read)(fd, data, n);
}
ssize_t pread(int fd, void *data, size_t n, off_t offset) {
  FAIL("read", counted(fd), 0);
  return NEXT(pread)(fd, data, n, offset);
}
ssize_t pread64(int fd, void *data, size_t n, off64_t offset) {
  FAIL("read", counted(fd), 0);
  return NEXT(pread64)(fd, data, n, offset);
}
void *mmap(void *address, size_t n, int protection, int flags, int fd, off_t offset) {
  if (fd >= 0 && fails("map", counted(fd), 0)) return MAP_FAILED;
  return NEXT(mmap)(address, n, protection, flags, fd, offset);
}
/* Others do nothing: a disk that is really waited for takes most of a loop's time. */
int fsync(int fd) {
  FAIL("sync", counted(fd), 0);
  return 0;
}
int ftruncate(int fd, off_t size) {
  FAIL("sync", counted(fd), 1);
  return NEXT(ftruncate)(fd, size);
}
int rename(const char *from, const char *to) {
  FAIL("rename", counted_path(to), 1);
  return NEXT(rename)(from, to);
}
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
  FAIL("rename", counted_path(to), 1);
  return NEXT(renameat2)(from_folder, from, to_folder, to, flags);
}
static int opens(const char *path, int flags) {
  if (!counted_path(path)) return 1;
  atomic_store(&g_opened, 1);
  return !fails("open", 1, WRITES(flags));
}
int mkdir(const char *path, mode_t mode) {
  if (!opens(path, O_CREAT)) return -1;
  return NEXT(mkdir)(path, mode);
}
int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  if (!opens(path, flags)) return -1;
  return NEXT(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  if (!opens(path, flags)) return -1;
  return NEXT(open64)(path, flags, mode);
}

/* glibc's own, which need no dlsym(). */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int no_memory(void) { return atomic_load(&g_opened) && fails("memory", 1, 0); }

void *malloc(size_t size) { return no_memory() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return no_memory() ? NULL : __libc_calloc(n, size); }
void *realloc(void *memory, size_t size) { return no_memory() ? NULL : __libc_realloc(memory, size); }
void *memalign(size_t alignment, size_t size) { return no_memory() ? NULL : __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **memory, size_t alignment, size_t size) {
  void *const got = memalign(alignment, size);
  if (!got) return ENOMEM;
  *memory = got;
  return 0;
}

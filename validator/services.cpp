// SPDX-License-Identifier: Apache-2.0
#include "validator/services.h"

#include <roundhouse/ext/log.h>
#include <roundhouse/ext/output.h>
#include <roundhouse/ext/parallel.h>
#include <roundhouse/ext/safetensors.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "host/abi/services.h"

namespace roundhouse::validator {

Faults faults;
Use use;

namespace {

void log_write(const rh_host*, int32_t, const char* message) { (void)std::strlen(message); }

constexpr int kThreads = 4;

CancelAfter* cancelling = nullptr;

// A chunk or a write begins.
void count_work() {
  if (cancelling) cancelling->count();
}

int32_t max_threads(const rh_host*) { return faults.schedule == Schedule::kThreads ? kThreads : 1; }

void run_parallel(const rh_host*, int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
  grain = std::max<int64_t>(1, grain);
  std::vector<int64_t> begins;
  for (int64_t begin = 0; begin < n; begin += grain) begins.push_back(begin);
  const auto chunk = [&](int64_t begin) {
    count_work();
    body(context, begin, std::min(n, begin + grain));
  };
  switch (faults.schedule) {
    case Schedule::kInOrder:
      std::for_each(begins.begin(), begins.end(), chunk);
      return;
    case Schedule::kReversed:
      std::for_each(begins.rbegin(), begins.rend(), chunk);
      return;
    case Schedule::kThreads:
      break;
  }
  std::shuffle(begins.begin(), begins.end(), std::mt19937(7));
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i; (i = next++) < begins.size();) chunk(begins[i]);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

// ---- output and safetensors: the host's own, counted and with faults ----

const rh_output& real_output() { return *static_cast<const rh_output*>(export_extension(RH_EXT_OUTPUT)); }
const rh_safetensors& real_safetensors() {
  return *static_cast<const rh_safetensors*>(export_extension(RH_EXT_SAFETENSORS));
}

// False when the write succeeds.
bool disk_is_full(rh_error* error) {
  count_work();
  const bool reached = faults.writes_until_full >= 0 && use.writes >= faults.writes_until_full;
  const bool full = reached && (!faults.full_once || use.failed == 0);
  ++use.writes;
  if (!full) return false;
  ++use.failed;
  report_error(error, RH_RESOURCE_EXHAUSTED, "no space left on the disk (made up by the validator)");
  return true;
}

rh_code created(rh_code code, int64_t& open) {
  if (code == RH_OK) ++open;
  return code;
}

constexpr rh_log kLog{sizeof(rh_log), 0, &log_write};
constexpr rh_parallel kParallel{sizeof(rh_parallel), 0, &max_threads, &run_parallel};

const rh_output kOutput{sizeof(rh_output),
                        0,
                        [](const rh_export* e, const char* name, rh_file** out, rh_error* error) {
                          if (disk_is_full(error)) return RH_RESOURCE_EXHAUSTED;
                          return created(real_output().create(e, name, out, error), use.open_files);
                        },
                        [](rh_file* file, const void* bytes, uint64_t size, rh_error* error) {
                          if (!disk_is_full(error)) return real_output().write(file, bytes, size, error);
                          real_output().write(file, bytes, size / 2, nullptr);  // a short write leaves a part
                          return RH_RESOURCE_EXHAUSTED;
                        },
                        [](rh_file* file, uint64_t offset, const void* bytes, uint64_t size, rh_error* error) {
                          if (disk_is_full(error)) return RH_RESOURCE_EXHAUSTED;
                          return real_output().write_at(file, offset, bytes, size, error);
                        },
                        [](rh_file* file, rh_error* error) {
                          --use.open_files;
                          if (!disk_is_full(error)) return real_output().commit(file, error);
                          real_output().discard(file);
                          return RH_RESOURCE_EXHAUSTED;
                        },
                        [](rh_file* file) {
                          --use.open_files;
                          real_output().discard(file);
                        },
                        [](const rh_export* e, const char* path, const char* name, rh_error* error) {
                          if (disk_is_full(error)) return RH_RESOURCE_EXHAUSTED;
                          return real_output().copy(e, path, name, error);
                        },
                        [](rh_file* file, uint64_t* length, rh_error* error) {
                          if (disk_is_full(error)) return RH_RESOURCE_EXHAUSTED;
                          return real_output().sync(file, length, error);
                        },
                        [](const rh_export* e, const char* name, uint64_t length, rh_file** out, rh_error* error) {
                          return created(real_output().reopen(e, name, length, out, error), use.open_files);
                        }};

const rh_safetensors kSafetensors{
    sizeof(rh_safetensors),
    0,
    [](const rh_host* host, const char* folder, rh_st_reader** out, rh_error* error) {
      return created(real_safetensors().open(host, folder, out, error), use.open_readers);
    },
    [](const rh_st_reader* reader) { return real_safetensors().count(reader); },
    [](rh_st_reader* reader, uint64_t index, const char** name, const rh_tensor** view, rh_error* error) {
      return real_safetensors().get(reader, index, name, view, error);
    },
    [](rh_st_reader* reader, const char* name, const rh_tensor** view, rh_error* error) {
      return real_safetensors().find(reader, name, view, error);
    },
    [](rh_st_reader* reader) {
      --use.open_readers;
      real_safetensors().close(reader);
    },
    [](const rh_export* e, const char* metadata, const rh_st_tensor* const* tensors, uint64_t count, rh_st_writer** out,
       rh_error* error) {
      return created(real_safetensors().create(e, metadata, tensors, count, out, error), use.open_writers);
    },
    [](rh_st_writer* writer, const char* name, const rh_tensor* tensor, rh_error* error) {
      if (disk_is_full(error)) return RH_RESOURCE_EXHAUSTED;
      return real_safetensors().add(writer, name, tensor, error);
    },
    [](rh_st_writer* writer, rh_error* error) {
      --use.open_writers;
      if (!disk_is_full(error)) return real_safetensors().finish(writer, error);
      real_safetensors().abort(writer);
      return RH_RESOURCE_EXHAUSTED;
    },
    [](rh_st_writer* writer) {
      --use.open_writers;
      real_safetensors().abort(writer);
    },
    [](rh_st_writer* writer, void (*take)(void* context, const void* bytes, uint64_t size), void* context,
       rh_error* error) {
      if (disk_is_full(error)) return RH_RESOURCE_EXHAUSTED;
      return real_safetensors().save(writer, take, context, error);
    },
    [](const rh_export* e, const char* metadata, const rh_st_tensor* const* tensors, uint64_t count, const void* bytes,
       uint64_t size, rh_st_writer** out, rh_error* error) {
      return created(real_safetensors().restore(e, metadata, tensors, count, bytes, size, out, error),
                     use.open_writers);
    }};

const void* get_extension(const rh_host*, const char* id) {
  if (!id || !faults.extensions) return nullptr;
  const std::string_view name(id);
  if (name == RH_EXT_LOG) return &kLog;
  if (name == RH_EXT_PARALLEL) return &kParallel;
  if (name == RH_EXT_OUTPUT) return &kOutput;
  if (name == RH_EXT_SAFETENSORS) return &kSafetensors;
  return export_extension(id);
}

}  // namespace

CancelAfter::CancelAfter(int64_t begun) : left_(begun) { cancelling = this; }
CancelAfter::~CancelAfter() { cancelling = nullptr; }

const rh_host* test_host() {
  static const rh_host host{sizeof(rh_host),    RH_ABI_MAJOR, RH_ABI_MINOR,  "roundhouse-validate",
                            ROUNDHOUSE_VERSION, nullptr,      &get_extension};
  return &host;
}

const rh_host* newer_host() {
  struct Newer {
    rh_host host;
    unsigned char later[64];
  };
  static const Newer newer = [] {
    Newer n{*test_host(), {}};
    n.host.struct_size = sizeof n;
    n.host.abi_minor = RH_ABI_MINOR + 7;
    std::memset(n.later, 0xa5, sizeof n.later);
    return n;
  }();
  return &newer.host;
}

}  // namespace roundhouse::validator

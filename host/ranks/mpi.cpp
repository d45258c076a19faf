// SPDX-License-Identifier: Apache-2.0
#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "host/ranks/mpi_functions.h"

namespace roundhouse {
namespace {

constexpr int kBytes = 0, kText = 1;  // tags

// nullptr, or what the code means.
const char* text_of(int code) {
  static char text[MPI_MAX_ERROR_STRING];
  if (code == MPI_SUCCESS) return nullptr;
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "it does not say why";
  return text;
}

const char* send(int to, const void* data, int bytes, void** request) {
  auto* const started = new MPI_Request;
  *request = started;
  return text_of(MPI_Isend(data, bytes, MPI_BYTE, to, kBytes, MPI_COMM_WORLD, started));
}

const char* receive(int from, void* data, int bytes, void** request) {
  auto* const started = new MPI_Request;
  *request = started;
  return text_of(MPI_Irecv(data, bytes, MPI_BYTE, from, kBytes, MPI_COMM_WORLD, started));
}

const char* test(void* request, bool* done, int* bytes) {
  int flag = 0;
  MPI_Status status;
  const int code = MPI_Test(static_cast<MPI_Request*>(request), &flag, &status);
  *done = flag != 0;
  if (*done && code == MPI_SUCCESS) MPI_Get_count(&status, MPI_BYTE, bytes);
  if (*done) delete static_cast<MPI_Request*>(request);
  return text_of(code);
}

void tell(const char* text) {
  MPI_Request sent;
  MPI_Isend(text, static_cast<int>(std::strlen(text)) + 1, MPI_CHAR, 0, kText, MPI_COMM_WORLD, &sent);
}

const char* hear(int* from) {
  static char text[4096];
  int there = 0;
  MPI_Status status;
  if (MPI_Iprobe(MPI_ANY_SOURCE, kText, MPI_COMM_WORLD, &there, &status) != MPI_SUCCESS || !there) return nullptr;
  *from = status.MPI_SOURCE;
  // What is longer is cut.
  MPI_Recv(text, sizeof text - 1, MPI_CHAR, *from, kText, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  return text;
}

// The processors that the processes of this machine may use, divided among them.
int share_processors(MpiFunctions& functions) {
  MPI_Comm machine;
  int code = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  if (code != MPI_SUCCESS) return code;
  int here = 1;
  MPI_Comm_size(machine, &here);
  cpu_set_t own;
  CPU_ZERO(&own);
  if (sched_getaffinity(0, sizeof own, &own) != 0) CPU_SET(0, &own);
  std::vector<unsigned char> bits(sizeof own), all(sizeof own);
  std::memcpy(bits.data(), &own, sizeof own);
  code = MPI_Allreduce(bits.data(), all.data(), static_cast<int>(sizeof own), MPI_UNSIGNED_CHAR, MPI_BOR, machine);
  MPI_Comm_free(&machine);
  if (code != MPI_SUCCESS) return code;
  cpu_set_t together;
  std::memcpy(&together, all.data(), sizeof together);
  const int usable = CPU_COUNT(&together);
  functions.threads = std::max(1, std::min(CPU_COUNT(&own), usable / here));
  cpu_set_t launcher;
  if (std::getenv("OMPI_COMM_WORLD_RANK") && sched_getaffinity(::getppid(), sizeof launcher, &launcher) == 0)
    functions.idle_processors = std::max(0, CPU_COUNT(&launcher) - usable);
  return MPI_SUCCESS;
}

const char* start(MpiFunctions* functions) {
  int provided = 0;
  int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  if (code != MPI_SUCCESS) return "MPI_Init_thread() failed";
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  static char library[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(library, &length);
  if (char* end = std::strpbrk(library, ",\n")) *end = '\0';
  *functions = {};
  functions->library = library;
  functions->send = &send;
  functions->receive = &receive;
  functions->test = &test;
  functions->tell = &tell;
  functions->hear = &hear;
  functions->end = [] { return text_of(MPI_Finalize()); };
  functions->abort = [](int status) { MPI_Abort(MPI_COMM_WORLD, status); };
  MPI_Comm_rank(MPI_COMM_WORLD, &functions->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &functions->size);
  return text_of(share_processors(*functions));
}

}  // namespace
}  // namespace roundhouse

extern "C" __attribute__((visibility("default"))) const char* roundhouse_start_mpi(
    roundhouse::MpiFunctions* functions) {
  return roundhouse::start(functions);
}

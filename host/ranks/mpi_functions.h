// SPDX-License-Identifier: Apache-2.0
// What libroundhouse_mpi.so has: MPI behind plain functions, so that the program starts without any MPI.
#pragma once

#include <cstdint>

namespace roundhouse {

struct MpiFunctions {
  int rank, size;
  int threads;          // a share of the processors that the processes of this machine may use
  int idle_processors;  // that the launcher may use, and lets none of these processes use
  const char* library;  // its name and version

  // Each returns nullptr, or what MPI says. `request` is given to `test` until that says that it is done.
  const char* (*send)(int to, const void* data, int bytes, void** request);
  const char* (*receive)(int from, void* data, int bytes, void** request);
  const char* (*test)(void* request, bool* done, int* bytes);
  // A text beside the other messages, to the first rank. `hear` gives one that has come, else nullptr.
  void (*tell)(const char* text);
  const char* (*hear)(int* from);
  const char* (*end)();
  void (*abort)(int status);
};

// The name and type of what it exports. Returns nullptr, or what MPI says.
constexpr const char* kStartMpi = "roundhouse_start_mpi";
using StartMpi = const char* (*)(MpiFunctions* functions);

}  // namespace roundhouse

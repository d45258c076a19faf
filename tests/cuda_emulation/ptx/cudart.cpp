// SPDX-License-Identifier: Apache-2.0
// What the host half of nvcc's output calls: kernels are registered and launched by name, and run as translated PTX.
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/cuda_emulation/ptx/ptx_instructions.h"

namespace cuda_emulation {

void launch_failed(const std::string& what);

namespace ptx {
namespace {

std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> map;
  return map;
}

// Of the running block: how often each thread ran each piece.
constexpr unsigned kMostWarps = 1024 / kWarp;
std::unordered_map<const char*, std::array<std::array<uint32_t, kWarp>, kMostWarps>> pieces;
uint64_t counted_block = 0;
std::map<std::string, uint64_t> issued;

void end_block() {
  for (const auto& [operations, warps] : pieces) {
    uint64_t times = 0;
    for (const auto& lanes : warps) times += *std::max_element(lanes.begin(), lanes.end());
    std::istringstream text(operations);
    for (std::string operation; text >> operation;) issued[operation] += times;
  }
  pieces.clear();
}

void* shared = nullptr;
uint64_t shared_block = 0;  // whose it is

}  // namespace

uint64_t shared_memory(size_t bytes) {
  if (!shared)
    shared = allocate(bytes);
  else if (shared_block != this_grid().blocks_done)
    renew(shared);
  shared_block = this_grid().blocks_done;
  return reinterpret_cast<uint64_t>(shared);
}

void count_piece(const char* operations) {
  if (this_grid().blocks_done != counted_block) end_block();
  counted_block = this_grid().blocks_done;
  const Thread& thread = this_thread();
  ++pieces[operations][thread.linear / kWarp][thread.lane()];
}

std::map<std::string, uint64_t> take_counts() {
  end_block();
  return std::exchange(issued, {});
}

const Kernel* find_kernel(const char* name) {
  const auto found = kernels().find(name);
  return found == kernels().end() ? nullptr : &found->second;
}

Registered::Registered(const char* name, void (*run)(const unsigned char*), size_t bytes,
                       std::vector<Parameter> parameters) {
  kernels()[name] = {run, bytes, std::move(parameters)};
}

}  // namespace ptx
}  // namespace cuda_emulation

namespace {

std::map<const void*, std::string>& names() {
  static std::map<const void*, std::string> map;
  return map;
}

struct Configuration {
  dim3 blocks, threads;
  size_t shared;
  cudaStream_t stream;
};
std::vector<Configuration> configurations;

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}

void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  names()[host] = name;
}

unsigned __cudaPushCallConfiguration(dim3 blocks, dim3 threads, size_t shared, struct CUstream_st* stream) {
  configurations.push_back({blocks, threads, shared, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* blocks, dim3* threads, size_t* shared, void* stream) {
  const Configuration last = configurations.back();
  configurations.pop_back();
  *blocks = last.blocks;
  *threads = last.threads;
  *shared = last.shared;
  *static_cast<cudaStream_t*>(stream) = last.stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host));
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* host, dim3 blocks, dim3 threads, void** arguments, size_t, cudaStream_t) {
  using namespace cuda_emulation;
  const auto name = names().find(host);
  const ptx::Kernel* kernel = name == names().end() ? nullptr : ptx::find_kernel(name->second.c_str());
  if (!kernel) {
    launch_failed("no PTX was translated for " + (name == names().end() ? "a kernel" : name->second));
    return cudaErrorLaunchFailure;
  }
  std::vector<unsigned char> parameters(kernel->bytes);
  for (size_t i = 0; i < kernel->parameters.size(); ++i)
    std::memcpy(&parameters[kernel->parameters[i].offset], arguments[i], kernel->parameters[i].bytes);
  begin_launch();
  ptx::end_block();
  const std::string failure = run_grid({blocks.x, blocks.y, blocks.z}, {threads.x, threads.y, threads.z},
                                       [&] { kernel->run(parameters.data()); });
  release(std::exchange(ptx::shared, nullptr));
  if (failure.empty()) return cudaSuccess;
  launch_failed(name->second + ": " + failure);
  return cudaErrorLaunchFailure;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 blocks, dim3 threads, void** arguments, size_t shared,
                               cudaStream_t stream) {
  return cudaLaunchKernel(kernel, blocks, threads, arguments, shared, stream);
}

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// Which device a run computes on. No libtorch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "host/recipe/recipe.h"

namespace roundhouse {

struct CudaCard {
  std::string name;
  int major = 0, minor = 0;  // of its compute capability
  uint64_t memory = 0;       // bytes; 0 here and below: the driver did not tell
  int processors = 0;        // multiprocessors
  double clock = 0;          // of them, in Hz
  double bandwidth = 0;      // of its memory, bytes a second
  std::string unusable;      // why no process can begin to use it now, and what to do
};

// What CUDA says of itself.
struct CudaDevices {
  bool library = false;  // whether this libtorch has a CUDA half
  bool driver = false;   // whether the system has loaded one, so that a GPU that is not used deserves a message
  int64_t count = 0;
  std::string why;                     // there are not more, in libtorch's words, where it said so
  std::optional<std::string> visible;  // CUDA_VISIBLE_DEVICES
  std::vector<CudaCard> cards;         // in the order of devices, as far as the driver tells
  std::string wrong_torch = "";        // what is wrong with the folder that ROUNDHOUSE_TORCH names
};

CudaDevices find_cuda_devices();
// What the driver tells of its devices, in the order that libtorch has too; nothing without one.
std::vector<CudaCard> cards_of_driver();
// Of a device that resolve_device() gave. REQUIRES: it is not the CPU.
CudaCard card_of(const std::string& device);
// Why the CUDA half of libtorch at this path is not for this program, and what to do; "": it is, or does not tell its
// version.
std::string wrong_version(const std::filesystem::path& library);
// Why there is none, and what to do.
std::string why_no_device(const CudaDevices& cuda);

// Why a device that is there cannot be used: the kernels are built for compute capability 8.0 and later, and another
// process may have it for itself. "": it can.
std::string refusal(const CudaDevices& cuda, int64_t index);

// The device that will be used, "cpu" or "cuda:1". Throws Error when one that was asked for is not there. Says in one
// line why there is none for `auto` where a driver is loaded.
std::string resolve_device(const DeviceChoice& wanted);
std::string choose_device(const DeviceChoice& wanted, const CudaDevices& cuda);

// A device that resolve_device() gave, with the model of the GPU: "cpu", "cuda:0 (NVIDIA H100)".
std::string device_model(const std::string& device);

// SHA-256 of the library with the host's own kernels for it; empty: there is none.
std::string kernels_digest(const std::string& device);

// "2.11.0 for AVX2": its version, and the instructions that it chose on this processor.
std::string libtorch_version();

}  // namespace roundhouse

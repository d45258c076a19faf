// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/device.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <cstdlib>

#include "host/base/error.h"
#include "host/base/log.h"

namespace roundhouse {
namespace {

// Without a driver libtorch warns, or throws, in many lines.
struct FirstLine : c10::WarningHandler {
  explicit FirstLine(std::string& to) : to(to) {}
  void process(const c10::Warning& warning) override { set(warning.msg()); }
  void set(const std::string& text) { to = text.substr(0, text.find('\n')); }
  std::string& to;
};

// The driver's device file, on Linux and in WSL.
bool has_driver() { return ::access("/dev/nvidiactl", F_OK) == 0 || ::access("/dev/dxg", F_OK) == 0; }

}  // namespace

CudaDevices find_cuda_devices() {
  CudaDevices found;
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) found.visible = visible;
  found.driver = has_driver();
  FirstLine why(found.why);
  // libtorch's CUDA half registers itself when it is loaded; the host runs without it.
  const std::string name = "libtorch_cuda.so";
  if (!dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
    const std::string reason = dlerror();
    found.library = !reason.starts_with(name + ": cannot open");  // something that it needs is missing
    if (found.library) why.set(reason);
    return found;
  }
  found.library = true;
  const c10::WarningUtils::WarningHandlerGuard guard(&why);
  try {
    const auto* cuda =
        at::hasCUDA() ? c10::impl::device_guard_impl_registry[static_cast<size_t>(at::kCUDA)].load() : nullptr;
    if (cuda) found.count = cuda->deviceCount();
  } catch (const c10::Error& failure) {
    why.set(failure.what_without_backtrace());
  }
  return found;
}

std::string why_no_device(const CudaDevices& cuda) {
  if (!cuda.library)
    return "this libtorch has no CUDA library (libtorch_cuda.so): install the one of a CUDA build beside "
           "libtorch_cpu.so";
  if (!cuda.why.empty()) return cuda.why;
  if (cuda.visible)
    return cat("CUDA_VISIBLE_DEVICES is \"", *cuda.visible, "\", which leaves none: unset it, or list devices in it");
  if (!cuda.driver) return "no NVIDIA driver is loaded: install one, and look whether nvidia-smi lists the GPU";
  return "the driver lists none: look whether nvidia-smi does";
}

std::string choose_device(const DeviceChoice& wanted, const CudaDevices& cuda) {
  if (wanted.kind == DeviceChoice::Kind::kCpu) return "cpu";
  if (wanted.kind == DeviceChoice::Kind::kAuto) {
    if (cuda.count > 0) return "cuda:0";
    if (cuda.driver) log::info(cat("no CUDA device can be used, so the CPU is: ", why_no_device(cuda)));
    return "cpu";
  }
  if (wanted.index < cuda.count) return cat("cuda:", wanted.index);
  const std::string there = cuda.count == 1  ? "cuda:0 alone is"
                            : cuda.count > 1 ? cat("cuda:0 to cuda:", cuda.count - 1, " are")
                                             : "";
  throw Error(cat("device cuda:", wanted.index,
                  " is not there: ", cuda.count > 0 ? cat(there, "; choose one of them") : why_no_device(cuda),
                  "; or use device: auto or cpu"));
}

std::string resolve_device(const DeviceChoice& wanted) {
  if (wanted.kind == DeviceChoice::Kind::kCpu) return "cpu";
  static const CudaDevices cuda = find_cuda_devices();
  return choose_device(wanted, cuda);
}

// libtorch's own functions for that are in its CUDA half, which the host does not link. The driver is loaded by then.
std::string device_model(const std::string& device) {
  const at::Device parsed(device);
  if (!parsed.is_cuda()) return device;
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  const auto name_of = driver ? reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver, "cuDeviceGetName")) : nullptr;
  char name[256] = {};
  if (!name_of || name_of(name, sizeof name - 1, parsed.index()) != 0) return device;
  return cat(device, " (", name, ")");
}

std::string libtorch_version() { return cat(TORCH_VERSION, " for ", at::get_cpu_capability()); }

}  // namespace roundhouse

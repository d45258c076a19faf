// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/device.h"

#include <ATen/Context.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <unistd.h>

#include "host/base/error.h"
#include "host/base/log.h"

namespace roundhouse {
namespace {

struct CudaDevices {
  bool library = false;  // whether this libtorch has a CUDA half
  int64_t count = 0;
  std::string why;  // there are not more, where something said so
};

// Without a driver libtorch warns, or throws, in many lines.
struct FirstLine : c10::WarningHandler {
  explicit FirstLine(std::string& to) : to(to) {}
  void process(const c10::Warning& warning) override { set(warning.msg()); }
  void set(const std::string& text) { to = text.substr(0, text.find('\n')); }
  std::string& to;
};

CudaDevices find_cuda_devices() {
  CudaDevices found;
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

// The driver's device file, on Linux and in WSL: whether a GPU that is not used deserves a message.
bool has_gpu() { return ::access("/dev/nvidiactl", F_OK) == 0 || ::access("/dev/dxg", F_OK) == 0; }

}  // namespace

std::string resolve_device(const DeviceChoice& wanted) {
  if (wanted.kind == DeviceChoice::Kind::kCpu) return "cpu";
  static const CudaDevices cuda = find_cuda_devices();
  const std::string why = cuda.why.empty() ? "" : cat(" (", cuda.why, ")");
  if (wanted.kind == DeviceChoice::Kind::kAuto) {
    if (cuda.count > 0) return "cuda:0";
    if (cuda.library && has_gpu())
      log::info(cat("libtorch's CUDA library is there, but no device that it can use", why, ": using the CPU"));
    return "cpu";
  }
  if (wanted.index >= cuda.count)
    throw Error(cat("device cuda:", wanted.index, " is not there: ",
                    cuda.library ? cat("libtorch sees ", cuda.count, " CUDA devices") : "libtorch has no CUDA library",
                    why, "; use device: auto or cpu"));
  return cat("cuda:", wanted.index);
}

}  // namespace roundhouse

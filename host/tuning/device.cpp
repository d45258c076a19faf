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
#include <fstream>
#include <memory>
#include <regex>

#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/log.h"
#include "host/base/sha256.h"
#include "host/model/kernels_of_cuda.h"

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

const std::string kLibrary = "libtorch_cuda.so";
const std::string kTorch = TORCH_VERSION;

// The torch folder of the Python on the PATH, "" without one. Imports nothing.
std::string torch_of_python() {
  const auto closed = [](FILE* file) { ::pclose(file); };
  const std::unique_ptr<FILE, decltype(closed)> python(
      ::popen("python3 -c 'import sys; sys.path.pop(0); import importlib.util as u; s = u.find_spec(\"torch\"); "
              "print(s.submodule_search_locations[0] if s else \"\")' 2>/dev/null",
              "re"),
      closed);
  std::string folder;
  for (int c; python && (c = std::fgetc(python.get())) != EOF && c != '\n';) folder += static_cast<char>(c);
  return folder;
}

// Its version, as a wheel or an unpacked libtorch says it; "" when it does not.
std::string version_of(const std::string& torch) {
  for (const char* file : {"/version.py", "/build-version"}) {
    std::ifstream in(torch + file);
    for (std::string line; std::getline(in, line);) {
      std::smatch found;
      static const std::regex version(R"((?:^|__version__ = ')(\d+\.\d+\.\d+))");
      if (std::regex_search(line, found, version)) return found[1];
    }
  }
  return "";
}

std::string of_another_version(const std::string& what, const std::string& version) {
  return cat(what, version.empty() ? " is no torch folder" : cat(" is torch ", version), ": install torch==", kTorch,
             ", which this program is built with");
}

// Where the loader would find a library of the program by its search path, which it tells; "" where it would not. It has
// places beyond, of which it does not tell.
std::string found_by_loader(const std::string& library) {
  void* const program = dlopen(nullptr, RTLD_LAZY);
  Dl_serinfo head;
  if (!program || dlinfo(program, RTLD_DI_SERINFOSIZE, &head) != 0) return "";
  std::vector<char> room(head.dls_size);
  auto* const places = reinterpret_cast<Dl_serinfo*>(room.data());
  if (dlinfo(program, RTLD_DI_SERINFOSIZE, places) != 0 || dlinfo(program, RTLD_DI_SERINFO, places) != 0) return "";
  for (unsigned i = 0; i < places->dls_cnt; ++i) {
    const std::string path = cat(places->dls_serpath[i].dls_name, "/", library);
    if (::access(path.c_str(), R_OK) == 0) return path;
  }
  return "";
}

// Loads libtorch's CUDA half, which registers itself then; the host runs without it. It lies in the folder that
// ROUNDHOUSE_TORCH names, else where the loader finds it, else, where there is a driver, in a Python's torch. Its own
// folder tells it where the CUDA libraries are; libtorch's other half is loaded already.
void load_library(CudaDevices& cuda) {
  const auto load = [&](const std::string& path) {
    if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) return cuda.library = true;
    const std::string reason = dlerror();
    if (reason.starts_with(path + ": cannot open")) return false;
    cuda.why = cat(reason.substr(0, reason.find('\n')), ": install torch==", kTorch,
                   " with all that it depends on, or name such a one's folder in ROUNDHOUSE_TORCH");
    return cuda.library = true;
  };
  const auto load_from = [&](const std::string& torch, const std::string& what) {
    const std::string version = version_of(torch);
    if (version != kTorch)
      cuda.why = of_another_version(what, version);
    else if (!load(torch + "/lib/" + kLibrary))
      cuda.why = cat(what, " has no lib/", kLibrary, ": install a CUDA build of torch==", kTorch);
  };
  if (const std::string torch = environment_variable("ROUNDHOUSE_TORCH"); !torch.empty()) {
    load_from(torch, cat("ROUNDHOUSE_TORCH=", torch));
    cuda.wrong_torch = cuda.why;
    return;
  }
  const std::string found = found_by_loader(kLibrary);
  if (!found.empty()) cuda.why = wrong_version(found);
  if (!cuda.why.empty() || load(kLibrary) || !cuda.driver) return;
  const std::string torch = torch_of_python();
  if (!torch.empty()) load_from(torch, torch);
}

// The library with the host's own kernels, beside the program's; a benchmark is in bin/. Empty: a build without nvcc.
std::filesystem::path kernels_file() {
  const std::filesystem::path here = file_of_code(reinterpret_cast<const void*>(&resolve_device)).parent_path();
  std::filesystem::path file = here / "libroundhouse_cuda.so";
  if (!std::filesystem::exists(file)) file = here.parent_path() / "lib/roundhouse" / file.filename();
  return std::filesystem::exists(file) ? file : std::filesystem::path();
}

void load_kernels() {
  const std::filesystem::path file = kernels_file();
  if (file.empty()) return;
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  auto* const kernels =
      library ? reinterpret_cast<const kernels::BlockKernels* (*)()>(dlsym(library, "roundhouse_block_kernels"))
              : nullptr;
  if (kernels)
    kernels_of_cuda = kernels();
  else
    log::warning(cat(dlerror(), ": operators of libtorch do what its kernels would do faster"));
}

}  // namespace

std::string wrong_version(const std::filesystem::path& library) {
  const std::string version = version_of(library.parent_path().parent_path().string());
  return version.empty() || version == kTorch ? "" : of_another_version(library.string(), version);
}

std::vector<CudaCard> cards_of_driver() {
  // CU_DEVICE_ATTRIBUTE_*
  constexpr int kClock = 13, kProcessors = 16, kMode = 20, kMemoryClock = 36, kBusWidth = 37, kMajor = 75, kMinor = 76;
  constexpr int kProhibited = 2, kExclusive = 3;  // CU_COMPUTEMODE_*
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  const auto function = [&](const char* name, auto* type) {
    return reinterpret_cast<decltype(type)>(driver ? dlsym(driver, name) : nullptr);
  };
  auto* const init = function("cuInit", static_cast<int (*)(unsigned)>(nullptr));
  auto* const get_count = function("cuDeviceGetCount", static_cast<int (*)(int*)>(nullptr));
  auto* const get_name = function("cuDeviceGetName", static_cast<int (*)(char*, int, int)>(nullptr));
  auto* const get_attribute = function("cuDeviceGetAttribute", static_cast<int (*)(int*, int, int)>(nullptr));
  auto* const get_memory = function("cuDeviceTotalMem_v2", static_cast<int (*)(size_t*, int)>(nullptr));
  auto* const begin = function("cuDevicePrimaryCtxRetain", static_cast<int (*)(void**, int)>(nullptr));
  auto* const end = function("cuDevicePrimaryCtxRelease_v2", static_cast<int (*)(int)>(nullptr));
  std::vector<CudaCard> cards;
  int count = 0;
  if (!init || !get_count || !get_name || !get_attribute || init(0) != 0 || get_count(&count) != 0) return cards;
  for (int device = 0; device < count; ++device) {
    const auto attribute = [&](int which) {
      int value = 0;
      return get_attribute(&value, which, device) == 0 ? value : 0;
    };
    char name[128] = "";
    CudaCard& card = cards.emplace_back();
    if (get_name(name, sizeof name, device) == 0) card.name = name;
    card.major = attribute(kMajor);
    card.minor = attribute(kMinor);
    card.processors = attribute(kProcessors);
    card.clock = 1e3 * attribute(kClock);                                       // kHz
    card.bandwidth = 2e3 * attribute(kMemoryClock) * attribute(kBusWidth) / 8;  // twice a clock, bits
    size_t bytes = 0;
    if (get_memory && get_memory(&bytes, device) == 0) card.memory = bytes;
    const int mode = attribute(kMode);
    if (mode == kProhibited)
      card.unusable = cat("its compute mode prohibits all use: run nvidia-smi -i ", device, " -c DEFAULT as root");
    void* context = nullptr;
    if (mode != kExclusive || !begin || !end) continue;
    if (begin(&context, device) == 0)
      end(device);
    else
      card.unusable = cat("it is in exclusive mode, and another process has it: wait for that one, which nvidia-smi ",
                          "lists, or run nvidia-smi -i ", device, " -c DEFAULT as root");
  }
  return cards;
}

CudaCard card_of(const std::string& device) {
  const std::vector<CudaCard> cards = cards_of_driver();
  const auto index = static_cast<size_t>(at::Device(device).index());
  return index < cards.size() ? cards[index] : CudaCard();
}

CudaDevices find_cuda_devices() {
  CudaDevices found;
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) found.visible = visible;
  found.driver = has_driver();
  load_library(found);
  if (!found.library || !found.why.empty()) return found;
  FirstLine why(found.why);
  const c10::WarningUtils::WarningHandlerGuard guard(&why);
  try {
    const auto* cuda =
        at::hasCUDA() ? c10::impl::device_guard_impl_registry[static_cast<size_t>(at::kCUDA)].load() : nullptr;
    if (cuda) found.count = cuda->deviceCount();
  } catch (const c10::Error& failure) {
    why.set(failure.what_without_backtrace());
  }
  if (found.count > 0) found.cards = cards_of_driver();
  return found;
}

std::string refusal(const CudaDevices& cuda, int64_t index) {
  constexpr int kLeastMajor = 8;
  if (index >= static_cast<int64_t>(cuda.cards.size())) return "";
  const CudaCard& card = cuda.cards[static_cast<size_t>(index)];
  if (card.major >= kLeastMajor) return card.unusable.empty() ? "" : cat("it is a ", card.name, "; ", card.unusable);
  return cat("it is a ", card.name, " of compute capability ", card.major, ".", card.minor, ", and ", kLeastMajor,
             ".0 is the least: use an A100, a GeForce RTX 30 or a later one");
}

std::string why_no_device(const CudaDevices& cuda) {
  if (!cuda.why.empty()) return cuda.why;
  if (!cuda.library)
    return cat("this libtorch has no CUDA library (", kLibrary, "): install torch==", kTorch,
               " for python3, or name its folder in ROUNDHOUSE_TORCH");
  if (cuda.visible)
    return cat("CUDA_VISIBLE_DEVICES is \"", *cuda.visible, "\", which leaves none: unset it, or list devices in it");
  if (!cuda.driver) return "no NVIDIA driver is loaded: install one, and look whether nvidia-smi lists the GPU";
  return "the driver lists none: look whether nvidia-smi does";
}

std::string choose_device(const DeviceChoice& wanted, const CudaDevices& cuda) {
  if (wanted.kind == DeviceChoice::Kind::kCpu) return "cpu";
  if (wanted.kind == DeviceChoice::Kind::kAuto) {
    for (int64_t i = 0; i < cuda.count; ++i)
      if (refusal(cuda, i).empty()) return cat("cuda:", i);
    if (cuda.count > 0)
      log::info(cat("no CUDA device can be used, so the run uses the CPU: cuda:0: ", refusal(cuda, 0)));
    else if (!cuda.wrong_torch.empty())
      log::warning(cat("no CUDA device can be used, so the run uses the CPU: ", cuda.wrong_torch));
    else if (cuda.driver)
      log::info(cat("no CUDA device can be used, so the run uses the CPU: ", why_no_device(cuda)));
    return "cpu";
  }
  if (wanted.index < cuda.count) {
    const std::string why = refusal(cuda, wanted.index);
    if (why.empty()) return cat("cuda:", wanted.index);
    throw Error(cat("device cuda:", wanted.index, " cannot be used: ", why, "; or use device: auto or cpu"));
  }
  const std::string there = cuda.count == 1  ? "cuda:0 alone is"
                            : cuda.count > 1 ? cat("cuda:0 to cuda:", cuda.count - 1, " are")
                                             : "";
  throw Error(cat("device cuda:", wanted.index,
                  " is not there: ", cuda.count > 0 ? cat(there, "; choose one of them") : why_no_device(cuda),
                  "; or use device: auto or cpu"));
}

std::string resolve_device(const DeviceChoice& wanted) {
  if (wanted.kind == DeviceChoice::Kind::kCpu) return "cpu";
  // Loading libtorch's CUDA half takes 0.3 s.
  if (wanted.kind == DeviceChoice::Kind::kAuto && !has_driver() && environment_variable("ROUNDHOUSE_TORCH").empty())
    return "cpu";
  static const CudaDevices cuda = find_cuda_devices();
  const std::string device = choose_device(wanted, cuda);
  if (device != "cpu" && !kernels_of_cuda) load_kernels();
  return device;
}

std::string device_model(const std::string& device) {
  if (!at::Device(device).is_cuda()) return device;
  const std::string name = card_of(device).name;
  return name.empty() ? device : cat(device, " (", name, ")");
}

std::string kernels_digest(const std::string& device) {
  const std::filesystem::path file = at::Device(device).is_cuda() ? kernels_file() : std::filesystem::path();
  return file.empty() ? "" : sha256_of_file(file);
}

std::string libtorch_version() { return cat(kTorch, " for ", at::get_cpu_capability()); }

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
// roundhouse doctor: what a run would find on this machine, on one page to paste into a report.
#include <gnu/libc-version.h>
#include <link.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>

#include "host/base/cpu.h"
#include "host/base/environment.h"
#include "host/base/error.h"
#include "host/base/machine.h"
#include "host/base/model_folder.h"
#include "host/base/parallel.h"
#include "host/base/scratch_folder.h"
#include "host/base/words.h"
#include "host/cli/context.h"
#include "host/model/descriptor.h"
#include "host/ranks/ranks.h"
#include "host/recipe/scheme_choice.h"
#include "host/report/table.h"
#include "host/tuning/device.h"

namespace roundhouse::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct Fact {
  std::string name;
  std::vector<std::string> lines = {};
  std::string problem = {};  // and what to do; "": there is none
  bool fatal = false;        // no run can begin
};

constexpr uint64_t kLittleMemory = 2'000'000'000, kLittleDisk = 5'000'000'000;

std::string first_line(const char* file) {
  std::string line;
  std::ifstream in(file);
  std::getline(in, line);
  return line;
}

Fact program() { return {"program", {"roundhouse " ROUNDHOUSE_VERSION, fs::read_symlink("/proc/self/exe").string()}}; }

Fact system() {
  utsname kernel = {};
  uname(&kernel);
  return {"system",
          {cat(value_in("/etc/os-release", "PRETTY_NAME"), ", Linux ", kernel.release, " on ", kernel.machine,
               ", glibc ", gnu_get_libc_version())}};
}

Fact processor() {
  const std::vector<std::string> units = vector_units();
  Fact fact{
      "processor",
      {cat(value_in("/proc/cpuinfo", "model name"), "; ", threads(), " of ", sysconf(_SC_NPROCESSORS_ONLN),
           " processors are used; ", units.empty() ? "no vector unit that a kernel is written for" : joined(units)),
       cat("blocks are computed in ", computes_in_bfloat16(false) ? "bfloat16" : "float32")}};
  if (units.empty())
    fact.problem = "data types run on scalar code, which is many times slower; take a processor with AVX2";
  // "max 100000" without a limit.
  std::istringstream quota(first_line("/sys/fs/cgroup/cpu.max"));
  double time = 0, period = 0;
  if (quota >> time >> period && time < threads() * period)
    fact.problem = cat("a control group gives this process the time of ", format_number(time / period, 1),
                       " processors; more threads only wait: --threads ", std::max(1, static_cast<int>(time / period)));
  return fact;
}

Fact memory() {
  const uint64_t available = available_memory(),
                 all = std::strtoull(value_in("/proc/meminfo", "MemTotal:").c_str(), nullptr, 10) * 1024;
  Fact fact{"memory", {cat(format_bytes(available), " of ", format_bytes(all), " available")}};
  for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"})
    if (const uint64_t limit = std::strtoull(first_line(file).c_str(), nullptr, 10); limit > 0 && limit < all)
      fact.lines.push_back(cat("a control group allows ", format_bytes(limit)));
  if (available < kLittleMemory)
    fact.problem =
        "libtorch alone needs some 300 MB; a run needs the weights of one block and what `roundhouse plan` shows";
  return fact;
}

Fact disk() {
  Fact fact{"disk"};
  std::vector<fs::path> folders{fs::current_path()};
  try {
    folders.push_back(temporary_folder());
  } catch (const Error& e) {
    fact.problem = e.what();
  }
  for (const fs::path& folder : folders) {
    const uint64_t free = fs::space(folder).available;
    fact.lines.push_back(cat(format_bytes(free), " free in ", folder.string()));
    if (free < kLittleDisk)
      fact.problem = "little room; `roundhouse plan` says what a run needs for its output and its journal";
  }
  return fact;
}

Fact libtorch() {
  std::string file;
  dl_iterate_phdr(
      [](dl_phdr_info* library, size_t, void* found) {
        if (std::strstr(library->dlpi_name, "/libtorch_cpu.so")) *static_cast<std::string*>(found) = library->dlpi_name;
        return 0;
      },
      &file);
  return {"libtorch", {libtorch_version(), file}};
}

Fact gpu() {
  const CudaDevices cuda = find_cuda_devices();
  Fact fact{"gpu"};
  if (const std::string driver = value_in("/proc/driver/nvidia/version", "NVRM version"); !driver.empty())
    fact.lines.push_back("driver: " + driver);
  for (int64_t i = 0; i < cuda.count; ++i) {
    fact.lines.push_back(device_model(cat("cuda:", i)));
    if (const std::string why = refusal(cuda, i); !why.empty()) fact.problem = cat("cuda:", i, ": ", why);
  }
  if (cuda.count == 0) fact.lines.push_back("none; runs use the CPU");
  if (cuda.count == 0 && (cuda.driver || !cuda.wrong_torch.empty()))
    fact.problem = why_no_device(cuda);
  else if (cuda.count == 0)
    fact.lines.push_back(why_no_device(cuda));
  return fact;
}

Fact mpi() {
  const fs::path library = mpi_library();
  return {"processes",
          {fs::exists(library) ? cat("a run may have several, started by mpirun: ", library.string())
                               : "a run has one: this build has no MPI"}};
}

std::vector<Fact> plugins(const Catalogue& catalogue) {
  Fact all{"plugins"};
  std::vector<Fact> facts;
  int usable = 0;
  for (const PluginRecord& plugin : catalogue.plugins()) {
    usable += plugin.ok();
    if (!plugin.ok()) facts.push_back({"plugin", {plugin.path.string()}, cat(plugin.status, ": ", plugin.reason)});
  }
  all.lines = {
      cat(usable, " loaded: ", catalogue.dtypes().size(), " data types, ", catalogue.formats().size(), " formats")};
  for (const fs::path& folder : catalogue.searched())
    all.lines.push_back(cat(folder.string(), fs::is_directory(folder) ? "" : " (not there)"));
  if (catalogue.dtypes().empty() || catalogue.formats().empty()) {
    all.problem = catalogue.where_it_looked();
    all.fatal = true;
  }
  facts.insert(facts.begin(), std::move(all));
  return facts;
}

Fact configs() {
  Fact fact{"configs"};
  try {
    const auto families = list_families(Context::architecture_folders());
    const auto presets = list_presets(Context::scheme_folders());
    fact.lines = {cat(families.size(), " families, ", presets.size(), " presets")};
    fact.fatal = families.empty() || presets.empty();
    if (fact.fatal) fact.problem = "share/roundhouse/configs is missing beside the program: install it again";
  } catch (const Error& e) {
    fact.problem = e.what();
  }
  for (const fs::path& folder : Context::architecture_folders())
    fact.lines.push_back(
        cat(folder.parent_path().string(), fs::is_directory(folder.parent_path()) ? "" : " (not there)"));
  return fact;
}

Fact caches() {
  Fact fact{"caches"};
  const fs::path folder = xdg_folder("XDG_CACHE_HOME", ".cache");
  fact.lines.push_back(folder.empty() ? "none: neither XDG_CACHE_HOME nor HOME is set"
                                      : (folder / "roundhouse").string());
  const fs::path models = hub_cache();
  int count = 0;
  if (fs::is_directory(models))
    for (const auto& entry : fs::directory_iterator(models))
      count += entry.path().filename().string().starts_with("models--");
  fact.lines.push_back(cat(count, " models of the Hugging Face Hub in ", models.string()));
  return fact;
}

Fact environment() {
  Fact fact{"environment"};
  for (char** variable = environ; *variable; ++variable)
    for (const char* prefix : {"CUBLAS_", "CUDA_", "GLIBC_TUNABLES", "GOMP_", "HF_H", "KMP_", "LD_", "MKL_", "OMP_",
                               "ROUNDHOUSE_", "TMPDIR", "XDG_"})
      if (std::string_view(*variable).starts_with(prefix)) fact.lines.emplace_back(*variable);
  std::sort(fact.lines.begin(), fact.lines.end());
  return fact;
}

void print(const std::vector<Fact>& facts) {
  size_t width = 0;
  for (const Fact& fact : facts) width = std::max(width, fact.name.size());
  const std::string indent(width + 4, ' ');
  for (const Fact& fact : facts) {
    std::cout << (fact.problem.empty() ? "  " : "! ") << fact.name << std::string(width + 2 - fact.name.size(), ' ');
    for (size_t i = 0; i < fact.lines.size(); ++i) std::cout << (i == 0 ? "" : indent) << fact.lines[i] << "\n";
    if (fact.lines.empty()) std::cout << "\n";
    if (!fact.problem.empty()) std::cout << indent << fact.problem << "\n";
  }
}

}  // namespace

void add_doctor(Command program_command, Context& context) {
  const auto json = std::make_shared<bool>(false);
  Command command =
      program_command.add_command("doctor", "What a run finds on this machine, and what is wrong with it");
  command.add_flag("--json", *json, "Print JSON");
  command.set_action([&context, json] {
    std::vector<Fact> facts = {program(), system(), processor(), memory(), disk(), libtorch(), gpu(), mpi()};
    for (Fact& fact : plugins(context.catalogue())) facts.push_back(std::move(fact));
    facts.insert(facts.end(), {configs(), caches(), environment()});
    if (*json) {
      ordered_json out = ordered_json::array();
      for (const Fact& f : facts)
        out.push_back({{"name", f.name},
                       {"facts", f.lines},
                       {"problem", f.problem.empty() ? ordered_json() : ordered_json(f.problem)}});
      std::cout << out.dump(2) << "\n";
    } else {
      print(facts);
    }
    for (const Fact& fact : facts)
      if (fact.fatal) throw Error(cat("no run can begin: ", fact.name, ": ", fact.problem));
  });
}

}  // namespace roundhouse::cli

// SPDX-License-Identifier: Apache-2.0
#include "host/base/elf_check.h"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "host/base/error.h"

namespace roundhouse {
namespace {

using Header = ElfW(Ehdr);
using Segment = ElfW(Phdr);

// This process's own header: what a plugin must agree with in class, byte order and machine.
Header own_header() {
  Header header{};
  std::ifstream("/proc/self/exe", std::ios::binary).read(reinterpret_cast<char*>(&header), sizeof header);
  return header;
}

std::string machine_name(unsigned machine) {
  constexpr std::array<std::pair<unsigned, const char*>, 6> kNames{{{EM_386, "i386"},
                                                                    {EM_X86_64, "x86-64"},
                                                                    {EM_ARM, "ARM"},
                                                                    {EM_AARCH64, "AArch64"},
                                                                    {EM_PPC64, "PowerPC64"},
                                                                    {EM_RISCV, "RISC-V"}}};
  for (const auto& [number, name] : kNames)
    if (number == machine) return name;
  return cat("ELF machine ", machine);
}

}  // namespace

void check_shared_object(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(cat("cannot be opened: ", std::strerror(errno)));
  file.seekg(0, std::ios::end);
  const auto size = static_cast<uint64_t>(file.tellg());
  file.seekg(0);

  Header header{};
  file.read(reinterpret_cast<char*>(&header), static_cast<std::streamsize>(std::min<uint64_t>(size, sizeof header)));
  if (size < SELFMAG || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    throw Error("is not an ELF file, so no shared object");
  const std::string truncated = cat("is cut off: the file has only ", size, " bytes");
  if (size < sizeof header) throw Error(truncated);

  const Header own = own_header();
  if (header.e_ident[EI_CLASS] != own.e_ident[EI_CLASS] || header.e_ident[EI_DATA] != own.e_ident[EI_DATA] ||
      header.e_machine != own.e_machine)
    throw Error(cat("was built for another machine (", machine_name(header.e_machine), "); this one is ",
                    machine_name(own.e_machine)));
  if (header.e_type != ET_DYN) throw Error("is an ELF file, but no shared object");

  if (header.e_shoff + uint64_t{header.e_shnum} * header.e_shentsize > size) throw Error(truncated);
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Segment segment{};
    file.seekg(static_cast<std::streamoff>(header.e_phoff + uint64_t{i} * header.e_phentsize));
    if (!file.read(reinterpret_cast<char*>(&segment), sizeof segment)) throw Error(truncated);
    if (segment.p_offset > size || segment.p_filesz > size - segment.p_offset) throw Error(truncated);
  }
}

}  // namespace roundhouse

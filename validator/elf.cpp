// SPDX-License-Identifier: Apache-2.0
#include "validator/elf.h"

#include <elf.h>
#include <link.h>

#include <cstring>

#include "host/base/error.h"
#include "host/base/files.h"

namespace roundhouse::validator {
namespace {

class File {
 public:
  explicit File(const std::filesystem::path& path) : bytes_(read_file(path)) {}

  template <typename T>
  T get(uint64_t offset) const {
    if (offset > bytes_.size() || sizeof(T) > bytes_.size() - offset)
      throw Error("its ELF tables lead out of the file");
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  std::string text(uint64_t offset) const {
    if (offset >= bytes_.size()) throw Error("its ELF tables lead out of the file");
    return std::string(bytes_.data() + offset, strnlen(bytes_.data() + offset, bytes_.size() - offset));
  }

 private:
  std::string bytes_;
};

}  // namespace

SharedObject read_shared_object(const std::filesystem::path& path) {
  const File file(path);
  const auto header = file.get<ElfW(Ehdr)>(0);
  const auto section = [&](size_t i) { return file.get<ElfW(Shdr)>(header.e_shoff + i * sizeof(ElfW(Shdr))); };
  SharedObject out;
  for (size_t i = 0; i < header.e_shnum; ++i) {
    const ElfW(Shdr) table = section(i);
    if (table.sh_type != SHT_DYNAMIC && table.sh_type != SHT_DYNSYM) continue;
    const uint64_t names = section(table.sh_link).sh_offset;
    for (uint64_t at = table.sh_offset; at < table.sh_offset + table.sh_size; at += table.sh_entsize) {
      if (table.sh_entsize == 0) throw Error("its ELF tables have entries of no size");
      if (table.sh_type == SHT_DYNAMIC) {
        const auto entry = file.get<ElfW(Dyn)>(at);
        if (entry.d_tag == DT_NEEDED) out.needed.push_back(file.text(names + entry.d_un.d_val));
      } else {
        const auto symbol = file.get<ElfW(Sym)>(at);
        const unsigned bind = symbol.st_info >> 4;  // the same in both classes
        const bool hidden = (symbol.st_other & 3) == STV_HIDDEN || (symbol.st_other & 3) == STV_INTERNAL;
        if (symbol.st_shndx != SHN_UNDEF && symbol.st_shndx != SHN_ABS && bind != STB_LOCAL && !hidden)
          out.exports.push_back(file.text(names + symbol.st_name));
      }
    }
  }
  return out;
}

}  // namespace roundhouse::validator

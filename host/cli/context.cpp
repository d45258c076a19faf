#include "host/cli/context.h"

namespace roundhouse::cli {
namespace {

std::filesystem::path configs() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "share/roundhouse/configs";
}

}  // namespace

std::vector<std::filesystem::path> Context::scheme_folders() { return {configs() / "schemes"}; }
std::vector<std::filesystem::path> Context::architecture_folders() { return {configs() / "architectures"}; }

}  // namespace roundhouse::cli

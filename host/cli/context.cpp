#include "host/cli/context.h"

namespace roundhouse::cli {
namespace {

std::filesystem::path share() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "share/roundhouse";
}

}  // namespace

std::vector<std::filesystem::path> Context::scheme_folders() { return {share() / "configs/schemes"}; }
std::vector<std::filesystem::path> Context::architecture_folders() { return {share() / "configs/architectures"}; }
std::filesystem::path Context::template_folder() { return share() / "templates"; }

}  // namespace roundhouse::cli

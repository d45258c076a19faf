// roundhouse verify DIR: reads an exported checkpoint back and checks it.
#include "host/export/verify.h"

#include <iostream>
#include <memory>

#include "host/base/error.h"
#include "host/base/model_folder.h"
#include "host/cli/context.h"
#include "host/discovery/model_files.h"
#include "host/discovery/open_checkpoint.h"
#include "host/plan/original.h"
#include "host/report/table.h"

namespace roundhouse::cli {
namespace {

namespace fs = std::filesystem;

// A run leaves them in its output folder; with several formats, that is the folder above the checkpoint.
Fingerprints find_fingerprints(const fs::path& folder) {
  for (const fs::path& output : {folder, fs::absolute(folder).lexically_normal().parent_path()})
    if (const fs::path file = fingerprint_file(output); fs::exists(file)) return Fingerprints::read(file);
  return {};
}

}  // namespace

void add_verify(Command program, Context& context) {
  struct Options {
    std::string folder;
    bool json = false;
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("verify", "Read an exported checkpoint back and check every tensor");
  command.add_option("DIR", o->folder, "The checkpoint's folder").required();
  command.add_flag("--json", o->json, "Print JSON");
  command.set_action([&context, o] {
    Catalogue catalogue = context.catalogue();
    const fs::path folder = find_model(o->folder);
    Architecture architecture = Architecture::load(ModelFiles(catalogue, folder).folder(),
                                                   Context::architecture_folders(), {.family = "", .generic = true});
    std::string format;
    auto checkpoint = open_checkpoint(catalogue, folder, architecture.facts(), &format);
    match(architecture, checkpoint);
    const Verification result = verify(architecture, *checkpoint, find_fingerprints(folder));
    if (o->json) {
      std::cout << nlohmann::json{{"folder", o->folder},
                                  {"format", format},
                                  {"tensors", result.tensors},
                                  {"compared", result.compared},
                                  {"largest_difference", result.largest},
                                  {"largest_of", result.largest_of},
                                  {"problems", result.problems}}
                       .dump(2)
                << "\n";
    } else {
      for (const std::string& problem : result.problems) std::cout << problem << "\n";
      std::cout << verification_text(result) << "\n";
    }
    if (!result.problems.empty())
      throw Error(
          cat(o->folder, " has ", result.problems.size(), result.problems.size() == 1 ? " problem" : " problems"));
  });
}

}  // namespace roundhouse::cli

// SPDX-License-Identifier: Apache-2.0
// roundhouse verify DIR: reads an exported checkpoint back and checks it.
#include "host/export/verify.h"

#include <iostream>
#include <memory>

#include "host/abi/format_query.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/model_folder.h"
#include "host/base/words.h"
#include "host/checkpoint/output.h"
#include "host/cli/context.h"
#include "host/discovery/model_files.h"
#include "host/discovery/open_checkpoint.h"
#include "host/export/digests.h"
#include "host/plan/original.h"
#include "host/report/progress.h"

namespace roundhouse::cli {
namespace {

namespace fs = std::filesystem;

// Compares the files of an export, or of a run's notes, with their digests. False: there are none.
bool check_digests(const fs::path& folder, const std::string& prefix, Verification& result) {
  const std::optional<Digests> digests = Digests::read(folder);
  if (!digests) return false;
  Progress progress("file", static_cast<int64_t>(digests->files()));
  const int64_t before = result.files;
  const auto next = [&](const std::string& file) { progress.update(result.files++ - before, 0, file); };
  for (std::string& problem : digests->differences(folder, next, prefix)) result.problems.push_back(std::move(problem));
  progress.clear();
  std::vector<std::string> unknown = digests->unknown(folder);
  for (std::string& file : unknown) file.insert(0, prefix);
  if (!unknown.empty()) result.notes.push_back(cat("not written by the run, and not checked: ", joined(unknown)));
  return true;
}

// Of the run that wrote the export `folder`, in it or, where there were several formats, beside it.
void check_notes(const fs::path& folder, Verification& result) {
  const std::string name = cat(kNotesFolder, "/");
  for (const std::string& prefix : {name, "../" + name}) {
    const fs::path notes = fs::absolute(folder) / prefix;
    if (!fs::exists(notes / kDigestFile)) continue;
    if (fs::exists(notes / kJournalFolder))
      result.notes.push_back(
          cat("the run that wrote this is not finished: its evaluation is left, and ", prefix, " was not checked"));
    else
      check_digests(notes, prefix, result);
    return;
  }
}

}  // namespace

void add_verify(Command program, Context& context) {
  struct Options {
    std::string folder;
    bool json = false, deep = false;
  };
  const auto o = std::make_shared<Options>();
  Command command =
      program.add_command("verify", "Check an exported checkpoint: every bit, and what engines will stumble over");
  command.add_option("DIR", o->folder, "The checkpoint's folder").required();
  command.add_flag("--json", o->json, "Print JSON");
  command.add_flag("--deep", o->deep, "Decode every tensor too, and compare it with what the run sent");
  command.set_action([&context, o] {
    Catalogue catalogue = context.catalogue();
    const std::filesystem::path folder = find_model(o->folder);
    Verification result;
    std::vector<Finding> findings;
    std::string format, unread;
    const fs::path whole = fs::is_directory(folder) ? folder : folder.parent_path();  // a GGUF may be given itself
    bool has_digests = false;
    try {
      has_digests = check_digests(whole, "", result);
      check_notes(whole, result);
    } catch (const Error& e) {
      if (says_nothing(e)) throw;
      result.problems.emplace_back(e.what());
    }
    try {
      const Fingerprints fingerprints = find_fingerprints(folder);
      const ModelFiles files(catalogue, folder);
      Architecture architecture = files.read([&] {
        return Architecture::load(files.folder(), Context::architecture_folders(),
                                  {.family = fingerprints.family, .generic = true});
      });
      const nlohmann::json facts = architecture.facts();
      // First what engines make of it: it may say why the checkpoint cannot be opened.
      try {
        if (format = format_of(catalogue, folder); !format.empty())
          findings = ask_findings(catalogue.format(format), folder, facts);
      } catch (const Error& e) {
        if (says_nothing(e)) throw;
        unread = e.what();
      }
      if (o->deep || !has_digests) {
        auto checkpoint = open_checkpoint(catalogue, folder, facts);
        match(architecture, checkpoint);
        verify(architecture, *checkpoint, fingerprints, result);
        if (o->deep && result.compared == 0)
          result.notes.emplace_back(
              "nothing was compared with what a run sent: its fingerprints (roundhouse/fingerprints.safetensors, here "
              "or "
              "in the folder above) are not there");
      }
    } catch (const Error& e) {
      if (says_nothing(e) || (findings.empty() && result.problems.empty())) throw;
      unread = e.what();
    }
    if (!unread.empty()) result.problems.push_back(unread);
    if (!has_digests)
      result.notes.push_back(
          cat("there are no digests (", kDigestFile, "): damage that changes a weight little is not seen"));
    add_findings(result, findings);
    nlohmann::json structured = nlohmann::json::array();
    for (const Finding& f : findings)
      structured.push_back({{"severity", f.is_error ? "error" : "warning"},
                            {"engine", f.engine},
                            {"file", f.file},
                            {"message", f.message},
                            {"advice", f.advice}});
    if (o->json) {
      std::cout << nlohmann::json{{"folder", o->folder},
                                  {"format", format},
                                  {"files", result.files},
                                  {"tensors", result.tensors},
                                  {"compared", result.compared},
                                  {"largest_difference", result.largest},
                                  {"largest_of", result.largest_of},
                                  {"problems", result.problems},
                                  {"notes", result.notes},
                                  {"findings", structured}}
                       .dump(2)
                << "\n";
    } else {
      for (const std::string& problem : result.problems) std::cout << problem << "\n";
      for (const std::string& note : result.notes) std::cout << "note: " << note << "\n";
      std::cout << verification_text(result) << "\n";
    }
    if (!result.problems.empty())
      throw Error(
          cat(o->folder, " has ", result.problems.size(), result.problems.size() == 1 ? " problem" : " problems"));
  });
}

}  // namespace roundhouse::cli

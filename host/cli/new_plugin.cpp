// SPDX-License-Identifier: Apache-2.0
// roundhouse new-plugin KIND NAME: a plugin's project, made from the SDK's templates.
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <regex>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/suggest.h"
#include "host/base/words.h"
#include "host/cli/context.h"

namespace roundhouse::cli {
namespace {

namespace fs = std::filesystem;
using Words = std::map<std::string, std::string>;

// A language as the templates' folders name it, CMake, and a file's suffix.
struct Language {
  const char* folder;
  const char* name;
  const char* suffix;
};
constexpr Language kLanguages[] = {{"cxx", "CXX", "cpp"}, {"c", "C", "c"}};

// Copies a folder's files: @WORD@ in a text and NAME in a file's name become what they stand for.
void copy_templates(const fs::path& from, const fs::path& to, const Words& words) {
  for (const auto& entry : fs::recursive_directory_iterator(from)) {
    if (!entry.is_regular_file()) continue;
    const fs::path relative = fs::relative(entry.path(), from);
    std::string text = read_file(entry.path());
    for (const auto& [word, by] : words) text = replaced(text, "@" + word + "@", by);
    const fs::path file = to / relative.parent_path() / replaced(relative.filename(), "NAME", words.at("NAME"));
    fs::create_directories(file.parent_path());
    std::ofstream out(file, std::ios::binary);
    out << text;
    if (!out.flush()) throw Error(cat("cannot write ", file.string()));
  }
}

// Throws Error when `word` is not one of `known`.
void require_known(const char* what, const std::string& word, const std::vector<std::string>& known) {
  if (!contains(known, word))
    throw Error(cat("there is no ", what, " \"", word, "\"", suggest(word, known), "; there are: ", joined(known)));
}

void make_project(const std::string& kind, const std::string& name, const std::string& wanted, const fs::path& folder) {
  require_known("kind of plugin", kind, {"dtype", "format"});
  const Language* language = nullptr;
  std::vector<std::string> languages;
  for (const Language& l : kLanguages) {
    languages.push_back(l.folder);
    if (wanted == l.folder) language = &l;
  }
  require_known("language", wanted, languages);
  if (!std::regex_match(name, std::regex("[a-z][a-z0-9_]*")))
    throw Error(cat("\"", name, "\" cannot be a plugin's name: it begins with a small letter and has small letters, ",
                    "digits and _ alone, since it names files, a class and what recipes write"));
  if (fs::exists(folder)) throw Error(cat(folder.string(), " already exists; choose another --dir"));
  const fs::path templates = Context::template_folder();
  if (!fs::is_directory(templates / kind / language->folder))
    throw Error(cat("there are no templates in ", templates.string(), ": install the SDK under the same prefix"));

  const Words words{{"NAME", name},
                    {"KIND", kind},
                    {"LANGUAGE", language->name},
                    {"SUFFIX", language->suffix},
                    {"VERSION", ROUNDHOUSE_VERSION}};
  try {
    copy_templates(templates / "common", folder, words);
    copy_templates(templates / kind / "common", folder, words);
    copy_templates(templates / kind / language->folder, folder, words);
  } catch (const fs::filesystem_error& e) {
    throw Error(cat("cannot write ", folder.string(), ": ", e.code().message()));
  }
  std::cout << "Made " << folder.string() << ". Next:\n  cmake -S " << shell_quoted(folder.string()) << " -B "
            << shell_quoted((folder / "build").string())
            << " -DCMAKE_PREFIX_PATH=" << shell_quoted(Context::prefix().string()) << "\n  cmake --build "
            << shell_quoted((folder / "build").string()) << "\n  ctest --test-dir "
            << shell_quoted((folder / "build").string()) << "\n";
}

}  // namespace

void add_new_plugin(Command program, Context&) {
  struct Options {
    std::string kind, name, folder, language = "cxx";
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("new-plugin", "Make the project of a plugin: source, build, test, CI");
  command.add_option("KIND", o->kind, "dtype or format").required();
  command.add_option("NAME", o->name, "What recipes will write").required();
  command.add_option("--dir", o->folder, "The folder to make (default: NAME)").type_name("DIR");
  command.add_option("--language", o->language, "cxx or c").show_default();
  command.set_action([o] { make_project(o->kind, o->name, o->language, o->folder.empty() ? o->name : o->folder); });
}

}  // namespace roundhouse::cli

// SPDX-License-Identifier: Apache-2.0
// roundhouse convert DIR --format F: repacks an exported checkpoint without quantizing it again.
#include "host/export/convert.h"

#include <iostream>
#include <memory>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/model_folder.h"
#include "host/base/words.h"
#include "host/checkpoint/weight_bytes.h"
#include "host/cli/context.h"
#include "host/discovery/model_files.h"
#include "host/discovery/open_checkpoint.h"
#include "host/export/digests.h"
#include "host/plan/layer_check.h"
#include "host/plan/original.h"
#include "host/report/table.h"
#include "host/run/evaluation.h"

namespace roundhouse::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Options {
  std::string folder, format, output;
  std::vector<std::string> settings;
  bool overwrite = false;
};

// option=value, the value a JSON one or else a text.
json format_options(const std::vector<std::string>& settings) {
  json options = json::object();
  for (const std::string& text : settings) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) throw Error(cat("--set ", text, ": write --set option=value"));
    const std::string value = text.substr(equals + 1);
    json parsed = json::parse(value, nullptr, /*allow_exceptions=*/false);
    options[text.substr(0, equals)] = parsed.is_discarded() ? json(value) : std::move(parsed);
  }
  return options;
}

void run(Context& context, const Options& o) {
  Catalogue catalogue = context.catalogue();
  catalogue.format(o.format);  // throws for one that is not there
  const fs::path folder = find_model(o.folder);
  const ModelFiles files(catalogue, folder);
  Recipe recipe;
  // A file keeps its name: what a link in the hub's cache leads to has none that tells what it is.
  recipe.model = fs::is_directory(folder) ? fs::weakly_canonical(folder) : fs::absolute(folder).lexically_normal();
  recipe.output =
      o.output.empty() ? recipe.model.string() + "-" + o.format : fs::absolute(o.output).lexically_normal().string();
  recipe.formats.push_back({o.format, catalogue.format_options(o.format, format_options(o.settings)), {}});
  check_format_options(catalogue, recipe.formats[0]);
  if (is_within(recipe.model, recipe.output))
    throw Error(cat("writing ", recipe.output.string(), " would overwrite ", recipe.model.string()));

  files.require_config();
  const fs::path whole = fs::is_directory(folder) ? folder : folder.parent_path();
  if (const std::optional<Digests> digests = Digests::read(whole)) {
    const std::vector<std::string> changed = digests->differences(whole, [](const std::string&) {});
    if (!changed.empty()) throw Error(cat(o.folder, " is damaged, and would be converted so: ", joined(changed)));
  }
  recipe.architecture = find_fingerprints(folder).family;
  Architecture architecture = files.read([&] {
    return Architecture::load(files.folder(), Context::architecture_folders(),
                              {.family = recipe.architecture, .generic = true});
  });
  std::string source_format;
  auto source = open_checkpoint(catalogue, recipe.model, architecture.facts(), &source_format);
  match(architecture, source);
  auto* const exported = exported_checkpoint(*source);
  if (!exported) throw Error(cat(o.folder, " is not quantized: use `roundhouse run`"));
  take_recorded_tuning(*exported, recipe);
  const Fingerprints fingerprints = convert(recipe, architecture, *source, files.folder(), catalogue, o.overwrite);
  const std::unique_ptr<TensorSource> written = with_matrices(
      architecture,
      std::make_unique<ExportedCheckpoint>(catalogue.format(o.format), recipe.output, architecture.facts()));
  const Verification result = verify(architecture, *written, fingerprints);
  std::cout << format_table({{"format", "bytes", "folder"},
                             {source_format, format_bytes(weight_bytes(recipe.model)), recipe.model.string()},
                             {o.format, format_bytes(weight_bytes(recipe.output)), recipe.output.string()}});
  std::cout << verification_text(result) << "\n";
  for (const std::string& note : result.notes) std::cout << "note: " << note << "\n";
  for (const std::string& note : finding_notes(catalogue.format(o.format), recipe.output, architecture.facts()))
    std::cout << "note: " << note << "\n";
  if (result.problems.empty()) return;
  std::string text;
  for (const std::string& problem : result.problems) text += "\n  " + problem;
  throw Error(cat(recipe.output.string(), " does not read back as what was converted; do not use it:", text));
}

}  // namespace

void add_convert(Command program, Context& context) {
  const auto o = std::make_shared<Options>();
  Command command =
      program.add_command("convert", "Repack an exported checkpoint into another format, without quantizing again");
  command.add_option("DIR", o->folder, "The checkpoint's folder").required();
  command.add_option("--format", o->format, "The format to write").required();
  command.add_option("--output", o->output, "The folder to write (default: DIR-FORMAT)");
  command.add_option("--set", o->settings, "An option of the format: --set option=value (may be repeated)");
  command.add_flag("--overwrite", o->overwrite, "Replace an output that is there");
  command.set_action([&context, o] { run(context, *o); });
}

}  // namespace roundhouse::cli

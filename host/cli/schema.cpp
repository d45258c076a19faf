// SPDX-License-Identifier: Apache-2.0
// roundhouse schema [--output FILE]
#include <iostream>
#include <memory>

#include "host/base/files.h"
#include "host/cli/context.h"
#include "host/model/descriptor.h"
#include "host/recipe/recipe_schema.h"
#include "host/recipe/scheme_choice.h"

namespace roundhouse::cli {
namespace {

template <typename Record>
RecipeNames::Named named(const Record& record) {
  RecipeNames::Named named{{record.id}, record.options_schema};
  for (const auto& alias : record.aliases)
    if (alias.first != record.id) named.names.push_back(alias.first);
  return named;
}

RecipeNames names_of(const Catalogue& catalogue) {
  RecipeNames names;
  for (const Preset& preset : list_presets(Context::scheme_folders())) names.presets.push_back(preset.name);
  names.architectures = {"generic"};
  for (const FamilyRecord& record : list_families(Context::architecture_folders()))
    if (record.family != "generic") names.architectures.push_back(record.family);
  for (const DtypeRecord* dtype : catalogue.dtypes()) names.dtypes.push_back(named(*dtype));
  for (const FormatRecord* format : catalogue.formats())
    if (!format->encodings.empty()) names.formats.push_back(named(*format));  // else it only reads
  return names;
}

}  // namespace

void add_schema(Command program, Context& context) {
  const auto file = std::make_shared<std::string>();
  Command command = program.add_command("schema", "The JSON Schema of recipes, with the loaded plugins' options");
  command.add_option("--output", *file, "Write it here instead of printing it").type_name("FILE");
  command.set_action([&context, file] {
    if (!file->empty())
      require_kind(*file, "JSON Schema", [](const auto& path) { return read_json_object(path).contains("$schema"); });
    const std::string text = recipe_schema(names_of(context.catalogue())).dump(2) + "\n";
    if (file->empty()) {
      std::cout << text;
      return;
    }
    write_file(*file, text);
    std::cout << "Wrote " << *file << ". A recipe whose first line is this is checked by editors as it is written:\n"
              << "# yaml-language-server: $schema=" << std::filesystem::absolute(*file).string() << "\n";
  });
}

}  // namespace roundhouse::cli

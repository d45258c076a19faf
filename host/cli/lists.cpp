// SPDX-License-Identifier: Apache-2.0
// roundhouse architectures | schemes | dtypes | formats: what the descriptors, the presets and the loaded plugins offer.
#include <iostream>
#include <memory>

#include "host/abi/quantizer.h"
#include "host/base/error.h"
#include "host/base/words.h"
#include "host/cli/context.h"
#include "host/model/descriptor.h"
#include "host/plan/layer_check.h"
#include "host/plan/plan_text.h"
#include "host/plan/scheme_resolver.h"
#include "host/recipe/scheme_choice.h"
#include "host/report/table.h"

namespace roundhouse::cli {
namespace {

using nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

// A table without a row says why.
void print(const Catalogue& catalogue, const Rows& rows, const json& out, bool as_json) {
  std::cout << (as_json ? out.dump(2) + "\n" : format_table(rows));
  if (!as_json && rows.size() == 1) std::cout << "None is loaded. " << catalogue.where_it_looked() << "\n";
}

void print_searched(const std::vector<std::filesystem::path>& folders) {
  std::cout << "\nSearched:\n";
  for (const auto& folder : folders) std::cout << "  " << folder.string() << "\n";
}

std::string alias_names(const std::vector<std::pair<std::string, json>>& aliases) {
  std::vector<std::string> names;
  for (const auto& alias : aliases) names.push_back(alias.first);
  return joined(names);
}
// member: what an alias stands for.
json describe(const std::vector<std::pair<std::string, json>>& aliases, const char* member) {
  json described = json::array();
  for (const auto& [name, value] : aliases) described.push_back({{"name", name}, {member, value}});
  return described;
}

void list_dtypes(const Catalogue& catalogue, bool as_json) {
  Rows rows{{"data type", "emits", "aliases", "summary", "plugin"}};
  json out = json::array();
  for (const DtypeRecord* d : catalogue.dtypes()) {
    rows.push_back({d->id, d->encoding, alias_names(d->aliases), d->summary, d->plugin.string()});
    out.push_back({{"id", d->id},
                   {"summary", d->summary},
                   {"encoding", d->encoding},
                   {"aliases", describe(d->aliases, "fields")},
                   {"options_schema", d->options_schema},
                   {"plugin", d->plugin.string()}});
  }
  print(catalogue, rows, out, as_json);
}

void list_formats(const Catalogue& catalogue, bool as_json) {
  Rows rows{{"format", "packs", "aliases", "summary", "plugin"}};
  json out = json::array();
  for (const FormatRecord* f : catalogue.formats()) {
    rows.push_back({f->id, f->encodings.empty() ? "(only read)" : joined(f->encodings), alias_names(f->aliases),
                    f->summary, f->plugin.string()});
    out.push_back({{"id", f->id},
                   {"summary", f->summary},
                   {"encodings", f->encodings},
                   {"backends", f->backends},
                   {"aliases", describe(f->aliases, "options")},
                   {"options_schema", f->options_schema},
                   {"plugin", f->plugin.string()}});
  }
  print(catalogue, rows, out, as_json);
}

// Those that write as well as read.
std::vector<const FormatRecord*> written_formats(const Catalogue& catalogue) {
  std::vector<const FormatRecord*> formats = catalogue.formats();
  std::erase_if(formats, [](const FormatRecord* f) { return f->encodings.empty(); });
  return formats;
}

// A layer that every group size in use divides, to ask the plugins about.
constexpr int64_t kProbeSize = 4096;

// Why each format cannot hold a layer of this scheme, "" where it can.
std::vector<std::string> refusals(Catalogue& catalogue, const Preset& preset, const json& fields, std::string& what) {
  const std::vector<const FormatRecord*> formats = written_formats(catalogue);
  LayerPlan layer;
  layer.info.name = "model.layers.0.mlp.up_proj";
  layer.info.role = "up_proj";
  layer.info.out_features = layer.info.in_features = kProbeSize;
  layer.scheme = resolve_scheme(catalogue, json::object(), fields, Rounding::kTuned);
  what = scheme_text(layer.scheme);
  std::vector<std::string> reasons(formats.size());
  if (!layer.scheme.weight) return reasons;  // every format holds weights as they are
  const QuantizerTarget weight{layer.info.name, layer.info.role, kProbeSize, kProbeSize, DType::kBF16};
  const auto encoding = [&](const TensorScheme& scheme, const QuantizerTarget& target) {
    const Quantizer quantizer(catalogue.dtype(scheme.dtype), scheme, target);
    if (!quantizer.info().encoding) throw Error(cat("the data type ", scheme.dtype, " emits no encoding"));
    return std::make_shared<EncodingCopy>(*quantizer.info().encoding);
  };
  layer.encoding = encoding(*layer.scheme.weight, weight);
  QuantizerTarget input = weight;
  input.rows = -1;
  input.target = RH_TARGET_ACTIVATION;
  if (layer.scheme.activation) layer.activation_encoding = encoding(*layer.scheme.activation, input);
  for (size_t i = 0; i < formats.size(); ++i)
    reasons[i] =
        format_refusal(catalogue, formats[i]->id, preset.format_options.value(formats[i]->id, json::object()), layer);
  return reasons;
}

void list_schemes(Catalogue& catalogue, bool as_json) {
  const std::vector<const FormatRecord*> formats = written_formats(catalogue);
  Rows rows{{"scheme", "what"}};
  for (const FormatRecord* f : formats) rows.front().push_back(f->id);
  json out = json::array();
  for (const Preset& preset : list_presets(Context::scheme_folders())) {
    json entry{{"name", preset.name},
               {"fields", preset.fields},
               {"formats", json::object()},
               {"what", ""},
               {"problem", nullptr}};
    std::vector<std::string> row{preset.name};
    try {
      std::string what;
      std::vector<std::string> reasons = refusals(catalogue, preset, preset.fields, what);
      for (const PresetLayers& layers : preset.layers) {
        json fields = preset.fields;
        fields.update(layers.fields);
        std::string also;
        const std::vector<std::string> more = refusals(catalogue, preset, fields, also);
        what += cat("; ", also);
        for (size_t i = 0; i < more.size(); ++i)
          if (reasons[i].empty()) reasons[i] = more[i];
      }
      row.push_back(what);
      entry["what"] = what;
      for (size_t i = 0; i < formats.size(); ++i) {
        row.push_back(reasons[i].empty() ? "yes" : "-");
        entry["formats"][formats[i]->id] = reasons[i].empty() ? json(true) : json(reasons[i]);
      }
    } catch (const Error& problem) {
      row.push_back(cat("not available: ", problem.what()));
      entry["problem"] = problem.what();
    }
    rows.push_back(row);
    out.push_back(entry);
  }
  std::cout << (as_json ? out.dump(2) + "\n" : format_table(rows));
  if (!as_json) print_searched(Context::scheme_folders());
}

void list_architectures(bool as_json) {
  const std::vector<std::filesystem::path> folders = Context::architecture_folders();
  Rows rows{{"family", "model_type", "file"}};
  json out = json::array();
  for (const FamilyRecord& record : list_families(folders)) {
    rows.push_back({record.family, joined(record.model_types), record.file.string()});
    out.push_back({{"family", record.family}, {"model_types", record.model_types}, {"file", record.file.string()}});
  }
  std::cout << (as_json ? out.dump(2) + "\n" : format_table(rows));
  if (!as_json) print_searched(folders);
}

void add_list(Command program, Context& context, const char* name, const char* help,
              std::function<void(Catalogue&, bool)> list) {
  const auto as_json = std::make_shared<bool>(false);
  Command command = program.add_command(name, help);
  command.add_flag("--json", *as_json, "Print JSON");
  command.set_action([&context, as_json, list] {
    Catalogue catalogue = context.catalogue();
    list(catalogue, *as_json);
  });
}

}  // namespace

void add_lists(Command program, Context& context) {
  const auto as_json = std::make_shared<bool>(false);
  Command architectures = program.add_command("architectures", "The model families that are described");
  architectures.add_flag("--json", *as_json, "Print JSON");
  architectures.set_action([as_json] { list_architectures(*as_json); });
  add_list(program, context, "schemes", "The presets, and which formats can hold each", list_schemes);
  add_list(program, context, "dtypes", "The data types of the loaded plugins", list_dtypes);
  add_list(program, context, "formats", "The formats of the loaded plugins", list_formats);
}

}  // namespace roundhouse::cli

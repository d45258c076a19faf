// SPDX-License-Identifier: Apache-2.0
#include "host/recipe/recipe.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iterator>
#include <map>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/model_folder.h"
#include "host/checkpoint/imatrix_file.h"
#include "host/recipe/recipe_fields.h"
#include "host/yaml/yaml.h"

namespace roundhouse {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using yaml::Node;

namespace fs = std::filesystem;

class KeyCollector {
 public:
  void operator()(const char* key, const auto&...) { keys.push_back(key); }
  std::vector<std::string> keys;
};

fs::path read_file_path(const Node& node) {
  const fs::path path = node.as_path();
  if (fs::is_directory(path)) node.fail(cat(path.string(), " is a folder: name a file in it, or a list of files"));
  if (!fs::is_regular_file(path)) node.fail(cat("there is no file ", path.string()));
  return path;
}

// A file, or a list of files and of {file, share}. Shares are for all of them or for none.
std::vector<DataFile> read_data_files(const Node& node) {
  if (!node.is_list()) return {{read_file_path(node), std::nullopt}};
  std::vector<DataFile> files;
  for (const Node& item : node.as_list()) {
    if (!item.is_map()) {
      files.push_back({read_file_path(item), std::nullopt});
      continue;
    }
    item.only({"file", "share"});
    DataFile& file = files.emplace_back(DataFile{read_file_path(item.at("file")), std::nullopt});
    if (const Node* share = item.find("share")) {
      file.share = share->as_number(0);
      if (*file.share == 0) share->fail("must be greater than 0; leave the file out if it shall give nothing");
    }
  }
  if (files.empty()) node.fail("must name at least one file");
  for (const DataFile& file : files)
    if (file.share.has_value() != files[0].share.has_value()) node.fail("must give a share of every file, or of none");
  return files;
}

std::chrono::year_month_day read_date(const Node& node) {
  const std::string& text = node.as_text();
  int year = 0;
  unsigned month = 0, day = 0;
  char more = 0;
  if (text.size() == 10 && std::sscanf(text.c_str(), "%4d-%2u-%2u%c", &year, &month, &day, &more) == 3) {
    const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month), std::chrono::day(day)};
    if (date.ok()) return date;
  }
  node.fail(cat("must be a date such as 2024-07-26, not ", text));
}

std::string date_text(const std::chrono::year_month_day& date) {
  char text[32];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()));
  return text;
}

template <typename Enum>
Enum read_name(const Node& node, const ValueNames& names, const char* others) {
  const auto found = std::find(names.begin(), names.end(), node.as_text());
  if (found == names.end()) node.fail(cat("must be ", others, names[0], " or ", names[1], ", not ", node.as_text()));
  return static_cast<Enum>(found - names.begin());
}

class FieldReader {
 public:
  explicit FieldReader(const Node& map) : map_(map) {}

  void operator()(const char* key, int64_t& field, int64_t min, int64_t max = kMaxCount) const {
    if (const Node* node = map_.find(key)) field = node->as_int(min, max);
  }
  template <typename Enum>
  void operator()(const char* key, Enum& field, const ValueNames& names) const {
    if (const Node* node = map_.find(key)) field = read_name<Enum>(*node, names, "");
  }
  template <typename Enum>
  void operator()(const char* key, std::optional<Enum>& field, const ValueNames& names) const {
    const Node* node = map_.find(key);
    if (node && node->as_text() != "auto") field = read_name<Enum>(*node, names, "auto, ");
  }
  void operator()(const char* key, bool& field) const {
    if (const Node* node = map_.find(key)) field = node->as_bool();
  }
  void operator()(const char* key, std::optional<double>& field) const {
    const Node* node = map_.find(key);
    if (!node) return;
    if (node->is_text() && node->as_text() != "auto") node->fail("must be a number or auto, not " + node->as_text());
    field = node->is_text() ? std::nullopt : std::optional(node->as_number(0));
  }
  void operator()(const char* key, std::optional<std::string>& field) const {
    if (const Node* node = map_.find(key)) field = node->as_text();
  }
  void operator()(const char* key, fs::path& field) const { field = read_file_path(map_.at(key)); }
  void operator()(const char* key, std::vector<DataFile>& field) const {
    if (const Node* node = map_.find(key)) field = read_data_files(*node);
  }
  void operator()(const char* key, std::chrono::year_month_day& field) const {
    if (const Node* node = map_.find(key)) field = read_date(*node);
  }

 private:
  const Node& map_;
};

class FieldWriter {
 public:
  void operator()(const char* key, const int64_t& field, int64_t, int64_t = 0) { map[key] = field; }
  void operator()(const char* key, const bool& field) { map[key] = field; }
  template <typename Enum>
  void operator()(const char* key, const Enum& field, const ValueNames& names) {
    map[key] = names[static_cast<size_t>(field)];
  }
  template <typename Enum>
  void operator()(const char* key, const std::optional<Enum>& field, const ValueNames& names) {
    map[key] = field ? names[static_cast<size_t>(*field)] : "auto";
  }
  void operator()(const char* key, const std::optional<double>& field) {
    map[key] = field ? ordered_json(*field) : ordered_json("auto");
  }
  void operator()(const char* key, const fs::path& field) { map[key] = field.string(); }
  void operator()(const char* key, const std::optional<std::string>& field) {
    if (field) map[key] = *field;
  }
  void operator()(const char* key, const std::vector<DataFile>& field) {
    if (field.size() == 1 && !field[0].share) {
      map[key] = field[0].file.string();
    } else if (!field.empty()) {
      for (const DataFile& file : field) {
        ordered_json entry = {{"file", file.file.string()}};
        if (file.share) entry["share"] = *file.share;
        map[key].push_back(std::move(entry));
      }
    }
  }
  void operator()(const char* key, const std::chrono::year_month_day& field) { map[key] = date_text(field); }
  ordered_json map = ordered_json::object();
};

template <typename Section>
void read_section(const Node& node, Section& section, auto fields) {
  KeyCollector known;
  fields(section, known);
  node.only(known.keys);
  fields(section, FieldReader(node));
}

template <typename Section>
ordered_json write_section(const Section& section, auto fields) {
  FieldWriter writer;
  fields(section, writer);
  return std::move(writer.map);
}

// ---- the other values ----

fs::path read_model(const Node& node) {
  const std::string& said = node.as_text();
  try {
    return find_model(said, node.as_path());
  } catch (const Error& e) {
    node.fail(e.what());
  }
}

ImatrixFiles read_imatrix_files(const Node& node) {
  node.only({"file", "save"});
  ImatrixFiles imatrix;
  if (const Node* file = node.find("file")) imatrix.file = read_file_path(*file);
  if (const Node* save = node.find("save")) {
    imatrix.save = save->as_path();
    if (imatrix.file) save->fail("what imatrix.file has is not collected; give one of the two");
    if (!fs::is_directory(imatrix.save->parent_path()))
      save->fail(cat("there is no folder ", imatrix.save->parent_path().string()));
    try {
      require_kind(*imatrix.save, "importance matrix", is_imatrix);
    } catch (const Error& e) {
      save->fail(e.what());
    }
  }
  return imatrix;
}

LayerPattern read_pattern(const Node& node) {
  const std::string& text = node.as_text();
  try {
    return LayerPattern(text);
  } catch (const Error& e) {
    node.fail(e.what());
  }
}

LayerRule read_rule(const Node& node, const std::vector<Preset>& presets) {
  std::vector<std::string> keys = {"match", "scheme"};
  keys.insert(keys.end(), scheme_keys().begin(), scheme_keys().end());
  node.only(keys);

  const Node& match = node.at("match");
  LayerRule rule{.match = read_pattern(match)};
  const json fields = read_scheme_fields(node);
  if (const Node* scheme = node.find("scheme")) {
    const bool keep = scheme->is_text() && scheme->as_text() == kKeepScheme;
    if (keep && !fields.empty())
      scheme->fail("none leaves the layer as it is; " + fields.begin().key() + " says otherwise");
    rule.action = keep ? LayerRule::Action::kKeep : LayerRule::Action::kReplace;
    if (!keep) rule.scheme = read_scheme(*scheme, presets);
  }
  rule.scheme.said.update(fields);
  rule.scheme.place = {match.place()};
  return rule;
}

FormatChoice read_format(const Node& node) {
  FormatChoice format;
  format.place = {node.place()};
  if (!node.is_map()) {
    format.id = node.as_text();
    return format;
  }
  format.id = node.at("id").as_text();
  for (const auto& [key, value] : node.members())
    if (key != "id") format.options[key] = value->as_json();
  return format;
}

std::vector<FormatChoice> read_formats(const Node& node) {
  std::vector<FormatChoice> formats;
  for (const Node& item : node.as_list()) {
    FormatChoice format = read_format(item);
    if (std::any_of(formats.begin(), formats.end(), [&](const FormatChoice& f) { return f.id == format.id; }))
      item.fail(cat("the format ", format.id, " is there twice"));
    formats.push_back(std::move(format));
  }
  if (formats.empty()) node.fail("must name at least one format");
  return formats;
}

DeviceChoice read_device(const Node& node) {
  if (const auto device = parse_device(node.as_text())) return *device;
  node.fail(cat("must be auto, cpu, cuda or cuda:N, not ", node.as_text()));
}

std::string device_text(const DeviceChoice& device) {
  if (device.kind == DeviceChoice::Kind::kAuto) return "auto";
  return device.kind == DeviceChoice::Kind::kCpu ? "cpu" : cat("cuda:", device.index);
}

// Bytes: a number, or one with a unit. KB, MB, ... are powers of 1000, as Hugging Face has them; KiB, ... of 1024.
int64_t read_size(const Node& node) {
  if (!node.is_text()) return node.as_int(1);
  static const std::map<std::string_view, double> kUnits = {{"B", 1},        {"KB", 1e3},     {"MB", 1e6},
                                                            {"GB", 1e9},     {"TB", 1e12},    {"KiB", 0x1p10},
                                                            {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  const std::string& text = node.as_text();
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
  const auto found = kUnits.find(unit);
  const double bytes = found == kUnits.end() ? 0 : number * found->second;
  if (error != std::errc() || !(bytes >= 1 && bytes < 0x1p62)) node.fail(cat("must be a size such as 5GB, not ", text));
  return static_cast<int64_t>(bytes);
}

// "4.2 bits", else a size.
void read_target(const Node& node, Mix& mix) {
  constexpr std::string_view kUnit = "bits";
  mix.place = {node.place()};
  if (!node.is_text() || !node.as_text().ends_with(kUnit)) {
    try {
      mix.bytes = read_size(node);
    } catch (const Error&) {
      node.fail("must be a size such as 4GB of the export, or bits a weight such as 4.2 bits");
    }
    return;
  }
  const std::string& text = node.as_text();
  double bits = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), bits);
  std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
  if (error != std::errc() || unit != kUnit || !(bits > 0 && bits <= 64))
    node.fail(cat("must be bits a weight such as 4.2 bits, not ", text));
  mix.bits = bits;
}

Mix read_mix(const Node& node, const std::vector<Preset>& presets) {
  node.only({"mix", "target"});
  Mix mix;
  const Node& schemes = node.at("mix");
  for (const Node& item : schemes.as_list()) {
    SchemeChoice scheme = read_scheme(item, presets);
    if (std::find(mix.schemes.begin(), mix.schemes.end(), scheme) != mix.schemes.end())
      item.fail("this scheme is in the mix twice");
    mix.schemes.push_back(std::move(scheme));
  }
  if (mix.schemes.size() < 2) schemes.fail("must have at least two schemes to choose from");
  read_target(node.at("target"), mix);
  return mix;
}

// The output folder is replaced as a whole.
void refuse_to_overwrite_input(const Node& output, const Recipe& recipe, const fs::path& file) {
  std::vector<fs::path> inputs = {recipe.model};
  // A run's own recipe, where it lies: it is read before the output is replaced, and the new output has it again.
  if (fs::weakly_canonical(file) != fs::weakly_canonical(recipe.output / kNotesFolder / "recipe.yaml"))
    inputs.push_back(file);
  for (const DataFile& data : recipe.calibration.data) inputs.push_back(data.file);
  if (recipe.evaluation) inputs.push_back(recipe.evaluation->data);
  for (const auto& input : {recipe.tokenizer, recipe.imatrix.file, recipe.imatrix.save})
    if (input) inputs.push_back(*input);
  for (const fs::path& input : inputs)
    if (is_within(input, recipe.output))
      output.fail(cat("writing ", recipe.output.string(), " would overwrite ", input.string()));
}

// What the scheme's preset wants of a format stands where the recipe says nothing; from then on the recipe says it.
void apply_format_options(SchemeChoice& scheme, std::vector<FormatChoice>& formats) {
  for (FormatChoice& format : formats) {
    json options = scheme.format_options.value(format.id, json::object());
    options.update(format.options);
    format.options = std::move(options);
  }
  scheme.format_options = json::object();
}

// The preset's entries come after the recipe's, of which the first that matches decides.
void apply_preset_layers(SchemeChoice& scheme, std::vector<LayerRule>& rules) {
  for (PresetLayers& layers : scheme.layers) {
    try {
      LayerRule rule{.match = LayerPattern(layers.match)};
      rule.scheme.said = std::move(layers.fields);
      rule.scheme.place = std::move(layers.place);
      if (std::find(rules.begin(), rules.end(), rule) == rules.end()) rules.push_back(std::move(rule));
    } catch (const Error& e) {
      throw Error(cat(layers.place.text, ": ", e.what()));
    }
  }
  scheme.layers.clear();
}

Node read_with_overrides(const fs::path& file, const std::vector<std::string>& overrides) {
  Node root = Node::load(file);
  for (const std::string& text : overrides) {
    const size_t equals = text.find('=');
    const std::string key = text.substr(0, equals);
    if (equals == std::string::npos || cat(".", key, ".").find("..") != std::string::npos)
      throw Error(cat("--set ", text, ": write --set key=value"));
    yaml::Source source{"--set " + text, fs::current_path(), /*has_lines=*/false};
    root.set(key, Node::parse(text.substr(equals + 1), std::move(source), key));
  }
  return root;
}

ordered_json write_scheme(const SchemeChoice& scheme) {
  ordered_json map = ordered_json::object();
  if (!scheme.preset.empty()) map["preset"] = scheme.preset;
  for (const std::string& key : scheme_keys())
    if (scheme.said.contains(key)) map[key] = scheme.said.at(key);
  return map;
}

ordered_json write_mix(const Mix& mix) {
  ordered_json map = {{"mix", ordered_json::array()}};
  for (const SchemeChoice& scheme : mix.schemes) map["mix"].push_back(write_scheme(scheme));
  map["target"] = mix.bytes ? ordered_json(*mix.bytes) : ordered_json(target_text(mix));
  return map;
}

ordered_json write_rule(const LayerRule& rule) {
  ordered_json map = {{"match", rule.match.text()}};
  switch (rule.action) {
    case LayerRule::Action::kKeep:
      map["scheme"] = kKeepScheme;
      break;
    case LayerRule::Action::kReplace:
      map["scheme"] = write_scheme(rule.scheme);
      break;
    case LayerRule::Action::kOverride:
      map.update(write_scheme(rule.scheme));
      break;
  }
  return map;
}

ordered_json write_format(const FormatChoice& format) {
  if (format.options.empty()) return format.id;
  ordered_json map = {{"id", format.id}};
  map.update(ordered_json(format.options));
  return map;
}

}  // namespace

std::optional<DeviceChoice> parse_device(const std::string& text) {
  if (text == "auto") return DeviceChoice();
  if (text == "cpu") return DeviceChoice{DeviceChoice::Kind::kCpu, 0};
  if (text == "cuda") return DeviceChoice{DeviceChoice::Kind::kCuda, 0};
  constexpr std::string_view kPrefix = "cuda:";
  if (!text.starts_with(kPrefix)) return std::nullopt;
  uint16_t index = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + kPrefix.size(), end, index);
  if (error != std::errc() || stop != end) return std::nullopt;
  return DeviceChoice{DeviceChoice::Kind::kCuda, index};
}

double learning_rate(const Tuning& tuning, int bits) {
  if (tuning.lr) return *tuning.lr;
  if (tuning.iters == 0) return 0;
  const auto iters = static_cast<double>(tuning.iters);
  const double rate = (bits <= 3 && tuning.iters >= 1000 ? 2 : 1) / iters;
  if (tuning.algorithm != Tuning::Algorithm::kSignround2) return rate;
  const double most = bits <= 2 ? 0.014 : bits == 3 ? 0.01 : 0.005;
  return std::min(rate, most * std::max(1.0, 50 / iters));
}

double minmax_learning_rate(const Tuning& tuning, int bits) {
  if (tuning.minmax_lr) return *tuning.minmax_lr;
  return learning_rate(tuning, bits) / (tuning.algorithm == Tuning::Algorithm::kSignround2 ? 4 : 1);
}

Tuning::Schedule schedule(const Tuning& tuning) {
  return tuning.lr_schedule.value_or(tuning.algorithm == Tuning::Algorithm::kSignround2 ? Tuning::Schedule::kCosine
                                                                                        : Tuning::Schedule::kLinear);
}

Tuning::BestOf best_of(const Tuning& tuning) {
  return tuning.best_of.value_or(tuning.algorithm == Tuning::Algorithm::kSignround2 ? Tuning::BestOf::kEpoch
                                                                                    : Tuning::BestOf::kBatch);
}

Tuning::LastBlock last_block(const Tuning& tuning) {
  return tuning.last_block.value_or(tuning.algorithm == Tuning::Algorithm::kSignround2 ? Tuning::LastBlock::kLogits
                                                                                       : Tuning::LastBlock::kOutput);
}

Recipe load_recipe(const fs::path& file, const std::vector<std::string>& overrides,
                   const std::vector<fs::path>& preset_folders) {
  const Node root = read_with_overrides(file, overrides);
  root.only({"version", "model", "tokenizer", "architecture", "output", "scheme", "layers", "calibration", "tuning",
             "imatrix", "formats", "device", "evaluation", "threads", "memory", "max_shard_size"});
  if (const Node& version = root.at("version"); version.as_int(1) != kRecipeVersion)
    version.fail(cat("this Roundhouse reads recipes of version ", kRecipeVersion, " only"));

  const std::vector<Preset> presets = list_presets(preset_folders);
  Recipe recipe;
  recipe.model = read_model(root.at("model"));
  if (const Node* tokenizer = root.find("tokenizer")) {
    recipe.tokenizer = read_model(*tokenizer);
    recipe.tokenizer_place = {tokenizer->place()};
    if (!fs::is_directory(*recipe.tokenizer)) tokenizer->fail(cat(recipe.tokenizer->string(), " is no folder"));
  }
  if (const Node* node = root.find("architecture")) {
    recipe.architecture = node->as_text();
    recipe.architecture_place = {node->place()};
  }
  recipe.output = root.at("output").as_path();
  if (const Node& scheme = root.at("scheme"); scheme.is_map() && scheme.find("mix"))
    recipe.mix = read_mix(scheme, presets);
  else
    recipe.scheme = read_scheme(scheme, presets);
  if (const Node* layers = root.find("layers"); layers && !layers->is_null())
    for (const Node& node : layers->as_list()) recipe.layers.push_back(read_rule(node, presets));
  apply_preset_layers(recipe.scheme, recipe.layers);
  if (const Node* node = root.find("calibration")) read_section(*node, recipe.calibration, kCalibrationFields);
  if (const Node* node = root.find("tuning")) read_section(*node, recipe.tuning, kTuningFields);
  if (const Node* node = root.find("imatrix")) recipe.imatrix = read_imatrix_files(*node);
  recipe.formats = read_formats(root.at("formats"));
  apply_format_options(recipe.scheme, recipe.formats);
  if (const Node* node = root.find("device")) recipe.device = read_device(*node);
  if (const Node* node = root.find("evaluation")) read_section(*node, recipe.evaluation.emplace(), kEvaluationFields);
  if (const Node* node = root.find("threads")) recipe.threads = node->as_int(0, kMaxThreads);
  if (const Node* node = root.find("memory")) recipe.memory = read_size(*node);
  if (const Node* node = root.find("max_shard_size")) recipe.max_shard_size = read_size(*node);
  refuse_to_overwrite_input(root.at("output"), recipe, file);
  return recipe;
}

Recipe with_scheme(const Recipe& recipe, size_t scheme) {
  Recipe one = recipe;
  one.mix.reset();
  one.scheme = recipe.mix->schemes.at(scheme);
  apply_preset_layers(one.scheme, one.layers);
  apply_format_options(one.scheme, one.formats);
  return one;
}

std::string target_text(const Mix& mix) {
  if (mix.bytes) return std::to_string(*mix.bytes);
  char text[32];
  return std::string(text, std::to_chars(text, std::end(text), *mix.bits).ptr) + " bits";
}

std::string to_yaml(const Recipe& recipe) {
  ordered_json map = {{"version", kRecipeVersion},
                      {"model", recipe.model.string()},
                      {"output", recipe.output.string()},
                      {"scheme", recipe.mix ? write_mix(*recipe.mix) : write_scheme(recipe.scheme)},
                      {"layers", ordered_json::array()},
                      {"calibration", write_section(recipe.calibration, kCalibrationFields)},
                      {"tuning", write_section(recipe.tuning, kTuningFields)},
                      {"formats", ordered_json::array()},
                      {"device", device_text(recipe.device)}};
  if (!recipe.architecture.empty()) map["architecture"] = recipe.architecture;
  for (const LayerRule& rule : recipe.layers) map["layers"].push_back(write_rule(rule));
  for (const FormatChoice& format : recipe.formats) map["formats"].push_back(write_format(format));
  if (recipe.tokenizer) map["tokenizer"] = recipe.tokenizer->string();
  for (const auto& [key, file] : {std::pair{"file", recipe.imatrix.file}, {"save", recipe.imatrix.save}})
    if (file) map["imatrix"][key] = file->string();
  if (recipe.evaluation) map["evaluation"] = write_section(*recipe.evaluation, kEvaluationFields);
  map["threads"] = recipe.threads;
  if (recipe.memory) map["memory"] = *recipe.memory;
  map["max_shard_size"] = recipe.max_shard_size;
  return yaml::emit(map);
}

}  // namespace roundhouse

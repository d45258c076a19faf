// SPDX-License-Identifier: Apache-2.0
// The format `auto_gptq`: GPTQ checkpoints (version 1), which most engines load.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "plugins/formats/lib/int_reader.h"
#include "plugins/formats/lib/int_writer.h"
#include "plugins/formats/lib/json_object.h"
#include "plugins/formats/lib/lint.h"
#include "plugins/formats/lib/pattern.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

// AutoGPTQ's first files have quantize_config.json alone, which names no method. MLX names none either, but says the same
// of its own layout under `quantization` as well.
Json own_quantization(const std::string& folder) {
  Json quantization = quantization_in(folder, "quantize_config.json");
  const bool unnamed =
      quantization.contains("bits") && quantization.contains("group_size") && !quantization.contains("quant_method") &&
      text_at(quantization, "checkpoint_format") != "marlin" && !read_config_or_empty(folder).contains("quantization");
  return unnamed || text_at(quantization, "quant_method") == "gptq" ? quantization : Json::object();
}

constexpr std::string_view kSpecial = ".^$|()[]{}*+?\\";  // of regular expressions

// A regular expression that matches `name` alone.
std::string exactly(const std::string& name) {
  std::string pattern = "^";
  for (char c : name) {
    if (kSpecial.find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern + "$";
}

// The name of a pattern as exactly() makes it; "" of any other.
std::string exact_name(const std::string& pattern) {
  std::string name;
  for (size_t i = 1; i + 1 < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 2 < pattern.size()) ++i;
    name += pattern[i];
  }
  return exactly(name) == pattern ? name : "";
}

class GptqWriter : public IntWriter {
 public:
  explicit GptqWriter(const rh_export& target) : IntWriter(target, IntLayout::kMinusOne, true) {}

 private:
  Json quantization_config() const override {
    Json config = int_config(target(), plan().common());
    config["quant_method"] = "gptq";
    config["checkpoint_format"] = "gptq";
    config["desc_act"] = false;
    config["true_sequential"] = false;
    config["damp_percent"] = 0.01;  // GPTQ's default; transformers wants one between 0 and 1
    config["lm_head"] =
        std::any_of(layers().begin(), layers().end(), [&](const auto* layer) { return !in_block(layer->name); });
    JsonObject dynamic;  // "+:" quantized in its own way, "-:" not quantized
    for (const rh_format_layer* layer : layers()) {
      const IntScheme scheme = plan().of(*layer);
      // Engines take lm_head and the like only when told.
      if (in_block(layer->name) && scheme == plan().common()) continue;
      dynamic["+:" + exactly(layer->name)] = {
          {"bits", scheme.bits}, {"group_size", scheme.group_size}, {"sym", scheme.symmetric}};
    }
    const auto unquantized = unquantized_in_blocks();
    for (const auto& name : unquantized) dynamic["-:" + exactly(name)] = Json::object();
    add_fused(dynamic);
    if (!dynamic.empty()) config["dynamic"] = dynamic.take();
    if (!unquantized.empty()) config["modules_in_block_to_quantize"] = Json::array({Json(modules_in_block())});
    return config;
  }

  // vLLM looks for a fused layer by its own name: where all members have the same entry, it has it too.
  static void add_fused(JsonObject& dynamic) {
    for (const std::vector<std::string>& roles : fused_roles()) {
      if (fused_name(roles).empty()) continue;
      const std::string end = exactly("." + roles[0]).substr(1);
      JsonObject added;
      for (const auto& [rule, fields] : dynamic.members()) {
        if (!rule.ends_with(end)) continue;
        const std::string parent = rule.substr(0, rule.size() - end.size());
        const auto same = [&, &fields = fields](const std::string& role) {
          const Json* other = dynamic.find(parent + exactly("." + role).substr(1));
          return other && *other == fields;
        };
        if (std::all_of(roles.begin(), roles.end(), same))
          added[parent + exactly("." + fused_name(roles)).substr(1)] = fields;
      }
      for (const auto& [rule, fields] : added.members()) dynamic[rule] = fields;
    }
  }

  // The quantized layers' names inside a block ("mlp.down_proj"), each once.
  std::set<std::string> modules_in_block() const {
    std::set<std::string> names;
    for (const rh_format_layer* layer : layers()) {
      const std::string name = layer->name;
      if (!in_block(name)) continue;
      const size_t index = block_prefix().size() + 1;  // "model.layers." is followed by the block's number
      names.insert(name.substr(name.find('.', index) + 1));
    }
    return names;
  }
};

IntLayout layout_of(const Json& quantization) {
  return text_at(quantization, "checkpoint_format", "gptq") == "gptq_v2" ? IntLayout::kDirect : IntLayout::kMinusOne;
}

// What GPTQModel and vLLM take from the configuration for a module.
class ModuleRules {
 public:
  explicit ModuleRules(const Json& quantization)
      : quantization_(quantization), in_block_(texts_at(quantization, "modules_in_block_to_quantize")) {
    const auto dynamic = quantization.find("dynamic");
    if (dynamic == quantization.end() || !dynamic->is_object()) return;
    for (const auto& [rule, fields] : dynamic->items()) {
      const bool excludes = rule.starts_with("-:");
      const std::string pattern = excludes || rule.starts_with("+:") ? rule.substr(2) : rule;
      const std::string name = exact_name(pattern);
      try {
        if (name.empty()) patterns_.emplace_back(Pattern(pattern), rules_.size());
      } catch (const rh::Error&) {
        broken_.push_back(rule);
        continue;
      }
      if (!name.empty()) names_.emplace(name, rules_.size());
      rules_.push_back({excludes, rule, fields.is_object() ? fields : Json::object()});
    }
  }

  const std::vector<std::string>& broken() const { return broken_; }

  Said of(const std::string& module) const { return of(module, module); }
  // Of a layer that vLLM fuses, which it looks up in `dynamic` by its own name and else by a member's.
  Said of(const std::string& module, const std::string& member) const {
    const Rule* rule = find(module);
    if (rule && rule->excludes) return {false, cat("`dynamic` excludes it by ", rule->text)};
    const bool named = rule != nullptr;
    const bool head = member.substr(member.rfind('.') + 1) == "lm_head";
    if (head && !flag_at(quantization_, "lm_head", false)) return {false, "`lm_head` is not true"};
    const auto listed = [&](const std::string& part) { return member.find(part) != std::string::npos; };
    if (!head && !named && !in_block_.empty() && std::none_of(in_block_.begin(), in_block_.end(), listed))
      return {false, "`modules_in_block_to_quantize` does not name it"};
    const Json& fields = named ? rule->fields : quantization_;
    Said said = int_said(static_cast<int>(number_at(fields, "bits", number_at(quantization_, "bits", 4))),
                         number_at(fields, "group_size", number_at(quantization_, "group_size", -1)),
                         flag_at(fields, "sym", flag_at(quantization_, "sym", true)));
    said.allows = {"g_idx"};
    said.named = head;
    said.why = head ? "`lm_head` is true" : "no entry of `dynamic` excludes it";
    return said;
  }

 private:
  struct Rule {
    bool excludes;
    std::string text;
    Json fields;
  };

  // The first that matches; nullptr when there is none.
  const Rule* find(const std::string& module) const {
    const auto name = names_.find(module);
    size_t first = name == names_.end() ? rules_.size() : name->second;
    for (const auto& [pattern, index] : patterns_) {
      if (index > first) break;
      if (pattern.begins(module)) first = index;
    }
    return first < rules_.size() ? &rules_[first] : nullptr;
  }

  const Json& quantization_;
  const std::vector<std::string> in_block_;
  std::vector<Rule> rules_;
  std::unordered_map<std::string, size_t> names_;     // rules for one name each, which lists of layers have
  std::vector<std::pair<Pattern, size_t>> patterns_;  // the others
  std::vector<std::string> broken_;
};

class AutoGptq : public rh::Format, public rh::Linter {
 public:
  AutoGptq()
      : Format("auto_gptq", "GPTQ checkpoints: 2, 3, 4 and 8 bit integers.", {RH_ENCODING_AFFINE_INT}, "{}",
               {{"gptq", "{}"}}) {}

  void check(const rh_format_layer& layer, const char*) const override { check_int_layer(layer, {2, 3, 4, 8}); }
  void plan(const rh_plan& plan, std::vector<rh::Answer>& answers) const override {
    IntPlan ints(plan);
    check_experts(plan, rh::Experts::kApart, answers);
  }

  const char* backends_json() const override {
    static const std::string backends = with_fuses(R"([
      {"engine": "transformers with auto-round", "devices": ["cpu", "cuda"], "bits": [2, 3, 4, 8], "sym": [true],
       "packing": "gptq", "priority": 0},
      {"engine": "transformers with auto-round and auto-round-lib", "devices": ["cpu"], "bits": [2, 4, 8],
       "sym": [true, false], "packing": "gptq", "priority": 1},
      {"engine": "transformers with gptqmodel", "devices": ["cpu", "cuda"], "bits": [2, 3, 4, 8], "sym": [true, false],
       "packing": "gptq", "priority": 1},
      {"engine": "vllm", "devices": ["cuda"], "bits": [4, 8], "sym": [true], "packing": "gptq",
       "priority": 2, "command": "vllm serve {folder}"},
      {"engine": "vllm", "devices": ["cpu"], "bits": [4], "sym": [true], "packing": "gptq",
       "priority": 2, "command": "vllm serve {folder}"}])");
    return backends.c_str();
  }

  const rh::Linter* linter() const override { return this; }
  std::vector<rh::Finding> lint(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder), quantization = own_quantization(folder);
    Findings findings;
    if (!config.contains("quantization_config"))
      findings.error(kTransformers, "config.json",
                     "quantization_config is missing, and transformers does not read quantize_config.json",
                     "Copy what that holds to it, with \"quant_method\": \"gptq\"");
    require_key(findings, quantization, kEvery, "bits", "a number");
    require_key(findings, quantization, kEvery, "group_size", "a number");
    require_key(findings, quantization, kEvery, "desc_act", "true or false");
    if (quantization.contains("sym")) require_key(findings, quantization, kEvery, "sym", "true or false");
    const ModuleRules rules(quantization);
    for (const std::string& rule : rules.broken())
      findings.error(kEvery, "config.json", cat("quantization_config.dynamic: ", rule, " is no regular expression"),
                     "Correct it");
    if (!findings.any_error())
      lint_modules({.source = source,
                    .config = config,
                    .advice = "Add \"-:\" and a regular expression for it to `dynamic`",
                    .said = [&](const std::string& module) { return rules.of(module); },
                    .said_of_fused = [&](const std::string& fused,
                                         const std::string& member) { return rules.of(fused, member); },
                    .make = int_layer_maker(folder, config, quantization, layout_of(quantization))},
                   findings);
    if (config.contains("quantization_config"))
      require_key(findings, quantization, kTransformers, "quant_method", "a text");
    return findings.take();
  }

  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<GptqWriter>(target);
  }
  bool resumes() const override { return true; }

  int32_t probe(const std::string& folder) const override { return own_quantization(folder).empty() ? 0 : 100; }

  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder);
    const Json quantization = own_quantization(folder);
    rh::require(!quantization.empty(),
                folder + "/config.json: quant_method is not gptq, so this is no GPTQ checkpoint");
    const std::string form = text_at(quantization, "checkpoint_format", "gptq");
    rh::require(
        form == "gptq" || form == "gptq_v2",
        cat(folder, "/config.json: checkpoint_format ", form,
            " is not read; gptq and gptq_v2 are. GPTQModel converts it: load it, and save it with format=\"gptq\""));
    return int_reader(folder, config, quantization, layout_of(quantization));
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<AutoGptq>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "auto_gptq", "Roundhouse", "0.1.0", "Writes and reads GPTQ checkpoints.")

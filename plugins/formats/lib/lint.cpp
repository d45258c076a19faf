// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/lib/lint.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <roundhouse/encoding/affine_int.hpp>
#include <set>

#include "plugins/formats/lib/pattern.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kConfig = "config.json";
constexpr const char* kExportAgain = "Export the model again";

std::string parent_of(const std::string& name) { return name.substr(0, name.rfind('.')); }
std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

bool is_embedding(const std::string& module) {
  const std::string part = last_part(module);
  return part.find("embed") != std::string::npos || part == "wte" || part == "wpe" || part == "shared";
}

// Engines keep them as they are, whatever the configuration says.
bool is_router(const std::string& module) {
  const std::string part = last_part(module);
  return part == "gate" || part == "router" || part == "shared_expert_gate";
}

std::string groups_text(int bits, int64_t group_size) {
  return cat(bits, " bits in ", group_size > 0 ? cat("groups of ", group_size) : std::string("one group a row"));
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) text += cat(i == 0 ? "" : i + 1 < names.size() ? ", " : " and ", names[i]);
  return text;
}

// A safetensors file's names, from its header.
std::vector<std::string> names_in(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  uint64_t size = 0;
  std::error_code ignored;
  if (!stream.read(reinterpret_cast<char*>(&size), sizeof size) || size > fs::file_size(file, ignored)) return {};
  std::string header(size, '\0');
  if (!stream.read(header.data(), static_cast<std::streamsize>(size))) return {};
  const Json parsed = Json::parse(header, nullptr, /*allow_exceptions=*/false);
  std::vector<std::string> names;
  if (parsed.is_object())
    for (const auto& [name, about] : parsed.items())
      if (name != "__metadata__") names.push_back(name);
  return names;
}

class Linter {
 public:
  Linter(const Lint& lint, Findings& findings)
      : lint_(lint), findings_(findings), folder_(lint.source.path), tensors_(folder_) {
    const Json architecture = Json::parse(lint.source.architecture_json, nullptr, /*allow_exceptions=*/false);
    if (architecture.is_object()) {
      block_prefix_ = text_at(architecture, "block_prefix");
      head_ = text_at(architecture, "head", "lm_head");
    }
    modules_ = stored_modules(tensors_);
  }

  void run() {
    check_family();
    check_files();
    check_index();
    for (const auto& [name, tensors] : modules_) check_module(name, tensors);
    if (lint_.fuses) check_fused();
    check_head();
    check_blocks();
  }

 private:
  bool in_block(const std::string& module) const {
    if (!block_prefix_.empty()) return module.starts_with(block_prefix_ + ".");
    static const Pattern pattern(R"((^|\.)(layers|blocks|h)\.\d+\.)");
    return pattern.found_in(module);
  }
  static bool is_linear(const LayerReader::Tensors& tensors) {
    const rh_tensor* weight = find(tensors, "weight");
    return weight && weight->ndim == 2;
  }

  void check_module(const std::string& name, const LayerReader::Tensors& tensors) {
    const Said said = lint_.said(name);
    const auto error = [&](const std::string& what, const std::string& advice) {
      findings_.add(RH_FINDING_ERROR, kEvery, "", name, what, advice);
    };
    if (!is_packed(tensors)) {
      for (const auto& [part, tensor] : tensors)
        if (part != "weight")
          return error(cat("its ", part, " belongs to no packed weight, and engines know no tensor of that name"),
                       kExportAgain);
      const bool head = name == head_ && lint_.wants_head;
      if (!said.quantized || !is_linear(tensors) || (is_embedding(name) && name != head_)) return;
      if (!head && !said.named && !in_block(name)) return;
      const bool warning = is_router(name) && !lint_.wants_head;
      findings_.add(warning ? RH_FINDING_WARNING : RH_FINDING_ERROR, head ? kTransformers : kEvery, kConfig, name,
                    cat("its weight is stored as it is, but ", said.why, ": an engine looks for a packed one"),
                    lint_.advice);
      return;
    }
    if (!said.quantized) {
      findings_.add(RH_FINDING_ERROR, kEvery, kConfig, name,
                    cat("its weight is packed, but ", said.why, ": an engine looks for a plain one"),
                    "Let the configuration say how it is packed");
      return;
    }
    if (!said.refused.empty())
      findings_.add(RH_FINDING_ERROR, kTransformers, kConfig, name, cat(said.refused, ": no kernel takes that"),
                    "Correct the configuration");
    if (check_parts(name, tensors, said)) check_values(name, tensors, said);
  }

  // Whether all that the scheme wants is there, and nothing else.
  bool check_parts(const std::string& name, const LayerReader::Tensors& tensors, const Said& said) {
    std::set<std::string> known(said.allows.begin(), said.allows.end());
    bool whole = true;
    for (const std::string& need : said.needs) {
      const size_t bar = need.find('|');
      const std::string first = need.substr(0, bar), second = bar == std::string::npos ? first : need.substr(bar + 1);
      known.insert({first, second});
      if (tensors.contains(first) || tensors.contains(second)) continue;
      whole = false;
      findings_.add(RH_FINDING_ERROR, kEvery, "", name, cat("its ", first, " is missing (", said.scheme, ")"),
                    kExportAgain);
    }
    for (const auto& [part, tensor] : tensors) {
      if (known.contains(part)) continue;
      whole = false;
      findings_.add(RH_FINDING_ERROR, kEvery, "", name,
                    cat("its ", part, " is left over: ", said.scheme, " has no such tensor, and an engine refuses it"),
                    kExportAgain);
    }
    return whole;
  }

  void check_values(const std::string& name, const LayerReader::Tensors& tensors, const Said& said) {
    std::unique_ptr<StoredLayer> layer;
    try {
      layer = lint_.make(name, tensors);
    } catch (const rh::Error& e) {
      const std::string what = e.what();
      const std::string prefix = name + ": ";
      findings_.add(RH_FINDING_ERROR, kEvery, kConfig, name,
                    cat("its tensors do not fit ", said.scheme, ": ",
                        what.starts_with(prefix) ? what.substr(prefix.size()) : what),
                    "Correct the configuration, or export the model again");
      return;
    }
    if (said.bits == 0) return;
    rh_item item{};
    item.struct_size = sizeof item;
    layer->describe(item);
    const auto made = rh::AffineInt::of(*item.encoding);
    const bool row = made.group_cols >= layer->cols();
    const bool same_group =
        said.group_size == made.group_cols || (row && (said.group_size <= 0 || said.group_size >= layer->cols()));
    if (made.bits != said.bits || (!same_group && !made.group_index)) {
      findings_.add(
          RH_FINDING_ERROR, kEvery, kConfig, name,
          cat("it says ", said.scheme, ", and the tensors hold ", groups_text(made.bits, row ? -1 : made.group_cols)),
          "Correct the configuration, or export the model again");
    } else if (said.symmetric && !made.symmetric) {
      for (const char* engine : {kVllm, kSglang})
        findings_.add(RH_FINDING_ERROR, engine, kConfig, name,
                      "`sym` is true, and its zero points are not those of a symmetric layer: kernels do not read them",
                      "Set `sym` to false");
    }
  }

  // Members of a group, by the name of the module that they lie in.
  void check_fused() {
    for (const std::vector<std::string>& roles : fused_roles()) {
      std::set<std::string> parents;
      for (const auto& [name, tensors] : modules_)
        if (name.find('.') != std::string::npos && last_part(name) == roles[0]) parents.insert(parent_of(name));
      for (const std::string& parent : parents) {
        std::vector<std::string> members;
        for (const std::string& role : roles) {
          const auto found = modules_.find(cat(parent, ".", role));
          if (found != modules_.end() && (is_packed(found->second) || is_linear(found->second)))
            members.push_back(role);
        }
        if (members.size() > 1) check_group(parent, members, fused_name(roles));
      }
    }
  }

  void check_group(const std::string& parent, const std::vector<std::string>& members, const std::string& fused) {
    const auto tensors_of = [&](const std::string& role) -> const LayerReader::Tensors& {
      return modules_.at(cat(parent, ".", role));
    };
    const auto tell = [&](int32_t severity, const std::string& what, const std::string& advice) {
      for (const char* engine : {kVllm, kSglang})
        findings_.add(severity, engine, "", parent, cat("the engine fuses ", listed(members), ", ", what), advice);
    };
    const auto name = [](const Said& said) { return said.quantized ? said.scheme : std::string("a plain weight"); };
    std::vector<std::string> packed;
    std::set<std::string> schemes;
    for (const std::string& role : members) {
      if (is_packed(tensors_of(role))) packed.push_back(role);
      schemes.insert(name(lint_.said(cat(parent, ".", role))));
    }
    if (lint_.said_of_fused && !fused.empty() && schemes.size() == 1) {
      const std::string member = cat(parent, ".", members[0]);
      const Said found = lint_.said_of_fused(cat(parent, ".", fused), member), wanted = lint_.said(member);
      if (name(found) != name(wanted))
        findings_.add(RH_FINDING_ERROR, kVllm, kConfig, parent,
                      cat("the engine fuses ", listed(members), ", looks for ", fused, " alone, and takes ",
                          name(found), " for ", name(wanted)),
                      cat("Let `dynamic` have the same entry for ", fused));
    }
    if (packed.empty()) return;
    if (packed.size() < members.size())
      return tell(RH_FINDING_ERROR, cat("and only ", listed(packed), packed.size() == 1 ? " is" : " are", " packed"),
                  "Quantize them alike, or none of them");
    if (schemes.size() > 1)
      return tell(RH_FINDING_ERROR,
                  cat("and they are packed in ", schemes.size(), " ways: ", listed({schemes.begin(), schemes.end()})),
                  "Quantize them alike");
    for (const char* part : {"weight_global_scale", "input_global_scale"}) {
      std::set<float> values;
      for (const std::string& role : members) {
        const rh_tensor* scale = find(tensors_of(role), part);
        if (scale && rh::elements(*scale) == 1) values.insert(rh_load(scale, 0));
      }
      if (values.size() > 1)
        tell(RH_FINDING_WARNING, cat("and takes one ", part, " for all, of ", values.size(), " that differ"),
             "Let them share it: the data type nv_fp does");
    }
  }

  // Engines drop what is stored of blocks that the configuration does not count, but for those that predict more tokens.
  void check_blocks() {
    const auto inner = lint_.config.find("text_config");
    const Json& config = inner != lint_.config.end() && inner->is_object() ? *inner : lint_.config;
    const int64_t blocks = number_at(config, "num_hidden_layers", 0);
    if (blocks <= 0 || block_prefix_.empty() || number_at(config, "num_nextn_predict_layers", 0) > 0) return;
    const std::string prefix = block_prefix_ + ".";
    int64_t last = -1;
    for (const auto& [name, tensors] : modules_)
      if (name.starts_with(prefix)) last = std::max(last, number_in_front(name.substr(prefix.size())));
    if (last >= blocks)
      findings_.add(RH_FINDING_ERROR, kEvery, kConfig, "",
                    cat("num_hidden_layers is ", blocks, ", and block ", last, " is stored: an engine leaves it out"),
                    cat("Set it to ", last + 1));
  }

  // By which engines choose the classes of the model.
  void check_family() {
    if (text_at(lint_.config, "model_type").empty())
      findings_.error(kEvery, kConfig, "model_type is missing: an engine cannot tell the model's family",
                      "Copy it from the original's config.json");
    for (const char* engine : {kVllm, kSglang})
      if (texts_at(lint_.config, "architectures").empty())
        findings_.error(engine, kConfig, "architectures is missing: it names the class of the model",
                        "Copy it from the original's config.json");
  }

  // No file of weights is there that some engine loads and others do not.
  void check_files() {
    if (fs::exists(folder_ / "adapter_config.json"))
      findings_.add(RH_FINDING_WARNING, kTransformers, "adapter_config.json", "",
                    "with the package peft, transformers takes the folder for an adapter of the model that this names",
                    "Remove it");
    if (!fs::exists(folder_ / kSingle)) return;
    std::set<std::string> indexed{kSingle};
    std::ifstream file(folder_ / kIndex);
    const Json index = file ? Json::parse(file, nullptr, /*allow_exceptions=*/false) : Json();
    if (const auto map = index.find("weight_map"); index.is_object() && map != index.end() && map->is_object()) {
      indexed.clear();
      for (const auto& [name, shard] : map->items())
        if (shard.is_string()) indexed.insert(shard.get<std::string>());
    }
    if (!indexed.contains(kSingle))
      return findings_.error(
          kEvery, kIndex,
          cat("it does not name ", kSingle, ": transformers loads that alone, and others what it names"),
          "Remove the one that does not belong to the checkpoint");
    if (file) return;  // others heed the index
    std::set<std::string> others;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      const std::string name = entry.path().filename();
      const bool mistral = name.starts_with("consolidated");  // the same weights, for a loader of its own
      if (name.ends_with(".safetensors") && name != kSingle && !mistral) others.insert(name);
    }
    for (const std::string& other : others)
      for (const char* engine : {kVllm, kSglang})
        findings_.error(engine, other, cat("no index leaves it out, so that it is loaded beside ", kSingle),
                        "Remove it");
  }

  // Every tensor has the file that the index says.
  void check_index() {
    std::ifstream file(folder_ / kIndex);
    if (!file || fs::exists(folder_ / kSingle)) return;
    const Json index = Json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) return;
    const Json& map = index["weight_map"];
    std::set<std::string> shards;
    for (const auto& [name, shard] : map.items())
      if (shard.is_string()) shards.insert(shard.get<std::string>());
    for (const std::string& shard : shards)
      for (const std::string& name : names_in(folder_ / shard)) {
        const std::string said = text_at(map, name.c_str());
        if (said == shard) continue;
        findings_.add(RH_FINDING_ERROR, kTransformers, kIndex, name,
                      said.empty() ? cat("it is in ", shard, ", and the index does not name it")
                                   : cat("it is in ", shard, ", and the index places it in ", said),
                      "Correct the index");
      }
  }

  void check_head() {
    const Json text = lint_.config.value("text_config", Json());
    const Json& holder = lint_.config.contains("tie_word_embeddings") || !text.is_object() ? lint_.config : text;
    const auto key = holder.find("tie_word_embeddings");
    const auto head = modules_.find(head_);
    const bool stored = head != modules_.end() && (is_packed(head->second) || is_linear(head->second));
    if (key == holder.end() || !key->is_boolean()) return;
    if (!key->get<bool>()) {
      if (!stored)
        findings_.error(kEvery, kConfig, cat("tie_word_embeddings is false, and the checkpoint has no ", head_),
                        "Set it to true if the embedding is the output head, else export the model again");
      return;
    }
    if (!stored) return;
    const std::string ties = cat("tie_word_embeddings is true, and ", head_, " is stored ");
    if (is_packed(head->second))
      return findings_.error(kEvery, kConfig, ties + "packed: engines take the embedding instead", "Set it to false");
    const rh_tensor* weight = find(head->second, "weight");
    for (const auto& [name, tensors] : modules_) {
      const rh_tensor* embedding = find(tensors, "weight");
      if (!name.ends_with("embed_tokens") || !embedding || is_packed(tensors)) continue;
      const bool same = rh::bytes(*embedding) == rh::bytes(*weight) &&
                        std::memcmp(embedding->data, weight->data, rh::bytes(*weight)) == 0;
      if (!same)
        findings_.error(kEvery, kConfig, cat(ties, "with other values than ", name, ": engines take those instead"),
                        "Set it to false");
      return;
    }
  }

  const Lint& lint_;
  Findings& findings_;
  const fs::path folder_;
  const TensorReader tensors_;
  std::string block_prefix_, head_ = "lm_head";
  std::map<std::string, LayerReader::Tensors> modules_;
};

}  // namespace

const std::vector<std::vector<std::string>>& fused_roles() {
  static const std::vector<std::vector<std::string>> roles{
      {"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}, {"w1", "w3"}};
  return roles;
}

std::string fused_name(const std::vector<std::string>& roles) {
  return roles[0] == "q_proj" ? "qkv_proj" : roles[0] == "gate_proj" ? "gate_up_proj" : "";
}

std::string with_fuses(const char* backends) {
  Json all = Json::parse(backends);
  for (Json& backend : all)
    if (const std::string engine = text_at(backend, "engine"); engine == kVllm || engine == kSglang)
      backend["fuses"] = fused_roles();
  return all.dump();
}

void Findings::add(int32_t severity, const char* engine, const std::string& file, const std::string& module,
                   const std::string& what, const std::string& advice) {
  for (Kind& kind : kinds_) {
    const rh::Finding& f = kind.finding;
    if (f.severity != severity || f.engine != engine || f.file != file || f.message != what || f.advice != advice)
      continue;
    ++kind.others;
    return;
  }
  kinds_.push_back({{severity, engine, file, what, advice}, module});
}

bool Findings::any_error() const {
  return std::any_of(kinds_.begin(), kinds_.end(),
                     [](const Kind& kind) { return kind.finding.severity == RH_FINDING_ERROR; });
}

std::vector<rh::Finding> Findings::take() const {
  std::vector<rh::Finding> out;
  for (const Kind& kind : kinds_) {
    out.push_back(kind.finding);
    if (kind.module.empty()) continue;
    const std::string others =
        kind.others == 0 ? "" : cat(" (and ", kind.others, kind.others == 1 ? " other)" : " others)");
    out.back().message = cat(kind.module, others, ": ", kind.finding.message);
  }
  return out;
}

void require_key(Findings& findings, const Json& json, const char* engine, const std::string& key, const char* type,
                 const std::string& path) {
  const auto found = json.find(key);
  const std::string wanted = type;
  const std::string where = cat(path, ".", key);
  if (found == json.end()) {
    findings.error(engine, kConfig, cat(where, " is missing"), cat("It is ", wanted));
    return;
  }
  const bool right = wanted == "a number"        ? found->is_number_integer()
                     : wanted == "a text"        ? found->is_string()
                     : wanted == "true or false" ? found->is_boolean()
                     : wanted == "a list"        ? found->is_array()
                                                 : found->is_object();
  if (!right) findings.error(engine, kConfig, cat(where, " is ", found->dump().substr(0, 60)), cat("It is ", wanted));
}

void lint_modules(const Lint& lint, Findings& findings) { Linter(lint, findings).run(); }

int64_t number_at(const Json& json, const char* key, int64_t otherwise) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

bool flag_at(const Json& json, const char* key, bool otherwise) {
  const auto found = json.find(key);
  return found != json.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

std::vector<std::string> texts_at(const Json& json, const char* key) {
  std::vector<std::string> texts;
  const std::function<void(const Json&)> add = [&](const Json& value) {
    if (value.is_string()) texts.push_back(value.get<std::string>());
    if (value.is_array())
      for (const Json& item : value) add(item);
  };
  if (const auto found = json.find(key); found != json.end()) add(*found);
  return texts;
}

Said int_said(int bits, int64_t group_size, bool symmetric) {
  return {true,
          "",
          cat(groups_text(bits, group_size), symmetric ? ", symmetric" : ", asymmetric"),
          {"qweight", "qzeros", "scales"},
          {},
          bits,
          group_size,
          symmetric};
}

int64_t number_in_front(const std::string& text) {
  uint32_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + std::min(text.find('.'), text.size()), number);
  return error == std::errc() ? int64_t{number} : -1;
}

}  // namespace roundhouse::formats

// SPDX-License-Identifier: Apache-2.0
#include "host/model/architecture.h"

#include <algorithm>
#include <set>

#include "host/model/experts_info.h"
#include "host/model/resolve.h"

namespace roundhouse {
namespace {

void append(std::vector<std::string>& names, const LinearInfo& linear) {
  names.push_back(linear.name + ".weight");
  if (linear.has_bias) names.push_back(linear.name + ".bias");
}

void append(std::vector<std::string>& names, const NormInfo& norm) {
  if (norm.has_weight) names.push_back(norm.name + ".weight");
  if (norm.has_bias) names.push_back(norm.name + ".bias");
}

// One for all, as a descriptor has it.
NormInfo any_norm(const DecoderInfo& info) {
  if (info.final_norm) return *info.final_norm;
  for (const BlockInfo& block : info.blocks)
    for (const StepInfo& step : block.steps)
      for (const auto& norm : {step.norm_in, step.norm_out, step.norm_sum})
        if (norm) return *norm;
  return {};
}

// The keys of config.json that a value of a descriptor refers to.
void add_keys(const nlohmann::json& value, std::vector<std::string>& keys) {
  if (!value.is_structured()) return;
  if (!value.is_object() || !value.contains("key")) {
    for (const nlohmann::json& part : value) add_keys(part, keys);
  } else if (const nlohmann::json& names = value.at("key"); names.is_array()) {
    for (const nlohmann::json& name : names) keys.push_back(name.get<std::string>());
  } else {
    keys.push_back(names.get<std::string>());
  }
}

// Its first name in descriptors.
const char* name_of(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return "silu";
    case Activation::kGelu:
      return "gelu";
    case Activation::kGeluTanh:
      return "gelu_new";
    case Activation::kRelu:
      return "relu";
    case Activation::kSquaredRelu:
      return "relu2";
    case Activation::kXielu:
      return "xielu";
    default:
      return "";
  }
}

template <typename T>
nlohmann::json or_null(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

nlohmann::json to_json(const RotaryInfo& rotary) {
  using Scaling = RotaryInfo::Scaling;
  const char* scaling = rotary.scaling == Scaling::kProportional ? "proportional"
                        : rotary.scaling == Scaling::kLongrope   ? "longrope"
                        : rotary.scaling == Scaling::kYarn       ? "yarn"
                        : rotary.scaling == Scaling::kLlama3     ? "llama3"
                        : rotary.scaling == Scaling::kLinear     ? "linear"
                                                                 : "none";
  return {{"dims", rotary.dims},
          {"theta", rotary.theta},
          {"scaling", scaling},
          {"factor", rotary.factor},
          {"low_freq_factor", rotary.low_freq_factor},
          {"high_freq_factor", rotary.high_freq_factor},
          {"beta_fast", rotary.beta_fast},
          {"beta_slow", rotary.beta_slow},
          {"truncate", rotary.truncate},
          {"interleaved", rotary.interleaved},
          {"attention_factor", rotary.attention_factor},
          {"turning", rotary.turning},
          {"original_positions", rotary.original_positions},
          {"short_factors", rotary.short_factors},
          {"long_factors", rotary.long_factors}};
}

nlohmann::json to_json(const LatentInfo& latent) {
  return {{"rank", latent.rank},
          {"q_rank", latent.q_a ? latent.q_a->out_features : 0},
          {"nope", latent.nope},
          {"rope", latent.rope},
          {"value", latent.value}};
}

nlohmann::json to_json(const RecurrentInfo& recurrent) {
  using Kind = RecurrentInfo::Kind;
  return {{"kind", recurrent.kind == Kind::kShortConv   ? "short_conv"
                   : recurrent.kind == Kind::kDeltaRule ? "delta_rule"
                                                        : "mamba2"},
          {"kernel", recurrent.conv.kernel},
          {"heads", recurrent.heads},
          {"head_dim", recurrent.head_dim},
          {"key_heads", recurrent.key_heads},
          {"key_dim", recurrent.key_dim},
          {"activation", name_of(recurrent.activation)},
          {"norm", recurrent.norm.has_value()},
          {"norm_before_gate", recurrent.norm_before_gate},
          {"dt_min", recurrent.dt_min},
          {"dt_max", or_null(recurrent.dt_max)},
          {"scaled", recurrent.input_scale != 1 || std::any_of(recurrent.scales.begin(), recurrent.scales.end(),
                                                               [](double scale) { return scale != 1; })}};
}

// What a block has; 0 and false: it has none.
nlohmann::json to_json(const BlockInfo& block) {
  nlohmann::json parts{{"heads", 0},        {"kv_heads", 0},    {"head_dim", 0},      {"rotary", false},
                       {"intermediate", 0}, {"experts", false}, {"recurrent", false}, {"shared_kv", false}};
  for (const StepInfo& step : block.steps) {
    if (step.recurrent) parts["recurrent"] = true;
    if (const auto& attention = step.attention) {
      parts["heads"] = attention->heads;
      parts["kv_heads"] = attention->kv_heads;
      parts["head_dim"] = attention->head_dim;
      parts["rotary"] = attention->rotary.has_value();
      parts["shared_kv"] = attention->kv_from.has_value();
    }
    if (step.mlp) parts["intermediate"] = step.mlp->down.in_features;
    if (step.experts) parts["experts"] = true;
  }
  return parts;
}

bool has_experts(const BlockInfo& block) {
  return std::any_of(block.steps.begin(), block.steps.end(), [](const StepInfo& step) { return step.experts; });
}

nlohmann::json to_json(const ExpertsInfo& experts, const DecoderInfo& info) {
  using Scores = RouterInfo::Scores;
  const RouterInfo& router = experts.router;
  const auto dense = std::find_if(info.blocks.begin(), info.blocks.end(), has_experts) - info.blocks.begin();
  return {{"count", experts.experts.size()},
          {"used", router.top_k},
          {"intermediate", experts.experts[0].up.out_features},
          {"shared_intermediate", experts.shared ? experts.shared->down.in_features : 0},
          {"dense_first_blocks", dense},
          {"scores", router.scores == Scores::kSigmoid   ? "sigmoid"
                     : router.scores == Scores::kSoftmax ? "softmax"
                                                         : "sparsemixer"},
          {"normalize", router.normalize},
          {"scale", router.scale},
          {"groups", router.groups},
          {"top_groups", router.top_groups},
          {"by_best_two", router.by_best_two},
          {"weighs_inputs", router.weigh_inputs},
          {"limit", experts.experts[0].clamped ? nlohmann::json(experts.experts[0].clamped->limit) : nlohmann::json()},
          {"alpha", experts.experts[0].clamped ? nlohmann::json(experts.experts[0].clamped->alpha) : nlohmann::json()},
          {"latent", experts.latent_in ? experts.latent_in->out_features : 0}};
}

template <typename Info>
void append(std::vector<std::string>& names, const std::optional<Info>& info) {
  if (info) append(names, *info);
}

// The map under `names` to which the descriptor's imatrix_names leads, without what is no name.
std::map<std::string, std::string> read_imatrix_names(const Value& root) {
  std::map<std::string, std::string> names;
  const auto keys = root.find("imatrix_names");
  if (!keys) return names;
  Value table = root.at("names");
  for (const Value& key : keys->items()) table = table.at(key.text());
  for (const auto& [module, name] : table.members())
    if (name.is_text()) names.emplace(module, name.text());
  return names;
}

}  // namespace

Architecture Architecture::load(const std::filesystem::path& model_dir,
                                const std::vector<std::filesystem::path>& descriptor_dirs, const FamilyChoice& choice) {
  Architecture architecture;
  architecture.descriptor_ = std::make_shared<const Descriptor>(find_descriptor(model_dir, descriptor_dirs, choice));
  const Descriptor& descriptor = *architecture.descriptor_;
  architecture.config_ = descriptor.config;
  if (is_generic(descriptor)) {
    architecture.generic_.emplace();
    architecture.info_.family = Value(descriptor).at("family").text();
    return architecture;
  }
  architecture.resolve_names(descriptor);
  return architecture;
}

void Architecture::resolve_names(const Descriptor& descriptor) {
  info_ = resolve(descriptor);
  if (untied_) info_.tied_head = false;
  imatrix_names_ = read_imatrix_names(Value(descriptor));
  const auto names = Value(descriptor).find("names");
  names_ = names ? names->resolved() : nlohmann::json::object();
}

std::vector<StackedTensor> Architecture::stacks(TensorSource& source) const {
  return generic_ ? find_stacks(*descriptor_, source) : find_stacks(info_, source);
}

void Architecture::match(TensorSource& source) {
  if (!generic_) {
    for (const nlohmann::json& spelling : descriptor_->spellings) {
      Descriptor descriptor = *descriptor_;
      descriptor.yaml = spelling;
      if (!source.contains(resolve(descriptor).embedding + ".weight")) continue;
      resolve_names(descriptor);
      break;
    }
    return;
  }
  generic_ = read_generic(*descriptor_, source);
  info_.block_prefix = generic_->block_prefix;
  info_.head = generic_->head;
  info_.tied_head = !generic_->head_is_stored;
  imatrix_names_ = generic_->imatrix_names;
  if (!generic_->modules.empty()) names_["modules"] = generic_->modules;
}

nlohmann::json Architecture::facts() const {
  if (generic_ && info_.head.name.empty()) return nlohmann::json::object();
  nlohmann::json windows = nlohmann::json::array();
  nlohmann::json parts = nlohmann::json::array();
  AttentionInfo attention;  // the last: what is told of it is the same in all blocks
  std::optional<RecurrentInfo> recurrent;
  std::optional<RotaryInfo> rotary;   // of attention without a window; its heads may have a size of their own
  std::set<std::string> activations;  // of MLPs and experts
  double residual_scale = 1;
  bool parallel = false, chunked = false;
  for (const BlockInfo& block : info_.blocks) {
    windows.push_back(nullptr);
    parts.push_back(to_json(block));
    for (const StepInfo& step : block.steps) {
      if (step.recurrent) recurrent = step.recurrent;
      if (step.mlp) activations.insert(name_of(step.mlp->activation));
      if (step.experts && !step.experts->experts[0].clamped)
        activations.insert(name_of(step.experts->experts[0].activation));
      residual_scale = step.scale;
      parallel = parallel || (step.attention && step.mlp);
      if (!step.attention) continue;
      attention = *step.attention;
      chunked = chunked || attention.chunked;
      if (attention.sliding_window)
        windows.back() = *attention.sliding_window;
      else if (!rotary)
        rotary = attention.rotary;
    }
  }
  const NormInfo norm = any_norm(info_);
  if (!rotary) rotary = info_.rotary ? info_.rotary : info_.window_rotary;
  nlohmann::json facts = {
      {"family", info_.family},
      {"vocab", info_.vocab},
      {"hidden", info_.hidden},
      {"intermediate", info_.intermediate},
      {"blocks", blocks()},
      {"positions", info_.positions},
      {"heads", info_.heads},
      {"kv_heads", info_.kv_heads},
      {"head_dim", info_.head_dim},
      {"norm", norm.kind == NormKind::kRms ? "rms" : "layer"},
      {"norm_eps", norm.eps},
      {"rotary", rotary ? to_json(*rotary) : nlohmann::json()},
      {"window_rotary", info_.window_rotary ? to_json(*info_.window_rotary) : nlohmann::json()},
      {"parallel", parallel},
      {"activations", activations},
      {"latent", attention.latent ? to_json(*attention.latent) : nlohmann::json()},
      {"recurrent", recurrent ? to_json(*recurrent) : nlohmann::json()},
      {"parts", parts},
      {"attention_scale", or_null(attention.scale)},
      {"attention_softcap", or_null(attention.softcap)},
      {"length_scale", attention.length_scale ? nlohmann::json(attention.length_scale->beta) : nlohmann::json()},
      {"length_scale_positions", attention.length_scale ? attention.length_scale->positions : 0},
      {"embedding_scale", info_.embedding_scale},
      {"residual_scale", residual_scale},
      {"logit_scale", or_null(info_.logit_scale)},
      {"logit_divisor", or_null(info_.logit_divisor)},
      {"logit_softcap", or_null(info_.logit_softcap)},
      {"tied_head", info_.tied_head},
      {"sliding_windows", windows},
      {"chunked_windows", chunked},
      {"layer_input_size", info_.layer_inputs ? info_.layer_inputs->size : 0},
      {"layer_input_vocab", info_.layer_inputs ? info_.layer_inputs->vocab : 0},
      {"block_prefix", block_prefix()},
      {"head", head().name},
      {"names", names_}};
  if (const ExpertsInfo* const experts = first_experts(info_)) facts["experts"] = to_json(*experts, info_);
  return facts;
}

std::vector<LinearInfo> Architecture::block_linears(int64_t block) const {
  if (generic_) return generic_->blocks.at(static_cast<size_t>(block)).linears;
  std::vector<LinearInfo> linears;
  const auto add = [&](const auto& part) {
    if (!part) return;
    for (LinearInfo& linear : part->linears()) linears.push_back(std::move(linear));
  };
  for (const StepInfo& step : info_.blocks.at(static_cast<size_t>(block)).steps) {
    add(step.recurrent);
    add(step.attention);
    add(step.mlp);
    add(step.experts);
    add(step.layer_input);
  }
  return linears;
}

std::vector<LinearInfo> Architecture::outer_linears() const {
  return generic_ ? generic_->outside.linears : std::vector<LinearInfo>();
}

std::vector<std::string> Architecture::block_tensors(int64_t block) const {
  if (generic_) return generic_->blocks.at(static_cast<size_t>(block)).tensors;
  std::vector<std::string> names;
  for (const StepInfo& step : info_.blocks.at(static_cast<size_t>(block)).steps) {
    append(names, step.norm_in);
    append(names, step.norm_mlp);
    if (step.recurrent)
      for (std::string& name : step.recurrent->tensors()) names.push_back(std::move(name));
    if (const auto& attention = step.attention) {
      for (const auto& norm : {attention->q_norm, attention->k_norm, attention->v_norm}) append(names, norm);
      if (attention->latent) {
        append(names, attention->latent->q_norm);
        append(names, attention->latent->kv_norm);
      }
      if (!attention->sinks.empty()) names.push_back(attention->sinks);
    }
    if (step.mlp && step.mlp->activation == Activation::kXielu)
      for (const char* parameter : {"alpha_p", "alpha_n", "beta", "eps"})
        names.push_back(step.mlp->activation_name + "." + parameter);
    if (step.experts)
      for (std::string& name : step.experts->tensors()) names.push_back(std::move(name));
    append(names, step.norm_out);
    append(names, step.norm_sum);
    if (!step.sum_scale.empty()) names.push_back(step.sum_scale);
  }
  for (const LinearInfo& linear : block_linears(block)) append(names, linear);
  return names;
}

bool Architecture::unused(const std::string& tensor) const {
  const std::string module = tensor.substr(0, tensor.rfind('.'));
  const auto has = [&](const StepInfo& step) {
    return step.attention && std::count(step.attention->unused.begin(), step.attention->unused.end(), module) > 0;
  };
  return std::any_of(info_.blocks.begin(), info_.blocks.end(),
                     [&](const BlockInfo& block) { return std::any_of(block.steps.begin(), block.steps.end(), has); });
}

bool Architecture::untie_head() {
  bool said = false;
  untied_ = true;
  info_.tied_head = false;
  const nlohmann::json tied = descriptor_->yaml.at(generic_ ? "weights" : "head").at("tied");
  std::vector<std::string> keys;
  add_keys(tied, keys);
  if (keys.empty()) keys = {"tie_word_embeddings"};
  for (const std::string& name : keys) {
    std::string path = "/" + name;
    std::replace(path.begin(), path.end(), '.', '/');
    const nlohmann::json::json_pointer key(path);
    if (!config_.contains(key.parent_pointer())) continue;
    nlohmann::json& value = config_[key];
    said = said || value == true;
    value = false;
  }
  return said;
}

std::vector<std::string> Architecture::outer_tensors() const {
  if (generic_) return generic_->outside.tensors;
  std::vector<std::string> names{info_.embedding + ".weight"};
  if (info_.learned_positions) names.push_back(info_.learned_positions->name + ".weight");
  if (const auto& inputs = info_.layer_inputs) {
    names.push_back(inputs->table + ".weight");
    append(names, inputs->projection);
    append(names, inputs->norm);
  }
  append(names, info_.embedding_norm);
  append(names, info_.project_in);
  append(names, info_.final_norm);
  append(names, info_.project_out);
  if (!info_.tied_head) names.push_back(info_.head.name + ".weight");
  if (info_.head.has_bias) names.push_back(info_.head.name + ".bias");
  return names;
}

std::string exported_name(const Architecture& architecture, const std::vector<std::string>& stored,
                          const std::string& tensor) {
  if (architecture.generic()) return tensor;
  if (architecture.unused(tensor)) return "";
  if (!architecture.tied_head() || tensor != architecture.head().name + ".weight") return tensor;
  const std::string embedding = architecture.embedding_name() + ".weight";
  return std::find(stored.begin(), stored.end(), embedding) == stored.end() ? embedding : "";
}

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/model/resolve.h"

#include <cmath>
#include <map>

#include "host/base/error.h"
#include "host/base/words.h"
#include "host/model/experts_info.h"
#include "host/model/resolve_parts.h"

namespace roundhouse {
namespace {

class Resolver {
 public:
  explicit Resolver(const Descriptor& descriptor) : descriptor_(descriptor), root_(descriptor) {}
  DecoderInfo run();

 private:
  void sizes();
  void embedding_and_head();
  void positions();
  void layer_inputs(const Value& value);
  BlockInfo block(const BlockPlace& place);
  void share_kv(AttentionInfo& attention, const Value& step, int64_t number);
  LayerInputInfo layer_input(const Value& value, const BlockPlace& place) const;
  MlpInfo mlp(const Value& value, const BlockPlace& place) const;
  MlpInfo mlp_of(const Value& value, const std::string& prefix, int64_t hidden, int64_t intermediate,
                 const std::string& siblings) const;
  ExpertsInfo experts(const Value& value, const BlockPlace& place) const;
  std::optional<NormInfo> norm(const Value& parent, std::string_view key, const std::string& prefix) const {
    return read_norm(root_.at("norm"), parent, key, prefix, info_.hidden);
  }

  const Descriptor& descriptor_;
  const Value root_;
  DecoderInfo info_;
  int64_t block_count_ = 0;
  // By the descriptor's steps: where the last attention with keys and values of its own is, block and step.
  std::map<int64_t, std::pair<size_t, size_t>> own_kv_;
};

double number(const Value& parent, std::string_view key, double otherwise) {
  const auto value = parent.find(key);
  return value && !value->is_null() ? value->number() : otherwise;
}

// "sqrt_hidden"
double root_of_size(const Value& word, int64_t hidden) {
  if (word.text() != "sqrt_hidden") word.fail("a number or sqrt_hidden");
  return std::sqrt(static_cast<double>(hidden));
}

DecoderInfo Resolver::run() {
  root_.only({"version", "family", "model_types", "sizes", "norm", "embedding", "positions", "block", "final_norm",
              "head", "names", "imatrix_names", "refuse"});
  info_.family = root_.at("family").text();
  sizes();
  embedding_and_head();
  positions();
  const Value block_value = root_.at("block");
  block_value.only({"prefix", "steps"});
  info_.block_prefix = block_value.at("prefix").text();
  for (int64_t i = 0; i < block_count_; ++i)
    info_.blocks.push_back(block({cat(info_.block_prefix, ".", i, "."), i, block_count_}));
  info_.final_norm = norm(root_, "final_norm", "");
  return std::move(info_);
}

void Resolver::sizes() {
  const Value sizes = root_.at("sizes");
  sizes.only({"vocab", "hidden", "intermediate", "blocks", "positions", "heads", "kv_heads", "head_dim", "two_thirds"});
  info_.vocab = sizes.at("vocab").positive();
  info_.hidden = sizes.at("hidden").positive();
  info_.positions = sizes.at("positions").positive();
  const Value intermediate = sizes.at("intermediate");
  info_.intermediate = intermediate.is_null() ? 4 * info_.hidden : intermediate.positive();
  if (const auto share = sizes.find("two_thirds"); share && present(*share)) {
    share->only({"when", "unless", "factor", "multiple_of"});
    info_.intermediate = 2 * info_.intermediate / 3;
    if (const Value factor = share->at("factor"); !factor.is_null()) {
      const int64_t multiple = share->at("multiple_of").positive();
      const auto size = static_cast<int64_t>(factor.number() * static_cast<double>(info_.intermediate));
      info_.intermediate = (size + multiple - 1) / multiple * multiple;
    }
  }
  const Value blocks = sizes.at("blocks");
  // A text has a letter for each block; one of digits is a number in quotation marks.
  const bool letters = blocks.is_text() && blocks.text().find_first_not_of("0123456789") != std::string::npos;
  block_count_ = blocks.is_list() ? static_cast<int64_t>(blocks.items().size())
                 : letters        ? static_cast<int64_t>(blocks.text().size())
                                  : blocks.positive();

  const Value heads = sizes.at("heads");
  info_.heads = heads.positive();
  const auto kv_heads = sizes.find("kv_heads");
  info_.kv_heads = kv_heads && !kv_heads->is_null() ? kv_heads->positive() : info_.heads;
  if (info_.heads % info_.kv_heads != 0) kv_heads->fail(cat("a divisor of the ", info_.heads, " heads"));
  const auto head_dim = sizes.find("head_dim");
  if (head_dim && !head_dim->is_null()) {
    info_.head_dim = head_dim->positive();
  } else if (info_.hidden % info_.heads == 0) {
    info_.head_dim = info_.hidden / info_.heads;
  } else {
    heads.fail(cat("a divisor of the hidden size, ", info_.hidden, ","));
  }
}

void Resolver::embedding_and_head() {
  const Value embedding = root_.at("embedding");
  embedding.only({"name", "size", "project_in", "norm", "scale", "layer_inputs"});
  info_.embedding = embedding.at("name").text();
  const auto size = embedding.find("size");
  info_.embedding_size = size && !size->is_null() ? size->positive() : info_.hidden;
  info_.embedding_norm = norm(embedding, "norm", "");
  if (const auto scale = embedding.find("scale"))
    info_.embedding_scale = scale->is_text() ? root_of_size(*scale, info_.hidden) : scale->number();
  if (const auto inputs = embedding.find("layer_inputs"); inputs && present(*inputs)) layer_inputs(*inputs);

  const Value head = root_.at("head");
  head.only({"name", "bias", "tied", "project_out", "scale", "divisor", "softcap"});
  info_.head = {head.at("name").text(), "lm_head", "", info_.vocab, info_.embedding_size, false};
  if (const auto bias = head.find("bias")) info_.head.has_bias = bias->flag();
  info_.tied_head = head.at("tied").flag();
  for (const auto& [key, factor] : {std::pair("scale", &info_.logit_scale), {"divisor", &info_.logit_divisor}})
    if (const auto value = head.find(key)) *factor = value->number();
  if (const auto cap = head.find("softcap"); cap && !cap->is_null()) info_.logit_softcap = cap->number();

  if (info_.embedding_size == info_.hidden) return;
  info_.project_in = read_linear(embedding, "project_in", "", info_.hidden, info_.embedding_size);
  info_.project_out = read_linear(head, "project_out", "", info_.embedding_size, info_.hidden);
}

void Resolver::layer_inputs(const Value& value) {
  value.only({"table", "vocab", "size", "projection", "norm", "when", "unless"});
  LayerInputsInfo& inputs = info_.layer_inputs.emplace();
  inputs.table = value.at("table").text();
  inputs.vocab = value.at("vocab").positive();
  if (inputs.vocab < info_.vocab) value.at("vocab").fail(cat("at least the vocabulary, ", info_.vocab, ","));
  inputs.size = value.at("size").positive();
  inputs.projection = read_linear(value, "projection", "", block_count_ * inputs.size, info_.hidden);
  value.at("norm");
  inputs.norm = *read_norm(root_.at("norm"), value, "norm", "", inputs.size);
  info_.passed_on = block_count_ * inputs.size;
}

void Resolver::positions() {
  const Value positions = root_.at("positions"), sizes = root_.at("sizes");
  positions.only({"rotary", "window_rotary", "learned"});
  for (const auto& [key, rotary] : {std::pair("rotary", &info_.rotary), {"window_rotary", &info_.window_rotary}}) {
    const auto value = positions.find(key);
    if (!value || !present(*value)) continue;
    *rotary = read_rotary(*value, sizes, info_.head_dim, info_.positions);
    for (std::string& warning : unused_scaling(*value))
      if (!contains(info_.warnings, warning)) info_.warnings.push_back(std::move(warning));
  }
  if (const auto value = positions.find("learned")) {
    value->only({"name", "offset"});
    info_.learned_positions = {value->at("name").text(), value->at("offset").integer()};
  }
}

BlockInfo Resolver::block(const BlockPlace& place) {
  BlockInfo block;
  const Descriptor own = of_block(descriptor_, place.index);
  const Value root(own);
  std::optional<Value> labels;
  bool labelled = false;
  int64_t step_number = 0;
  for (const Value& value : root.at("block").at("steps").items()) {
    ++step_number;
    value.only({"norm_in", "norm_mlp", "short_conv", "delta_rule", "mamba2", "attention", "mlp", "experts",
                "layer_input", "norm_out", "norm_sum", "scale", "sum_scale"},
               kWhichBlocks);
    const bool here = in_block(value, place);
    if (const auto all = value.find("labels"); all && !all->is_null()) labels = all, labelled |= here;
    if (!here) continue;
    StepInfo step;
    step.norm_in = norm(value, "norm_in", place.prefix);
    step.norm_mlp = norm(value, "norm_mlp", place.prefix);
    if (const auto part = value.find("attention")) {
      step.attention = read_attention(root, *part, info_, place);
      if (step.attention->kv_from)
        share_kv(*step.attention, value, step_number);
      else
        own_kv_[step_number] = {static_cast<size_t>(place.index), block.steps.size()};
    }
    if (const auto part = value.find("experts"); part && has_experts(*part, place.index))
      step.experts = experts(*part, place);
    if (const auto part = value.find("mlp"); part && !step.experts) step.mlp = mlp(*part, place);
    if (const auto part = value.find("layer_input")) step.layer_input = layer_input(*part, place);
    if (const auto part = value.find("short_conv")) step.recurrent = read_short_conv(*part, info_, place);
    if (const auto part = value.find("delta_rule")) step.recurrent = read_delta_rule(root, *part, info_, place);
    if (const auto part = value.find("mamba2")) step.recurrent = read_mamba2(root, *part, info_, place);
    if (!step.recurrent && !step.attention && !step.mlp && !step.experts && !step.layer_input)
      value.fail(cat("a step with a part that computes, such as attention or mlp, in block ", place.index));
    step.norm_out = norm(value, "norm_out", place.prefix);
    step.norm_sum = norm(value, "norm_sum", place.prefix);
    step.scale = number(value, "scale", 1);
    if (const auto name = value.find("sum_scale"); name && !name->is_null())
      step.sum_scale = place.prefix + name->text();
    block.steps.push_back(std::move(step));
  }
  if (labels && !labelled) labels->fail(cat("for block ", place.index, " a label that a step of the descriptor has"));
  if (block.steps.empty()) root.at("block").at("steps").fail(cat("a step that block ", place.index, " has"));
  return block;
}

// It has the keys and values of the last attention before it that is the same step and has its own.
void Resolver::share_kv(AttentionInfo& attention, const Value& step, int64_t number) {
  const auto found = own_kv_.find(number);
  if (found == own_kv_.end())
    step.at("attention").at("shared_kv").fail("a block with this step before those that share");
  AttentionInfo& own = *info_.blocks[found->second.first].steps[found->second.second].attention;
  if (own.kv_heads != attention.kv_heads || own.head_dim != attention.head_dim)
    step.at("attention").fail(cat("heads of the size and number that they have in block ", found->second.first));
  if (!own.kv_to) {
    own.kv_to = info_.passed_on;
    info_.passed_on += 2 * own.kv_heads * own.head_dim;
  }
  attention.kv_from = own.kv_to;
}

LayerInputInfo Resolver::layer_input(const Value& value, const BlockPlace& place) const {
  value.only({"activation", "gate_proj", "out_proj"});
  if (!info_.layer_inputs) value.fail("layer_inputs under embedding, or nothing,");
  const int64_t size = info_.layer_inputs->size;
  return {read_linear(value, "gate_proj", place.prefix, size, info_.hidden),
          read_linear(value, "out_proj", place.prefix, info_.hidden, size), read_activation(value.at("activation")),
          place.index * size};
}

MlpInfo Resolver::mlp(const Value& value, const BlockPlace& place) const {
  value.only({"activation", "gate_proj", "up_proj", "gate_up_proj", "down_proj", "activation_module", "wider"});
  int64_t intermediate = info_.intermediate;
  if (const auto wider = value.find("wider")) {
    wider->only({"times"}, kWhichBlocks);
    if (in_block(*wider, place)) intermediate *= wider->at("times").positive();
  }
  const std::string& prefix = place.prefix;
  MlpInfo mlp = mlp_of(value, prefix, info_.hidden, intermediate, "gate_up");
  mlp.activation = read_activation(value.at("activation"));
  if (mlp.activation == Activation::kXielu) {
    if (mlp.gate || mlp.fused) value.at("activation").fail("an activation without parameters in a gated MLP");
    mlp.activation_name = prefix + value.at("activation_module").text();
  }
  return mlp;
}

// siblings: of gate and up.
MlpInfo Resolver::mlp_of(const Value& value, const std::string& prefix, int64_t hidden, int64_t intermediate,
                         const std::string& siblings) const {
  MlpInfo mlp;
  mlp.fused = value.find("gate_up_proj").has_value();
  const bool gated = value.find("gate_proj").has_value();
  if (gated) mlp.gate = read_linear(value, "gate_proj", prefix, intermediate, hidden, siblings);
  mlp.up = mlp.fused ? read_linear(value, "gate_up_proj", prefix, 2 * intermediate, hidden)
                     : read_linear(value, "up_proj", prefix, intermediate, hidden, gated ? siblings : "");
  mlp.down = read_linear(value, "down_proj", prefix, hidden, intermediate);
  return mlp;
}

ExpertsInfo Resolver::experts(const Value& value, const BlockPlace& place) const {
  const auto& [prefix, index, blocks] = place;
  value.only({"blocks", "count", "intermediate", "activation", "clamped", "router", "gate_proj", "up_proj", "down_proj",
              "stacked", "shared", "latent", "norm_in", "norm_out"});
  const int64_t count = of_block(value.at("count"), index).positive();
  ExpertsInfo experts;
  const Value decider = value.at("router");
  experts.router = router(decider, linear_of(decider, "router", prefix, count, info_.hidden), prefix, index);
  experts.router.linear.decides = true;
  experts.router.norm = norm(decider, "norm", prefix);
  if (const auto divisor = decider.find("input_divisor"))
    experts.router.input_divisor = divisor->is_text() ? root_of_size(*divisor, info_.hidden) : divisor->number();
  experts.norm_in = norm(value, "norm_in", prefix);
  experts.norm_out = norm(value, "norm_out", prefix);
  int64_t width = info_.hidden;  // of what the experts read
  if (const auto latent = value.find("latent"); latent && !latent->at("size").is_null()) {
    latent->only({"size", "in_proj", "out_proj"});
    width = latent->at("size").positive();
    experts.latent_in = read_linear(*latent, "in_proj", prefix, width, info_.hidden);
    experts.latent_out = read_linear(*latent, "out_proj", prefix, info_.hidden, width);
  }
  MlpInfo expert = mlp_of(value, prefix, width, of_block(value.at("intermediate"), index).positive(), "gate_up");
  if (const auto clamped = value.find("clamped")) {
    clamped->only({"limit", "alpha"});
    expert.clamped = {clamped->at("limit").number(), clamped->at("alpha").number()};
    if (!expert.gate) clamped->fail("a gate_proj beside it");
  } else {
    expert.activation = read_activation(value.at("activation"));
  }
  if (const auto stacked = value.find("stacked")) experts.stacked = stacked_experts(*stacked, expert, prefix);
  experts.experts = each_expert(expert, count);
  const auto shared = value.find("shared");
  if (!shared) return experts;
  shared->only(
      {"count", "intermediate", "gate", "gate_proj", "up_proj", "gate_up_proj", "down_proj", "norm_in", "norm_out"});
  const auto times = shared->find("count");
  if (times && (times->is_null() || times->integer() == 0)) return experts;
  experts.shared = mlp_of(*shared, prefix, info_.hidden,
                          shared->at("intermediate").positive() * (times ? of_block(*times, index).positive() : 1),
                          "shared_gate_up");
  experts.shared->activation = expert.activation;
  experts.shared_norm_in = norm(*shared, "norm_in", prefix);
  experts.shared_norm_out = norm(*shared, "norm_out", prefix);
  if (const auto gate = shared->find("gate")) {
    experts.shared_gate = linear_of(*gate, "shared_gate", prefix, 1, info_.hidden);
    experts.shared_gate->decides = true;
  }
  return experts;
}

}  // namespace

DecoderInfo resolve(const Descriptor& descriptor) { return Resolver(descriptor).run(); }

}  // namespace roundhouse

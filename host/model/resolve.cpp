// SPDX-License-Identifier: Apache-2.0
#include "host/model/resolve.h"

#include <algorithm>
#include <cmath>

#include "host/base/error.h"
#include "host/base/words.h"
#include "host/model/experts_info.h"

namespace roundhouse {
namespace {

class Resolver {
 public:
  explicit Resolver(const Descriptor& descriptor) : root_(descriptor) {}
  DecoderInfo run();

 private:
  void sizes();
  void embedding_and_head();
  void positions();
  RotaryInfo rotary(const Value& value) const;
  BlockInfo block(int64_t index) const;
  AttentionInfo attention(const Value& value, const std::string& prefix, int64_t index) const;
  std::optional<int64_t> sliding_window(const Value& value, int64_t index) const;
  MlpInfo mlp(const Value& value, const std::string& prefix) const;
  MlpInfo mlp_of(const Value& value, const std::string& prefix, int64_t intermediate,
                 const std::string& siblings) const;
  ExpertsInfo experts(const Value& value, const std::string& prefix, int64_t index) const;
  std::optional<NormInfo> norm(const Value& parent, std::string_view key, const std::string& prefix) const;
  std::optional<NormInfo> head_norm(const Value& parent, std::string_view key, const std::string& prefix,
                                    int64_t heads) const;
  NormInfo norm_of(const std::string& name, int64_t size) const;

  const Value root_;
  DecoderInfo info_;
  int64_t block_count_ = 0;
};

// True unless the part's `when:` is false or its `unless:` is true.
bool present(const Value& value) {
  const auto when = value.find("when");
  const auto unless = value.find("unless");
  return (!when || when->flag()) && !(unless && unless->flag());
}

// A linear is written as its name, or as {name: NAME, bias: FLAG}.
LinearInfo linear_of(const Value& value, std::string_view role, const std::string& prefix, int64_t out, int64_t in,
                     const std::string& siblings = "") {
  LinearInfo info{"", std::string(role), siblings, out, in, false};
  if (value.is_text()) {
    info.name = prefix + value.text();
  } else {
    info.name = prefix + value.at("name").text();
    if (const auto bias = value.find("bias")) info.has_bias = bias->flag();
  }
  return info;
}

LinearInfo linear(const Value& parent, std::string_view role, const std::string& prefix, int64_t out, int64_t in,
                  const std::string& siblings = "") {
  const Value value = parent.at(role);
  if (!value.is_text()) value.only({"name", "bias"});
  return linear_of(value, role, prefix, out, in, siblings);
}

// The names are those of config.json's hidden_act and its like.
Activation activation(const Value& value) {
  const std::string name = value.text();
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") return Activation::kGeluTanh;
  if (name == "relu") return Activation::kRelu;
  value.fail("one of silu, swish, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu");
}

DecoderInfo Resolver::run() {
  root_.only({"version", "family", "model_types", "sizes", "norm", "embedding", "positions", "block", "final_norm",
              "head", "names", "imatrix_names"});
  info_.family = root_.at("family").text();
  sizes();
  embedding_and_head();
  positions();
  const Value block_value = root_.at("block");
  block_value.only({"prefix", "steps"});
  info_.block_prefix = block_value.at("prefix").text();
  for (int64_t i = 0; i < block_count_; ++i) info_.blocks.push_back(block(i));
  info_.final_norm = norm(root_, "final_norm", "");
  return std::move(info_);
}

void Resolver::sizes() {
  const Value sizes = root_.at("sizes");
  sizes.only({"vocab", "hidden", "intermediate", "blocks", "positions", "heads", "kv_heads", "head_dim"});
  info_.vocab = sizes.at("vocab").positive();
  info_.hidden = sizes.at("hidden").positive();
  info_.positions = sizes.at("positions").positive();
  info_.intermediate = sizes.at("intermediate").positive();
  block_count_ = sizes.at("blocks").positive();

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
  embedding.only({"name", "size", "project_in"});
  info_.embedding = embedding.at("name").text();
  const auto size = embedding.find("size");
  info_.embedding_size = size && !size->is_null() ? size->positive() : info_.hidden;

  const Value head = root_.at("head");
  head.only({"name", "bias", "tied", "project_out"});
  info_.head = {head.at("name").text(), "lm_head", "", info_.vocab, info_.embedding_size, false};
  if (const auto bias = head.find("bias")) info_.head.has_bias = bias->flag();
  info_.tied_head = head.at("tied").flag();

  if (info_.embedding_size == info_.hidden) return;
  info_.project_in = linear(embedding, "project_in", "", info_.hidden, info_.embedding_size);
  info_.project_out = linear(head, "project_out", "", info_.embedding_size, info_.hidden);
}

void Resolver::positions() {
  const Value positions = root_.at("positions");
  positions.only({"rotary", "learned"});
  if (const auto value = positions.find("rotary")) info_.rotary = rotary(*value);
  if (const auto value = positions.find("learned")) {
    value->only({"name", "offset"});
    info_.learned_positions = {value->at("name").text(), value->at("offset").integer()};
  }
}

// `scaling` is config.json's map of rotary parameters. In the style of transformers 4 it holds the scaling alone, in
// that of 5 theta and the rotated fraction too; the map wins over the keys beside it, but for an empty one.
RotaryInfo Resolver::rotary(const Value& value) const {
  value.only({"theta", "fraction", "dims", "scaling"});
  const Value map = value.at("scaling");
  const bool empty = map.is_null() || (map.is_map() && map.members().empty());
  const auto in_map = [&](std::string_view key) { return empty ? std::nullopt : map.find(key); };

  const auto theta = in_map("rope_theta");
  auto type = in_map("rope_type");
  if (!type) type = in_map("type");
  if (!empty && !theta && !type) map.fail("a map with rope_theta or rope_type, for all blocks alike,");

  RotaryInfo rotary;
  rotary.theta = (theta ? *theta : value.at("theta")).number();
  auto fraction = in_map("partial_rotary_factor");
  if (!fraction) fraction = value.find("fraction");
  rotary.dims = static_cast<int64_t>(static_cast<double>(info_.head_dim) * (fraction ? fraction->number() : 1.0));
  if (const auto dims = value.find("dims"); dims && !dims->is_null()) rotary.dims = dims->positive();
  if (rotary.dims <= 0 || rotary.dims > info_.head_dim || rotary.dims % 2 != 0)
    (fraction ? *fraction : root_.at("sizes").at("head_dim")).fail("what leaves an even number of rotary features");

  // mrope turns the features of images' positions; for a text all three positions are equal.
  // dynamic changes nothing up to the positions that the model knows.
  if (!type || contains({"default", "mrope", "dynamic"}, type->text())) return rotary;
  if (!contains({"linear", "llama3", "yarn"}, type->text()))
    type->fail("a rope type of default, linear, dynamic, llama3 or yarn");
  rotary.factor = map.at("factor").number();
  const auto original_positions = [&] {
    const auto original = map.find("original_max_position_embeddings");
    return original && !original->is_null() ? original->positive() : info_.positions;
  };
  if (type->text() == "linear") {
    rotary.scaling = RotaryInfo::Scaling::kLinear;
  } else if (type->text() == "llama3") {
    rotary.scaling = RotaryInfo::Scaling::kLlama3;
    rotary.low_freq_factor = map.at("low_freq_factor").number();
    rotary.high_freq_factor = map.at("high_freq_factor").number();
    rotary.original_positions = original_positions();
  } else {
    const auto said = [&](const char* key, double otherwise) {
      const auto value = map.find(key);
      return value && !value->is_null() ? value->number() : otherwise;
    };
    // YaRN's section 3.4; with mscale as DeepSeek writes it.
    const auto temperature = [&](double scale) { return 0.1 * scale * std::log(std::max(rotary.factor, 1.0)) + 1; };
    const double scale = said("mscale", 0), scale_of_all = said("mscale_all_dim", 0);
    rotary.scaling = RotaryInfo::Scaling::kYarn;
    rotary.beta_fast = said("beta_fast", rotary.beta_fast);
    rotary.beta_slow = said("beta_slow", rotary.beta_slow);
    if (const auto truncate = map.find("truncate")) rotary.truncate = truncate->flag();
    rotary.attention_factor =
        said("attention_factor",
             scale != 0 && scale_of_all != 0 ? temperature(scale) / temperature(scale_of_all) : temperature(1));
    rotary.original_positions = original_positions();
  }
  return rotary;
}

BlockInfo Resolver::block(int64_t index) const {
  const std::string prefix = cat(info_.block_prefix, ".", index, ".");
  BlockInfo block;
  for (const Value& value : root_.at("block").at("steps").items()) {
    value.only({"norm_in", "attention", "mlp", "experts", "norm_out", "norm_sum"});
    StepInfo step;
    step.norm_in = norm(value, "norm_in", prefix);
    if (const auto part = value.find("attention")) step.attention = attention(*part, prefix, index);
    if (const auto part = value.find("experts"); part && has_experts(*part, index))
      step.experts = experts(*part, prefix, index);
    if (const auto part = value.find("mlp"); part && !step.experts) step.mlp = mlp(*part, prefix);
    if (!step.attention && !step.mlp && !step.experts)
      value.fail(cat("a step with attention, mlp or experts in block ", index));
    step.norm_out = norm(value, "norm_out", prefix);
    step.norm_sum = norm(value, "norm_sum", prefix);
    block.steps.push_back(std::move(step));
  }
  return block;
}

AttentionInfo Resolver::attention(const Value& value, const std::string& prefix, int64_t index) const {
  value.only({"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm", "sliding_window"});
  const int64_t q_size = info_.heads * info_.head_dim, kv_size = info_.kv_heads * info_.head_dim;
  AttentionInfo attention;
  attention.q = linear(value, "q_proj", prefix, q_size, info_.hidden, "qkv");
  attention.k = linear(value, "k_proj", prefix, kv_size, info_.hidden, "qkv");
  attention.v = linear(value, "v_proj", prefix, kv_size, info_.hidden, "qkv");
  attention.o = linear(value, "o_proj", prefix, info_.hidden, q_size);
  attention.q_norm = head_norm(value, "q_norm", prefix, info_.heads);
  attention.k_norm = head_norm(value, "k_norm", prefix, info_.kv_heads);
  if (const auto window = value.find("sliding_window")) attention.sliding_window = sliding_window(*window, index);
  return attention;
}

// Which blocks have the window: those that `labels` labels `label`; without labels, those from `first_block` on.
std::optional<int64_t> Resolver::sliding_window(const Value& value, int64_t index) const {
  value.only({"size", "when", "unless", "labels", "label", "first_block"});
  const Value size = value.at("size");
  if (!present(value) || size.is_null()) return std::nullopt;
  if (const auto labels = value.find("labels"); labels && !labels->is_null()) {
    const std::vector<Value> all = labels->items();
    if (static_cast<int64_t>(all.size()) < block_count_)
      labels->fail(cat("one label for each of ", block_count_, " blocks"));
    if (all[static_cast<size_t>(index)].text() != value.at("label").text()) return std::nullopt;
  } else if (const auto first = value.find("first_block"); first && index < first->integer()) {
    return std::nullopt;
  }
  return size.positive();
}

MlpInfo Resolver::mlp(const Value& value, const std::string& prefix) const {
  value.only({"activation", "gate_proj", "up_proj", "down_proj"});
  MlpInfo mlp = mlp_of(value, prefix, info_.intermediate, "gate_up");
  mlp.activation = activation(value.at("activation"));
  return mlp;
}

// siblings: of gate and up.
MlpInfo Resolver::mlp_of(const Value& value, const std::string& prefix, int64_t intermediate,
                         const std::string& siblings) const {
  MlpInfo mlp;
  const bool gated = value.find("gate_proj").has_value();
  if (gated) mlp.gate = linear(value, "gate_proj", prefix, intermediate, info_.hidden, siblings);
  mlp.up = linear(value, "up_proj", prefix, intermediate, info_.hidden, gated ? siblings : "");
  mlp.down = linear(value, "down_proj", prefix, info_.hidden, intermediate);
  return mlp;
}

ExpertsInfo Resolver::experts(const Value& value, const std::string& prefix, int64_t index) const {
  value.only({"blocks", "count", "intermediate", "activation", "clamped", "router", "gate_proj", "up_proj", "down_proj",
              "stacked", "shared"});
  const int64_t count = of_block(value.at("count"), index).positive();
  ExpertsInfo experts;
  const Value decider = value.at("router");
  experts.router = router(decider, linear_of(decider, "router", prefix, count, info_.hidden), prefix, index);
  experts.router.linear.decides = true;
  MlpInfo expert = mlp_of(value, prefix, of_block(value.at("intermediate"), index).positive(), "gate_up");
  if (const auto clamped = value.find("clamped")) {
    clamped->only({"limit", "alpha"});
    expert.clamped = {clamped->at("limit").number(), clamped->at("alpha").number()};
    if (!expert.gate) clamped->fail("a gate_proj beside it");
  } else {
    expert.activation = activation(value.at("activation"));
  }
  if (const auto stacked = value.find("stacked")) experts.stacked = stacked_experts(*stacked, expert, prefix);
  experts.experts = each_expert(expert, count);
  const auto shared = value.find("shared");
  if (!shared) return experts;
  shared->only({"count", "intermediate", "gate", "gate_proj", "up_proj", "down_proj"});
  const auto times = shared->find("count");
  if (times && (times->is_null() || times->integer() == 0)) return experts;
  experts.shared =
      mlp_of(*shared, prefix, shared->at("intermediate").positive() * (times ? of_block(*times, index).positive() : 1),
             "shared_gate_up");
  experts.shared->activation = expert.activation;
  if (const auto gate = shared->find("gate")) {
    experts.shared_gate = linear_of(*gate, "shared_gate", prefix, 1, info_.hidden);
    experts.shared_gate->decides = true;
  }
  return experts;
}

// A norm of the hidden state is written as its name, or as {name: NAME, when: FLAG, unless: FLAG}.
std::optional<NormInfo> Resolver::norm(const Value& parent, std::string_view key, const std::string& prefix) const {
  const auto value = parent.find(key);
  if (!value) return std::nullopt;
  if (value->is_text()) return norm_of(prefix + value->text(), info_.hidden);
  value->only({"name", "when", "unless"});
  if (!present(*value)) return std::nullopt;
  return norm_of(prefix + value->at("name").text(), info_.hidden);
}

std::optional<NormInfo> Resolver::head_norm(const Value& parent, std::string_view key, const std::string& prefix,
                                            int64_t heads) const {
  const auto value = parent.find(key);
  if (!value) return std::nullopt;
  value->only({"name", "over", "when", "unless"});
  if (!present(*value)) return std::nullopt;
  const Value over = value->at("over");
  if (over.text() != "head" && over.text() != "all_heads") over.fail("head or all_heads");
  return norm_of(prefix + value->at("name").text(), over.text() == "head" ? info_.head_dim : heads * info_.head_dim);
}

NormInfo Resolver::norm_of(const std::string& name, int64_t size) const {
  const Value value = root_.at("norm");
  NormInfo norm;
  norm.name = name;
  norm.size = size;
  norm.eps = value.at("eps").number();
  const Value kind = value.at("kind");
  if (kind.text() == "rms") {
    value.only({"kind", "eps"});
    return norm;
  }
  if (kind.text() != "layer") kind.fail("rms or layer");
  value.only({"kind", "eps", "weight", "bias"});
  norm.kind = NormKind::kLayer;
  if (const auto weight = value.find("weight")) norm.has_weight = weight->flag();
  if (const auto bias = value.find("bias")) norm.has_bias = bias->flag();
  return norm;
}

}  // namespace

DecoderInfo resolve(const Descriptor& descriptor) { return Resolver(descriptor).run(); }

}  // namespace roundhouse

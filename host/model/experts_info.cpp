// SPDX-License-Identifier: Apache-2.0
#include "host/model/experts_info.h"

#include <algorithm>
#include <functional>

#include "host/base/error.h"
#include "host/base/words.h"
#include "host/model/resolve_parts.h"

namespace roundhouse {
namespace {

constexpr const char* kExpert = "{}";

std::vector<LinearInfo*> linears(MlpInfo& mlp) {
  std::vector<LinearInfo*> all{&mlp.up, &mlp.down};
  if (mlp.gate) all.insert(all.begin(), &*mlp.gate);
  return all;
}

// Linears that are stored the other way round, each a matrix by itself.
void add_transposed(const StepInfo& step, const TensorSource& source, std::vector<StackedTensor>& stacks) {
  const auto add = [&](const auto& part) {
    if (!part) return;
    for (const LinearInfo& linear : part->linears())
      if (const std::string weight = linear.name + ".weight"; linear.transposed && source.contains(weight))
        stacks.push_back({weight, {weight}, true});
  };
  add(step.attention);
  add(step.mlp);
}

}  // namespace

Value of_block(const Value& value, int64_t index) {
  if (!value.is_list()) return value;
  const std::vector<Value> items = value.items();
  if (index >= static_cast<int64_t>(items.size())) value.fail(cat("an item for block ", index, " too"));
  return items[static_cast<size_t>(index)];
}

bool has_experts(const Value& value, int64_t index) {
  const auto blocks = value.find("blocks");
  if (!blocks) return true;
  blocks->only({"first", "last", "every", "except", "only", "when", "unless"});
  if (!present(*blocks)) return false;
  const auto said = [&](const char* key) {
    const auto found = blocks->find(key);
    return found && !found->is_null() ? found : std::nullopt;
  };
  if (const auto only = said("only")) return lists(*only, index);
  if (const auto first = said("first"); first && index < first->integer()) return false;
  if (const auto last = said("last"); last && last->integer() >= 0 && index > last->integer()) return false;
  if (const auto every = said("every"); every && (index + 1) % every->positive() != 0) return false;
  const auto except = said("except");
  return !except || !lists(*except, index);
}

RouterInfo router(const Value& value, LinearInfo linear, const std::string& prefix, int64_t index) {
  value.only({"name", "bias", "float32", "scores", "jitter", "top_k", "normalize", "weigh", "scale", "correction_bias",
              "groups", "top_groups", "group_score", "norm", "input_scales", "input_divisor", "expert_scales"});
  RouterInfo router;
  router.linear = std::move(linear);
  const int64_t experts = router.linear.out_features;
  const Value scores = value.at("scores"), top_k = of_block(value.at("top_k"), index);
  if (scores.text() == "sigmoid")
    router.scores = RouterInfo::Scores::kSigmoid;
  else if (scores.text() == "sparsemixer")
    router.scores = RouterInfo::Scores::kSparsemixer;
  else if (scores.text() != "softmax")
    scores.fail("softmax, sigmoid or sparsemixer");
  router.top_k = top_k.positive();
  if (router.top_k > experts) top_k.fail(cat("at most the ", experts, " experts"));
  if (const auto normalize = value.find("normalize")) router.normalize = normalize->flag();
  if (const auto float32 = value.find("float32")) router.linear.float32 = float32->flag();
  if (const auto jitter = value.find("jitter")) router.jitter = jitter->number();
  if (const auto scale = value.find("scale")) router.scale = scale->number();
  if (const auto weigh = value.find("weigh")) {
    if (weigh->text() != "inputs" && weigh->text() != "outputs") weigh->fail("inputs or outputs");
    router.weigh_inputs = weigh->text() == "inputs";
  }
  if (const auto bias = value.find("correction_bias"); bias && !bias->is_null())
    router.correction_bias = prefix + bias->text();
  if (const auto scales = value.find("input_scales")) router.input_scales = prefix + scales->text();
  if (const auto scales = value.find("expert_scales")) router.expert_scales = prefix + scales->text();
  const auto groups = value.find("groups"), top_groups = value.find("top_groups");
  if (!groups || groups->is_null()) return router;
  router.groups = groups->positive();
  router.top_groups = top_groups ? top_groups->positive() : router.groups;
  if (experts % router.groups != 0) groups->fail(cat("a divisor of the ", experts, " experts"));
  if (router.top_groups > router.groups) top_groups->fail(cat("at most the ", router.groups, " groups"));
  if (router.top_k > experts / router.groups * router.top_groups)
    top_k.fail(cat("at most the experts of ", router.top_groups, " groups"));
  if (const auto score = value.find("group_score")) {
    if (score->text() != "best" && score->text() != "best_two") score->fail("best or best_two");
    router.by_best_two = score->text() == "best_two";
  }
  return router;
}

std::vector<MlpInfo> each_expert(const MlpInfo& pattern, int64_t count) {
  std::vector<MlpInfo> experts(static_cast<size_t>(count), pattern);
  for (int64_t i = 0; i < count; ++i)
    for (LinearInfo* linear : linears(experts[static_cast<size_t>(i)])) {
      linear->stack = StackPlace{replaced(linear->name, ".{}", ""), i, count};
      linear->name = replaced(linear->name, kExpert, std::to_string(i));
      if (!linear->siblings.empty()) linear->siblings += cat(".", i);
    }
  return experts;
}

std::vector<StackedExperts> stacked_experts(const Value& value, const MlpInfo& pattern, const std::string& prefix) {
  std::vector<StackedExperts> all;
  for (const Value& item : value.items()) {
    item.only({"name", "bias", "parts", "interleaved", "transposed", "only"});
    StackedExperts& stacked = all.emplace_back();
    stacked.name = prefix + item.at("name").text();
    if (const auto bias = item.find("bias")) stacked.bias = prefix + bias->text();
    if (const auto interleaved = item.find("interleaved")) stacked.interleaved = interleaved->flag();
    if (const auto only = item.find("only")) stacked.only = only->flag();
    if (const auto transposed = item.find("transposed"))
      stacked.transposed = transposed->is_null() ? std::nullopt : std::optional(transposed->flag());
    for (const Value& part : item.at("parts").items()) {
      MlpInfo mlp = pattern;
      const std::vector<LinearInfo*> known = linears(mlp);
      const auto found = std::find_if(known.begin(), known.end(),
                                      [&](const LinearInfo* linear) { return linear->role == part.text(); });
      if (found == known.end()) part.fail("gate_proj, up_proj or down_proj");
      stacked.parts.push_back((*found)->name);
    }
  }
  return all;
}

std::vector<StackedTensor> find_stacks(const DecoderInfo& info, TensorSource& source) {
  std::vector<StackedTensor> stacks;
  using Shape = std::vector<int64_t>;
  // other: the shape of transposed matrices; empty: there is none.
  const auto add = [&](const StackedExperts& stacked, const std::string& name, const char* suffix, const Shape& plain,
                       const Shape& other) {
    if (name.empty()) return;
    const auto stack_of = [&](bool transposed) -> StackedTensor& {
      StackedTensor& stack =
          stacks.emplace_back(StackedTensor{name, {}, transposed, stacked.interleaved, stacked.only});
      for (const std::string& part : stacked.parts) stack.parts.push_back(part + suffix);
      return stack;
    };
    if (!source.contains(name)) {
      const size_t last = name.rfind('.') + 1;
      const std::string matrices = cat(name.substr(0, last), kExpert, ".", name.substr(last), suffix);
      const bool whole = stacked.parts.size() > 1 && source.contains(replaced(matrices, kExpert, "0"));
      if (!whole && !stacked.only) return;
      StackedTensor& stack = stack_of(stacked.transposed.value_or(false) && !other.empty());
      stack.count = plain[0];
      if (whole) stack.matrices = matrices;
      return;
    }
    const TensorInfo stored = source.info(name);
    const bool transposed = !other.empty() && stacked.transposed.value_or(stored.shape == other);
    const Shape& expected = transposed ? other : plain;
    const bool unclear = !stacked.transposed && plain == other;
    if (stored.shape != expected || unclear)
      throw Error(cat(stored.file, ": ", name, " is ", shape_text(stored.shape),
                      ", but config.json and the descriptor of ", info.family, " say ", shape_text(expected),
                      unclear ? ", which does not tell whether its matrices are transposed"
                      : stored.shape == (transposed ? plain : other) ? ": its matrices are stored the other way round"
                                                                     : "",
                      unclear || stored.shape == (transposed ? plain : other)
                          ? ". Set `transposed` under `stacked` in a copy of it"
                          : ""));
    stack_of(transposed);
  };
  for (const BlockInfo& block : info.blocks)
    for (const StepInfo& step : block.steps) {
      add_transposed(step, source, stacks);
      if (!step.experts) continue;
      MlpInfo first = step.experts->experts.at(0);
      for (const StackedExperts& stacked : step.experts->stacked) {
        const auto count = static_cast<int64_t>(step.experts->experts.size());
        int64_t rows = 0, cols = 0;
        for (const std::string& part : stacked.parts)
          for (const LinearInfo* linear : linears(first))
            if (linear->name == replaced(part, kExpert, "0")) rows += linear->out_features, cols = linear->in_features;
        add(stacked, stacked.name, ".weight", {count, rows, cols}, {count, cols, rows});
        add(stacked, stacked.bias, ".bias", {count, rows}, {});
      }
    }
  return stacks;
}

}  // namespace roundhouse

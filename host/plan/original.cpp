// SPDX-License-Identifier: Apache-2.0
#include "host/plan/original.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>

#include "host/base/error.h"
#include "host/base/words.h"
#include "host/checkpoint/safetensors.h"
#include "host/discovery/open_checkpoint.h"

namespace roundhouse {
namespace {

bool same_values(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || !is_floating(a.dtype()) || !is_floating(b.dtype())) return false;
  if (a.dtype() != b.dtype()) return same_values(a.to(DType::kF32), b.to(DType::kF32));
  return a.data() == b.data() || std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

class Reconciler {
 public:
  Reconciler(Architecture& architecture, SafetensorsFolder& tensors) : architecture_(architecture), tensors_(tensors) {}

  std::vector<std::string> run() {
    add_prefix();
    count_blocks();
    compare_biases();
    return std::move(warnings_);
  }

 private:
  void add_prefix();
  void count_blocks();
  void compare_biases();
  std::optional<int64_t> block_of(const std::string& tensor) const;
  std::vector<LinearInfo> linears() const;

  Architecture& architecture_;
  SafetensorsFolder& tensors_;
  std::vector<std::string> warnings_;
};

// A base class saves its own modules' names: "layers.0" for "model.layers.0".
void Reconciler::add_prefix() {
  const std::string embedding = architecture_.embedding_name() + ".weight";
  if (tensors_.contains(embedding)) return;
  for (size_t dot = embedding.find('.'); dot != embedding.rfind('.'); dot = embedding.find('.', dot + 1)) {
    if (!tensors_.contains(embedding.substr(dot + 1))) continue;
    const std::string prefix = embedding.substr(0, dot + 1);
    const std::string head = architecture_.head().name + ".";
    tensors_.rename([&](const std::string& name) {
      return name.starts_with(prefix) || name.starts_with(head) ? name : prefix + name;
    });
    return;
  }
}

std::optional<int64_t> Reconciler::block_of(const std::string& tensor) const {
  const std::string prefix = architecture_.block_prefix() + ".";
  if (!tensor.starts_with(prefix)) return std::nullopt;
  int64_t index = 0;
  const char* const end = tensor.data() + tensor.size();
  const auto [rest, error] = std::from_chars(tensor.data() + prefix.size(), end, index);
  return error == std::errc() && rest != end && *rest == '.' ? std::optional(index) : std::nullopt;
}

void Reconciler::count_blocks() {
  const int64_t blocks = architecture_.blocks();
  int64_t stored = 0;
  for (const std::string& name : tensors_.names()) stored = std::max(stored, block_of(name).value_or(-1) + 1);
  if (stored > 0 && stored < blocks)
    throw Error(cat(tensors_.location(), ": config.json says that the model has ", blocks, " blocks, but ", stored,
                    stored == 1 ? " is" : " are", " stored: the two do not belong together"));
  if (stored <= blocks) return;
  tensors_.rename([&](const std::string& name) { return block_of(name).value_or(0) < blocks ? name : ""; });
  warnings_.push_back(cat("the checkpoint stores ", stored, " blocks, and config.json says that the model has ", blocks,
                          ": the others are left out"));
}

std::vector<LinearInfo> Reconciler::linears() const {
  std::vector<LinearInfo> all;
  for (int64_t block = 0; block < architecture_.blocks(); ++block)
    for (LinearInfo& linear : architecture_.block_linears(block)) all.push_back(std::move(linear));
  all.push_back(architecture_.head());
  return all;
}

void Reconciler::compare_biases() {
  std::vector<std::string> unasked, missing;
  for (const LinearInfo& linear : linears()) {
    const std::string weight = linear.name + ".weight", bias = linear.name + ".bias";
    if (tensors_.contains(bias) == linear.has_bias) continue;
    if (!linear.has_bias) {
      unasked.push_back(bias);
    } else if (tensors_.contains(weight)) {  // else the plan tells what is missing
      missing.push_back(bias);
      tensors_.add(bias, Tensor(tensors_.info(weight).dtype, {linear.out_features}));
    }
  }
  if (!missing.empty())
    warnings_.push_back(cat(first_of(missing), missing.size() == 1 ? " is" : " are",
                            " not stored, though config.json asks for ", missing.size() == 1 ? "it" : "them",
                            ": zeros take the place, as in transformers"));
  if (!unasked.empty())
    warnings_.push_back(
        cat(first_of(unasked), unasked.size() == 1 ? " is" : " are",
            " stored, but config.json asks for no such bias: the model is computed without, as in ",
            "transformers; exports keep what is stored, and an engine that heeds it computes otherwise"));
}

}  // namespace

std::vector<std::string> reconcile(Architecture& architecture, TensorSource& checkpoint) {
  std::vector<std::string> warnings;
  if (architecture.generic()) return warnings;
  if (auto* const original = dynamic_cast<SafetensorsFolder*>(&checkpoint))
    warnings = Reconciler(architecture, *original).run();
  const std::string embedding = architecture.embedding_name() + ".weight", head = architecture.head().name + ".weight";
  if (architecture.tied_head() && checkpoint.contains(embedding) && checkpoint.contains(head) &&
      !same_values(checkpoint.load(embedding), checkpoint.load(head))) {
    architecture.untie_head();
    warnings.push_back(cat("config.json ties ", head, " to ", embedding,
                           ", but another one is stored: it is kept, as in transformers, and the exports say so"));
  }
  return warnings;
}

void match(Architecture& architecture, std::unique_ptr<TensorSource>& tensors) {
  if (!architecture.generic()) architecture.match(*tensors);  // tells how its stacks are spelled
  if (const std::vector<StackedTensor> stacks = architecture.stacks(*tensors); !stacks.empty())
    tensors = std::make_unique<StackedSource>(std::move(tensors), stacks);
  architecture.match(*tensors);
}

Original open_original(Catalogue& catalogue, const Recipe& recipe,
                       const std::vector<std::filesystem::path>& descriptor_folders) {
  const FamilyChoice choice{recipe.architecture, recipe.tuning.iters == 0};
  ModelFiles files(catalogue, recipe.model, recipe.tokenizer.value_or(""));
  Architecture architecture = Architecture::load(files.folder(), descriptor_folders, choice);
  Original original{std::move(files), std::move(architecture), nullptr, {}};
  original.tensors = open_source(catalogue, recipe.model, original.architecture.facts());
  if (!original.architecture.generic()) {  // before stacks become matrices, which have no names to reconcile
    original.architecture.match(*original.tensors);
    original.warnings = reconcile(original.architecture, *original.tensors);
  }
  match(original.architecture, original.tensors);
  return original;
}

}  // namespace roundhouse

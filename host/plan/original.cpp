// SPDX-License-Identifier: Apache-2.0
#include "host/plan/original.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "host/abi/format_reader.h"
#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/name_numbers.h"
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

bool is_zero(const Tensor& tensor) {
  if (!is_floating(tensor.dtype())) return false;
  const Tensor values = tensor.to(DType::kF32);
  return std::all_of(values.as<float>(), values.as<float>() + values.elements(), [](float v) { return v == 0; });
}

// Source: a TensorSource whose tensors can be renamed, left out and added.
template <typename Source>
class Reconciler {
 public:
  Reconciler(Architecture& architecture, Source& tensors) : architecture_(architecture), tensors_(tensors) {}

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
  Source& tensors_;
  std::vector<std::string> warnings_;
};

// A base class saves its own modules' names: "layers.0" for "model.layers.0".
template <typename Source>
void Reconciler<Source>::add_prefix() {
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

template <typename Source>
std::optional<int64_t> Reconciler<Source>::block_of(const std::string& tensor) const {
  const std::string prefix = architecture_.block_prefix() + ".";
  if (!tensor.starts_with(prefix)) return std::nullopt;
  for (const NameNumber& number : numbers_in(tensor))
    if (number.begin == prefix.size() && number.end < tensor.size()) return number.value;
  return std::nullopt;
}

template <typename Source>
void Reconciler<Source>::count_blocks() {
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

template <typename Source>
std::vector<LinearInfo> Reconciler<Source>::linears() const {
  std::vector<LinearInfo> all;
  for (int64_t block = 0; block < architecture_.blocks(); ++block)
    for (LinearInfo& linear : architecture_.block_linears(block)) all.push_back(std::move(linear));
  all.push_back(architecture_.head());
  return all;
}

template <typename Source>
void Reconciler<Source>::compare_biases() {
  std::vector<std::string> unasked, missing;
  for (const LinearInfo& linear : linears()) {
    const std::string weight = linear.name + ".weight", bias = linear.name + ".bias";
    if (tensors_.contains(bias) == linear.has_bias) continue;
    if (!linear.has_bias) {
      if (!is_zero(tensors_.load(bias))) unasked.push_back(bias);  // some quantizers give every layer zeros
    } else if (!linear.stack && tensors_.contains(weight)) {       // else the plan tells what is missing
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

// What a generic architecture leaves alone as the embedding, of the head's shape; "": there is none.
std::string generic_embedding(const Architecture& architecture, TensorSource& checkpoint) {
  const LinearInfo& head = architecture.head();
  for (const auto& [name, why] : architecture.left())
    if (why == "embedding" && checkpoint.contains(name + ".weight") &&
        checkpoint.info(name + ".weight").shape == std::vector<int64_t>{head.out_features, head.in_features})
      return name;
  return "";
}

}  // namespace

std::vector<std::string> copies_that_differ(TensorSource& checkpoint) {
  const auto* const plain = dynamic_cast<SafetensorsFolder*>(&checkpoint);
  if (!plain) return {};
  std::map<std::pair<std::filesystem::path, std::filesystem::path>, std::vector<std::string>> by_files;
  for (const auto& [tensor, other, kept] : plain->differing_copies()) by_files[{other, kept}].push_back(tensor);
  std::vector<std::string> warnings;
  for (const auto& [files, tensors] : by_files)
    warnings.push_back(cat(first_of(tensors), tensors.size() == 1 ? " stands" : " stand", " in ", files.first.string(),
                           " and in ", files.second.string(), ", and not with the same values: those of ",
                           files.second.string(), ", the last by its name, count, as in transformers"));
  return warnings;
}

std::vector<std::string> reconcile(Architecture& architecture, TensorSource& checkpoint) {
  std::vector<std::string> warnings = architecture.info().warnings;
  const auto add = [&](std::vector<std::string> more) { warnings.insert(warnings.end(), more.begin(), more.end()); };
  std::string embedding = architecture.embedding_name();
  if (architecture.generic())
    embedding = generic_embedding(architecture, checkpoint);
  else if (auto* const plain = dynamic_cast<SafetensorsFolder*>(&checkpoint))
    add(Reconciler(architecture, *plain).run());
  else if (auto* const quantized = dynamic_cast<ExportedCheckpoint*>(&checkpoint))
    add(Reconciler(architecture, *quantized).run());
  embedding += ".weight";
  const std::string head = architecture.head().name + ".weight";
  const bool tied = architecture.generic() ? !architecture.has_head() : architecture.tied_head();
  if (tied && checkpoint.contains(embedding) && checkpoint.contains(head) &&
      !same_values(checkpoint.load(embedding), checkpoint.load(head))) {
    if (!architecture.untie_head()) return warnings;
    warnings.push_back(cat("config.json ties ", head, " to ", embedding,
                           ", but another one is stored: it is kept, as in transformers, and the exports say so"));
  }
  return warnings;
}

std::vector<std::string> tokens_beyond(const Architecture& architecture, const std::filesystem::path& folder) {
  std::map<std::pair<std::string, int64_t>, std::vector<std::string>> places;  // by key and id
  const auto look = [&](const nlohmann::json& said, const std::string& place) {
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
      const nlohmann::json ids = said.value(key, nlohmann::json());
      for (const nlohmann::json& id : ids.is_array() ? ids : nlohmann::json::array({ids}))
        if (id.is_number_integer() && id.get<int64_t>() >= architecture.vocab_size())
          places[{key, id.get<int64_t>()}].push_back(place);
    }
  };
  if (architecture.generic()) return {};
  look(architecture.config(), "config.json");
  if (const auto text = architecture.config().find("text_config");
      text != architecture.config().end() && text->is_object())
    look(*text, "config.json's text_config");
  if (const std::filesystem::path file = folder / "generation_config.json"; std::filesystem::exists(file)) {
    const nlohmann::json said = nlohmann::json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
    if (said.is_object()) look(said, "generation_config.json");  // a damaged one is not read by transformers either
  }
  std::vector<std::string> warnings;
  for (const auto& [token, files] : places)
    warnings.push_back(cat(token.first, " ", token.second, " (", joined(files), ") is beyond the ",
                           architecture.vocab_size(),
                           " rows of the embedding, and an engine that gives that token to the model fails: correct ",
                           "the id, or resize the embedding (resize_token_embeddings in transformers)"));
  return warnings;
}

std::unique_ptr<TensorSource> with_matrices(const Architecture& architecture, std::unique_ptr<TensorSource> tensors) {
  std::vector<StackedTensor> stacks = architecture.stacks(*tensors);
  // Quantized layers are [rows, cols] in every checkpoint.
  if (auto* const exported = exported_checkpoint(*tensors))
    std::erase_if(stacks, [&](const StackedTensor& stack) {
      return exported->contains(stack.name) && exported->item(stack.name).quantized;
    });
  if (stacks.empty()) return tensors;
  return std::make_unique<StackedSource>(std::move(tensors), stacks);
}

void match(Architecture& architecture, std::unique_ptr<TensorSource>& tensors) {
  if (!architecture.generic()) architecture.match(*tensors);  // tells how its stacks are spelled
  tensors = with_matrices(architecture, std::move(tensors));
  architecture.match(*tensors);
}

Original open_original(Catalogue& catalogue, const Recipe& recipe,
                       const std::vector<std::filesystem::path>& descriptor_folders) {
  const FamilyChoice choice{recipe.architecture, recipe.tuning.iters == 0, recipe.architecture_place.text};
  ModelFiles files(catalogue, recipe.model, recipe.tokenizer.value_or(""), recipe.tokenizer_place.text);
  files.require_config();
  Architecture architecture =
      files.read([&] { return Architecture::load(files.folder(), descriptor_folders, choice); });
  Original original{std::move(files), std::move(architecture), nullptr, {}, {}};
  original.tensors = open_source(catalogue, recipe.model, original.architecture.facts(), original.format);
  const std::vector<std::string> copies = copies_that_differ(*original.tensors);
  if (!original.architecture.generic()) {  // before stacks become matrices, which have no names to reconcile
    original.architecture.match(*original.tensors);
    original.warnings = reconcile(original.architecture, *original.tensors);
  }
  match(original.architecture, original.tensors);
  if (original.architecture.generic()) original.warnings = reconcile(original.architecture, *original.tensors);
  original.warnings.insert(original.warnings.end(), copies.begin(), copies.end());
  for (std::string& warning : tokens_beyond(original.architecture, original.files.folder()))
    original.warnings.push_back(std::move(warning));
  for (const char* name : {"adapter_model.safetensors", "adapter_model.bin"})
    if (std::error_code ignored; std::filesystem::exists(recipe.model / name, ignored))
      original.warnings.push_back(cat((recipe.model / name).string(),
                                      ": the adapter beside the weights is not applied; transformers ",
                                      "with peft would apply it. Merge it (merge_and_unload()), or remove it"));
  for (std::string& warning : original.warnings) warning = original.files.in_users_names(warning);
  return original;
}

}  // namespace roundhouse

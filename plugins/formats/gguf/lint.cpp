// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/lint.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>

#include "plugins/formats/gguf/file_type.h"
#include "plugins/formats/gguf/pre_tokenizer.h"
#include "plugins/formats/gguf/reader.h"
#include "plugins/formats/lib/lint.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr const char* kLlamaCpp = "llama.cpp";
constexpr const char* kExportAgain = "Export the model again";

// Under the architecture's id; llama.cpp stops where one is missing.
constexpr const char* kHyperparameters[] = {"block_count", "context_length", "embedding_length", "feed_forward_length",
                                            "attention.head_count"};
// Those of llama.cpp's architectures whose attention and MLP have the usual shapes, and its kinds of tokenizers.
constexpr std::string_view kUsual[] = {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"};
constexpr std::string_view kTokenizers[] = {"llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "gemma4"};
constexpr const char* kTokens[] = {"bos", "eos", "unknown", "padding", "eot"};

class GgufLinter {
 public:
  explicit GgufLinter(const rh_open& source)
      : reader_(source.path, Json::parse(source.architecture_json)),
        file_(std::filesystem::path(gguf_files(source.path).at(0)).filename().string()),
        types_(reader_.stored_types()) {}

  std::vector<rh::Finding> run() {
    const Json said = reader_.value("general.architecture");
    if (said.is_string()) {
      check_hyperparameters(said.get<std::string>());
    } else {
      error("general.architecture is missing, or no text: llama.cpp cannot tell the model's family");
    }
    check_tensors();
    check_tokenizer();
    check_file_type();
    return findings_.take();
  }

 private:
  void error(const std::string& what, const std::string& advice = kExportAgain) {
    findings_.error(kLlamaCpp, file_, what, advice);
  }
  void warning(const std::string& what, const std::string& advice) {
    findings_.add(RH_FINDING_WARNING, kLlamaCpp, file_, "", what, advice);
  }

  void check_hyperparameters(const std::string& id) {
    for (const char* key : kHyperparameters) {
      const Json value = reader_.value(cat(id, ".", key));
      const bool right = value.is_number_integer() || value.is_array();  // one for each block
      if (!right)
        error(cat(id, ".", key, value.is_null() ? " is missing" : " is no number", ": llama.cpp stops there"));
    }
    if (reader_.value(id + ".attention.layer_norm_rms_epsilon").is_null() &&
        reader_.value(id + ".attention.layer_norm_epsilon").is_null())
      error(cat(id, ".attention.layer_norm_rms_epsilon is missing: llama.cpp stops there"));
    const Json count = reader_.value(id + ".block_count");
    if (!count.is_number_integer()) return;
    int64_t stored = 0;
    for (const auto& [name, type] : types_)
      if (name.starts_with("blk.")) stored = std::max(stored, number_in_front(name.substr(4)) + 1);
    if (count.get<int64_t>() != stored)
      error(cat(id, ".block_count is ", count.get<int64_t>(), ", and the tensors are of ", stored,
                " blocks: llama.cpp ",
                count.get<int64_t>() > stored ? "misses tensors" : "refuses tensors that it does not know"));
    check_shapes(id);
  }

  // Of the embedding and, in the usual architectures, of a block's matrices, as llama.cpp has them from its
  // hyperparameters.
  void check_shapes(const std::string& id) {
    const auto number = [&](const char* key) -> int64_t {
      const Json value = reader_.value(cat(id, ".", key));
      return value.is_number_integer() ? value.get<int64_t>() : 0;
    };
    const auto check = [&](const std::string& tensor, size_t dim, int64_t wanted, const std::string& why) {
      const std::vector<int64_t> shape = reader_.stored_shape(tensor);
      if (shape.size() != 2 || wanted <= 0 || shape[dim] == wanted) return;
      error(cat(tensor, " has ", shape[dim], dim == 0 ? " rows, and " : " columns, and ", why, " makes ", wanted,
                ": llama.cpp refuses a tensor of that shape"));
    };
    const int64_t hidden = number("embedding_length"), heads = number("attention.head_count");
    check("token_embd.weight", 1, hidden, id + ".embedding_length");
    if (std::find(std::begin(kUsual), std::end(kUsual), id) == std::end(kUsual) || heads <= 0) return;
    const auto or_else = [](int64_t value, int64_t otherwise) { return value > 0 ? value : otherwise; };
    const int64_t key = or_else(number("attention.key_length"), hidden / heads);
    const int64_t value = or_else(number("attention.value_length"), hidden / heads);
    const bool alike = !reader_.value(id + ".attention.head_count_kv").is_array();  // else one for each block
    const int64_t kv_heads = alike ? or_else(number("attention.head_count_kv"), heads) : 0;
    const int64_t blocks = number("block_count");
    for (int64_t block = 0; block < blocks; ++block) {
      const std::string prefix = cat("blk.", block, ".");
      check(prefix + "attn_q.weight", 0, heads * key, id + ".attention.head_count");
      check(prefix + "attn_k.weight", 0, kv_heads * key, id + ".attention.head_count_kv");
      check(prefix + "attn_v.weight", 0, kv_heads * value, id + ".attention.head_count_kv");
      check(prefix + "ffn_up.weight", 0, number("feed_forward_length"), id + ".feed_forward_length");
    }
  }

  void check_tensors() {
    const Json id = reader_.value("general.architecture");
    const bool lfm2 = id.is_string() && id.get<std::string>().starts_with("lfm2");
    const std::string norm = lfm2 ? "token_embd_norm.weight" : "output_norm.weight";
    for (const std::string& name : {std::string("token_embd.weight"), norm})
      if (!types_.contains(name) && (name != norm || id != "olmo"))
        error(cat("the tensor ", name, " is missing: llama.cpp stops there"));
    // Blocks of one kind have the same tensors, but for biases that llama.cpp takes as they come, and, in gemma4, for keys
    // and values that are those of another block.
    std::map<std::string, std::set<std::string>> blocks;  // what follows blk.N, by blk.N
    for (const auto& [name, type] : types_)
      if (const size_t dot = name.find('.', 4); name.starts_with("blk.") && dot != std::string::npos)
        blocks[name.substr(0, dot)].insert(name.substr(dot));
    std::map<std::set<std::string>, std::vector<std::string>> kinds;
    for (const auto& [block, parts] : blocks) kinds[kind_of(parts)].push_back(block);
    const bool needs_biases = id == "qwen2";
    const auto optional = [&](const std::string& part) {
      return (part.ends_with(".bias") && !needs_biases) ||
             (id == "gemma4" && (part.starts_with(".attn_k") || part.starts_with(".attn_v")));
    };
    for (const auto& [kind, alike] : kinds) {
      std::map<std::string, size_t> counts;
      for (const std::string& block : alike)
        for (const std::string& part : blocks[block]) ++counts[part];
      for (const auto& [part, count] : counts)
        if (count + 1 == alike.size() && !optional(part))
          for (const std::string& block : alike)
            if (!blocks[block].contains(part))
              error(cat("the tensor ", block, part, " is missing, which every other block of its kind has: llama.cpp ",
                        "stops there"));
    }
  }

  // Which of these parts a block has: recurrence, attention, experts, an MLP.
  static std::set<std::string> kind_of(const std::set<std::string>& parts) {
    std::set<std::string> kind;
    for (const std::string& part : parts) {
      const auto is = [&](const char* word) { return part.find(word) != std::string::npos; };
      if (is(".ssm_") || is(".shortconv.")) kind.insert("recurrence");
      if (is(".attn_q") || is(".attn_k") || is(".attn_v") || is(".attn_output")) kind.insert("attention");
      if (is("_exps") || is("_shexp") || is(".ffn_gate_inp") || is(".exp_probs_b")) kind.insert("experts");
      if (part.starts_with(".ffn_gate.") || part.starts_with(".ffn_up.") || part.starts_with(".ffn_down."))
        kind.insert("MLP");
    }
    return kind;
  }

  void check_tokenizer() {
    const Json model = reader_.value("tokenizer.ggml.model");
    if (!model.is_string()) {
      return error("tokenizer.ggml.model is missing: llama.cpp has no tokenizer and stops",
                   "Export again with the tokenizer's files beside the source");
    }
    if (std::find(std::begin(kTokenizers), std::end(kTokenizers), model.get<std::string>()) == std::end(kTokenizers))
      return error(
          cat("tokenizer.ggml.model is ", model.dump(), ", which llama.cpp does not know: it refuses the file"));
    const Json tokens = reader_.value("tokenizer.ggml.tokens");
    if (!tokens.is_array()) return error("tokenizer.ggml.tokens is missing: llama.cpp stops there");
    const auto count = static_cast<int64_t>(tokens.size());
    if (const int64_t rows = reader_.vocabulary(); rows > 0 && rows != count)
      error(cat("tokenizer.ggml.tokens has ", count, " tokens, and the embedding ", rows,
                " rows: llama.cpp refuses a tensor of that shape"));
    for (const char* key : {"scores", "token_type"}) {
      const Json list = reader_.value(cat("tokenizer.ggml.", key));
      if (list.is_array() && list.size() != tokens.size())
        error(cat("tokenizer.ggml.", key, " has ", list.size(), " entries for ", count, " tokens"));
    }
    for (const char* token : kTokens) {
      const std::string key = cat("tokenizer.ggml.", token, "_token_id");
      const Json id = reader_.value(key);
      if (id.is_null()) continue;
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= count)
        error(cat(key, " is ", id.dump(), ", and there are ", count, " tokens: llama.cpp takes another one instead"),
              "Correct the source's tokenizer_config.json or config.json, and export the model again");
    }
    if (model != "gpt2") return;
    const Json pre = reader_.value("tokenizer.ggml.pre");
    if (pre.is_null())
      warning("tokenizer.ggml.pre is missing: llama.cpp divides texts by its default, and token ids may differ",
              "Set the option `pre`");
    else if (!pre.is_string() || !llama_cpp_knows(pre.get<std::string>()))
      error(cat("tokenizer.ggml.pre is ", pre.dump(), ", which llama.cpp does not know: it refuses the file"),
            "Set the option `pre` to a name of llama.cpp's");
    if (!reader_.value("tokenizer.ggml.merges").is_array())
      error("tokenizer.ggml.merges is missing: llama.cpp stops there");
  }

  // llama.cpp only shows it; other programs go by it.
  void check_file_type() {
    const Json id = reader_.value("general.file_type");
    if (id.is_null()) return;
    const FileType* type = id.is_number_integer() ? file_type_of(id.get<int64_t>()) : nullptr;
    if (!type) return warning(cat("general.file_type is ", id.dump(), ", which is none"), "Set the option `file_type`");
    const bool quantized = ggml_type(type->base)->quantized();
    const bool stored = std::any_of(types_.begin(), types_.end(), [](const auto& t) { return t.second->quantized(); });
    if (quantized != stored)
      warning(cat("general.file_type is ", type->name, ", and ", stored ? "some" : "no", " tensors are quantized"),
              "Set the option `file_type`");
  }

  GgufReader reader_;
  const std::string file_;
  const std::map<std::string, const GgmlType*> types_;
  Findings findings_;
};

}  // namespace

std::vector<rh::Finding> lint_gguf(const rh_open& source) { return GgufLinter(source).run(); }

}  // namespace roundhouse::formats

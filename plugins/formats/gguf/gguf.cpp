// SPDX-License-Identifier: Apache-2.0
// The format `gguf`: the file that llama.cpp, and what is built on it, loads.
#include <algorithm>
#include <cctype>
#include <map>

#include "plugins/formats/gguf/file_type.h"
#include "plugins/formats/gguf/lint.h"
#include "plugins/formats/gguf/pre_tokenizer.h"
#include "plugins/formats/gguf/reader.h"
#include "plugins/formats/gguf/writer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

class Gguf : public rh::Format, public rh::Assigner, public rh::Linter {
 public:
  Gguf()
      : Format("gguf", "GGUF files for llama.cpp.", {RH_ENCODING_GGML_BLOCK}, options_schema(), file_type_aliases()) {}

  void check(const rh_format_layer& layer, const char*) const override {
    rh::require(!layer.activation_encoding, "it stores weights only, and the scheme quantizes activations as well");
    rh::GgmlBlock::of(*layer.encoding);
  }

  void plan(const rh_plan& plan, std::vector<rh::Answer>& answers) const override { answer_plan(plan, answers); }

  const char* backends_json() const override {
    return R"([{"engine": "llama.cpp", "devices": ["cpu", "cuda", "metal", "vulkan"], "priority": 1,
                "command": "llama-cli -m {folder}/*.gguf"}])";
  }

  const rh::Linter* linter() const override { return this; }
  std::vector<rh::Finding> lint(const rh_open& source) const override { return lint_gguf(source); }
  const rh::Assigner* assigner() const override { return this; }
  std::string assign(const char* layers_json, const char* architecture, const char* options_json) const override {
    const Json asked = Json::parse(layers_json), options = Json::parse(options_json);
    wants_split(options);
    const FileType* type = chosen_file_type(options, asked.at("data_type"));
    if (!type) return "{}";
    require_base(*type, asked.at("data_type"));
    return assign_types(*type, asked.at("layers"), Json::parse(architecture)).dump();
  }

  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    require_file_type(*target.plan);
    return std::make_unique<GgufWriter>(target);
  }
  bool resumes() const override { return true; }
  int32_t probe(const std::string& folder) const override { return gguf_files(folder).empty() ? 0 : 100; }
  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    return std::make_unique<GgufReader>(source.path, Json::parse(source.architecture_json));
  }

 private:
  // Throws rh::Error when few weights are what the file type is named after, though they could be: a checkpoint that is
  // converted has types of its own.
  static void require_file_type(const rh_plan& plan) {
    const FileType* const type = chosen_file_type(Json::parse(plan.options_json), Json());
    if (!type || !ggml_type(type->base)->quantized() || std::string_view(type->name) == kExpertMix) return;
    std::map<std::string, int64_t> weights;
    int64_t could = 0;
    for (uint64_t i = 0; i < plan.tensor_count; ++i) {
      const rh_format_layer* layer = plan.tensors[i]->layer;
      if (!layer || !rh::is(*layer->encoding, rh::GgmlBlock::kId)) continue;
      const bool in_block = std::string_view(layer->name).find_first_of("0123456789") != std::string_view::npos;
      if (!in_block || layer->cols % ggml_type(type->base)->cols != 0) continue;  // embeddings and heads have their own
      const int64_t size = layer->rows * layer->cols;
      weights[rh::GgmlBlock::of(*layer->encoding).facts().name] += size;
      could += size;
    }
    const auto most = std::max_element(weights.begin(), weights.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    rh::require(4 * weights[type->base] >= could,
                cat("file_type ", type->name, " consists of ", type->base, ", and most weights are ",
                    most == weights.end() ? "not" : most->first, ": omit it, or choose the one of these"));
  }
  // gguf:q4_k_m and the others, each with its file type.
  static std::vector<rh::FormatAlias> file_type_aliases() {
    static const std::vector<std::pair<std::string, std::string>> texts = [] {
      std::vector<std::pair<std::string, std::string>> all;
      for (const std::string name : Json::parse(file_type_names())) {
        std::string small = name;
        for (char& c : small) c = static_cast<char>(std::tolower(c));
        all.emplace_back("gguf:" + small, Json{{"file_type", name}}.dump());
      }
      return all;
    }();
    std::vector<rh::FormatAlias> aliases;
    for (const auto& [name, options] : texts) aliases.push_back({name.c_str(), options.c_str()});
    return aliases;
  }
  static const char* options_schema() {
    static const std::string schema =
        R"({"type": "object", "properties": {"file_type": {"enum": )" + file_type_names() +
        R"(}, "unquantized": {"enum": ["f32", "f16", "bf16"]}, "pre": {"enum": )" + pre_tokenizer_names() + R"(},
            "split": {"type": "boolean", "default": false},
            "omit_unknown": {"type": "boolean", "default": false}}})";
    return schema.c_str();
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<Gguf>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "gguf", "Roundhouse", "0.1.0", "Writes and reads GGUF files.")

// SPDX-License-Identifier: Apache-2.0
// The format `auto_awq`: AWQ checkpoints in the layout of its GEMM kernels, 4 bits.
#include <algorithm>
#include <cctype>

#include "plugins/formats/lib/int_reader.h"
#include "plugins/formats/lib/int_writer.h"
#include "plugins/formats/lib/lint.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

// AutoAWQ's first files have quant_config.json alone, which names no method.
Json own_quantization(const std::string& folder) {
  Json quantization = quantization_in(folder, "quant_config.json");
  const bool unnamed =
      quantization.contains("w_bit") && quantization.contains("q_group_size") && !quantization.contains("quant_method");
  return unnamed || text_at(quantization, "quant_method") == "awq" ? quantization : Json::object();
}

// "GEMM" in AutoAWQ's own files, "gemm" in transformers'; exllama and ipex are kernels for the same bytes.
bool has_gemm_layout(std::string version) {
  std::transform(version.begin(), version.end(), version.begin(), [](unsigned char c) { return std::tolower(c); });
  return version == "gemm" || version == "exllama" || version == "ipex";
}

class AwqWriter : public IntWriter {
 public:
  explicit AwqWriter(const rh_export& target) : IntWriter(target, IntLayout::kAwq, false) {}

 private:
  Json quantization_config() const override {
    Json config = int_config(target(), plan().common());
    config["sym"] = plan().all_symmetric();
    config["quant_method"] = "awq";
    config["version"] = "gemm";
    // Symmetric layers have theirs stored as well (8 everywhere), and engines that are told false either read them
    // nevertheless or refuse their fast kernels.
    config["zero_point"] = true;
    config["to_quant_block_names"] = block_prefixes();
    config["modules_to_not_convert"] = unquantized();
    return config;
  }
};

class AutoAwq : public rh::Format, public rh::Linter {
 public:
  AutoAwq() : Format("auto_awq", "AWQ checkpoints: 4 bit integers.", {RH_ENCODING_AFFINE_INT}, "{}", {{"awq", "{}"}}) {}

  void check(const rh_format_layer& layer, const char*) const override { check_int_layer(layer, {4}); }

  void plan(const rh_plan& plan, std::vector<rh::Answer>& answers) const override {
    const IntPlan ints(plan);
    const int64_t common = ints.common().group_size;
    for (uint64_t i = 0; i < plan.tensor_count; ++i) {
      const rh_format_layer* layer = plan.tensors[i]->layer;
      if (!layer || ints.of(*layer).group_size == common) continue;
      answers[i] = {RH_TENSOR_REFUSED, cat("it allows one group size per checkpoint: most layers of this plan have ",
                                           common, ", this one has ", ints.of(*layer).group_size)};
    }
    refuse_outside_blocks(plan, answers);
    check_experts(plan, rh::Experts::kApart, answers);
  }

  const char* backends_json() const override {
    static const std::string backends = with_fuses(R"([
      {"engine": "transformers with auto-round and auto-round-lib", "devices": ["cpu"], "bits": [4],
       "sym": [true, false], "packing": "awq", "priority": 6},
      {"engine": "transformers with auto-round and auto-round-lib", "devices": ["xpu"], "bits": [4], "sym": [true],
       "packing": "awq", "priority": 6},
      {"engine": "transformers with gptqmodel, marlin", "devices": ["cuda"], "bits": [4],
       "group_sizes": [-1, 32, 64, 128], "sym": [true], "packing": "awq", "priority": 6},
      {"engine": "transformers with gptqmodel, exllamav2", "devices": ["cuda"], "bits": [4],
       "group_sizes": [-1, 32, 64, 128], "sym": [true, false], "packing": "awq", "priority": 5},
      {"engine": "transformers with gptqmodel, gemm", "devices": ["cuda"], "bits": [4],
       "group_sizes": [-1, 16, 32, 64, 128], "sym": [true, false], "packing": "awq", "priority": 4},
      {"engine": "transformers with gptqmodel, torch", "devices": ["cpu", "cuda"], "bits": [4],
       "group_sizes": [-1, 16, 32, 64, 128], "sym": [true, false], "packing": "awq", "priority": 2},
      {"engine": "vllm", "devices": ["cpu", "cuda"], "bits": [4], "sym": [true, false], "packing": "awq",
       "priority": 6, "command": "vllm serve {folder}"}])");
    return backends.c_str();
  }

  const rh::Linter* linter() const override { return this; }
  std::vector<rh::Finding> lint(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder), quantization = own_quantization(folder);
    Findings findings;
    if (!config.contains("quantization_config"))
      findings.error(kTransformers, "config.json",
                     "quantization_config is missing, and transformers does not read quant_config.json",
                     "Copy what that holds to it, with \"quant_method\": \"awq\"");
    const char* bits = quantization.contains("w_bit") ? "w_bit" : "bits";  // AutoAWQ's words, and transformers'
    const char* group_size = quantization.contains("q_group_size") ? "q_group_size" : "group_size";
    require_key(findings, quantization, kEvery, bits, "a number");
    require_key(findings, quantization, kEvery, group_size, "a number");
    require_key(findings, quantization, kEvery, "zero_point", "true or false");
    if (!findings.any_error()) {
      const std::vector<std::string> kept = texts_at(quantization, "modules_to_not_convert");
      Said packed =
          int_said(static_cast<int>(number_at(quantization, bits, 4)), number_at(quantization, group_size, -1), false);
      packed.why = "`modules_to_not_convert` does not name it";
      const auto said = [&](const std::string& module) -> Said {
        for (const std::string& name : kept)
          if (module.find(name) != std::string::npos)
            return {false, cat("`modules_to_not_convert` has ", name, ", which is in its name")};
        if (module.substr(module.rfind('.') + 1) == "lm_head") return {false, "AWQ's engines know no packed head"};
        return packed;
      };
      lint_modules({.source = source,
                    .config = config,
                    .advice = "Add its name to `modules_to_not_convert`",
                    .said = said,
                    .make = int_layer_maker(folder, config, quantization, IntLayout::kAwq)},
                   findings);
    }
    return findings.take();
  }

  std::unique_ptr<rh::Writer> begin(const rh_export& target) const override {
    return std::make_unique<AwqWriter>(target);
  }
  bool resumes() const override { return true; }

  int32_t probe(const std::string& folder) const override { return own_quantization(folder).empty() ? 0 : 100; }

  std::unique_ptr<rh::Reader> open(const rh_open& source) const override {
    const std::string folder = source.path;
    const Json config = read_config(folder);
    const Json quantization = own_quantization(folder);
    rh::require(!quantization.empty(),
                cat(folder, "/config.json: quant_method is not awq, so this is no AWQ checkpoint"));
    const std::string version = text_at(quantization, "version", "gemm");
    rh::require(has_gemm_layout(version) && text_at(quantization, "backend") != "llm-awq",
                cat(folder, "/config.json: the layout of AWQ's ",
                    has_gemm_layout(version) ? "backend llm-awq" : "version " + version,
                    " is not read, only that of the version gemm; most models are published in it as well"));
    return int_reader(folder, config, quantization, IntLayout::kAwq);
  }
};

struct Definition {
  static rh::Contents make() {
    rh::Contents contents;
    contents.formats.push_back(std::make_unique<AutoAwq>());
    return contents;
  }
};

}  // namespace
}  // namespace roundhouse::formats

RH_PLUGIN(roundhouse::formats::Definition, "auto_awq", "Roundhouse", "0.1.0", "Writes and reads AWQ checkpoints.")

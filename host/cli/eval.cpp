// SPDX-License-Identifier: Apache-2.0
// roundhouse eval: perplexity of an original or exported checkpoint on a text, and its divergence from another.
#include <iostream>
#include <memory>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/model_folder.h"
#include "host/checkpoint/safetensors.h"
#include "host/cli/context.h"
#include "host/discovery/model_files.h"
#include "host/report/table.h"
#include "host/run/evaluation.h"

namespace roundhouse::cli {

void add_eval(Command program, Context& context) {
  struct Options {
    std::string model, config, data, field, logits, save_logits, device = "auto";
    int seqlen = 2048;
    bool json = false;
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("eval", "Perplexity of a model, original or exported");
  command.add_option("MODEL", o->model, "The model's folder, or its id on the Hugging Face Hub").required();
  command.add_option("--config", o->config, "The folder of config.json and the tokenizer, when MODEL has none");
  command.add_option("--data", o->data, ".jsonl, .json, .csv: a record at a time; .txt: in windows").required();
  command.add_option("--field", o->field, "The key of a record's text or conversation, when it is no usual one");
  command.add_option("--seqlen", o->seqlen, "Longest sequence, in tokens").range(2, 1 << 24).show_default();
  command.add_option("--save-logits", o->save_logits, "Keep the logits in this file, for --logits");
  command.add_option("--logits", o->logits, "Compare with the logits that --save-logits kept of the original");
  command.add_option("--device", o->device, "auto, cpu, cuda or cuda:N").show_default();
  command.add_flag("--json", o->json, "Print JSON");
  command.set_action([&context, o] {
    if (!o->save_logits.empty()) {
      require_kind(o->save_logits, "file of logits",
                   [](const auto& path) { return SafetensorsFolder(path).contains("log_prob"); });
      std::error_code ignored;
      if (std::filesystem::equivalent(o->save_logits, o->logits, ignored))
        throw Error(cat("--save-logits would overwrite --logits, ", o->logits, ": choose another file"));
    }
    const std::string device = device_of(o->device);
    Catalogue catalogue = context.catalogue();
    const auto folder = find_model(o->model);
    const ModelFiles files(catalogue, o->config.empty() ? folder : find_model(o->config));
    files.require_config();
    const auto& config = files.folder();
    const auto [architecture, source, format] =
        files.read([&] { return open_model(catalogue, folder, config, Context::architecture_folders()); });
    const Tokenizer tokenizer = files.read([&] { return Tokenizer::load(config); });
    const int seqlen = static_cast<int>(std::min<int64_t>(o->seqlen, architecture.max_positions()));
    const ChatTemplates chat(config, Calibration().date);
    const ReadOptions read{.field = o->field.empty() ? std::nullopt : std::optional(o->field), .chat = &chat};
    const auto sequences = evaluation_sequences(o->data, read, tokenizer, seqlen, architecture.vocab_size());
    const InputQuantization activations = activations_of(architecture, *source, catalogue, device);
    std::optional<DivergenceMeter> meter;
    if (!o->logits.empty()) meter.emplace(o->logits, sequences, architecture.vocab_size());
    std::optional<LogProbsWriter> save;
    if (!o->save_logits.empty()) save.emplace(o->save_logits, sequences, architecture.vocab_size());
    const auto [result, divergence] = measure(o->model, device, architecture, *source, sequences, activations.hook,
                                              save ? &*save : nullptr, meter ? &*meter : nullptr);
    if (o->json) {
      nlohmann::json text{{"model", o->model},         {"format", format},
                          {"data", o->data},           {"device", device},
                          {"seqlen", seqlen},          {"sequences", sequences.size()},
                          {"tokens", result.tokens},   {"perplexity", result.value},
                          {"seconds", result.seconds}, {"activations", activations.text()}};
      if (divergence) text.update(to_json(*divergence));
      std::cout << text.dump(2) << "\n";
      return;
    }
    std::vector<std::vector<std::string>> table{
        {"model", "format", "activations", "sequences", "tokens", "time", "perplexity"},
        {o->model, format.empty() ? "original" : format, activations.text(), std::to_string(sequences.size()),
         std::to_string(result.tokens), format_seconds(result.seconds), format_number(result.value, 4)}};
    if (divergence) {
      const std::vector<std::string> cells = divergence_cells(divergence);
      table[0].insert(table[0].end(), kDivergenceHeads.begin(), kDivergenceHeads.end());
      table[1].insert(table[1].end(), cells.begin(), cells.end());
    }
    std::cout << format_table(table);
  });
}

}  // namespace roundhouse::cli

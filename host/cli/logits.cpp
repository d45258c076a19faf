// SPDX-License-Identifier: Apache-2.0
// roundhouse logits: what a model, original or exported, computes for a text; for comparing engines.
#include "host/model/logits.h"

#include <memory>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/model_folder.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "host/cli/context.h"
#include "host/discovery/model_files.h"
#include "host/run/evaluation.h"

namespace roundhouse::cli {

void add_logits(Command program, Context& context) {
  struct Options {
    std::string model, config, text, out, device = "auto";
    std::vector<int32_t> ids;
    int seqlen = 512;
  };
  const auto o = std::make_shared<Options>();
  Command command =
      program.add_command("logits", "Write a model's logits for the first record of a text, or for token ids");
  command.add_option("MODEL", o->model, "The model's folder, or its id on the Hugging Face Hub").required();
  command.add_option("--config", o->config, "The folder of config.json and the tokenizer, when MODEL has none");
  Command input = command.add_choice("input");
  input.add_option("--text", o->text, ".jsonl, .json or .txt");
  input.add_option("--ids", o->ids, "Token ids: 1,80,147").delimiter(',');
  command.add_option("--out", o->out, "A safetensors file: ids [n] i64, logits [n, vocab] f32").required();
  command.add_option("--seqlen", o->seqlen, "Longest sequence, in tokens").range(2, 1 << 24).show_default();
  command.add_option("--device", o->device, "auto, cpu, cuda or cuda:N").show_default();
  command.set_action([&context, o] {
    require_kind(o->out, "file of logits", [](const auto& path) { return SafetensorsFolder(path).contains("logits"); });
    const std::string device = device_of(o->device);
    Catalogue catalogue = context.catalogue();
    const auto folder = find_model(o->model);
    const ModelFiles files(catalogue, o->config.empty() ? folder : find_model(o->config));
    files.require_config();
    const auto& config = files.folder();
    const auto [architecture, source, format] =
        files.read([&] { return open_model(catalogue, folder, config, Context::architecture_folders()); });
    const int seqlen = static_cast<int>(std::min<int64_t>(o->seqlen, architecture.max_positions()));
    std::vector<int32_t> ids = o->ids;
    if (!o->text.empty()) {
      const ChatTemplates chat(config, Calibration().date);
      const Tokenizer tokenizer = files.read([&] { return Tokenizer::load(config); });
      ids = evaluation_sequences(o->text, {.field = {}, .chat = &chat}, tokenizer, seqlen, architecture.vocab_size())
                .front();
    }
    for (const int32_t id : ids)
      if (id < 0 || id >= architecture.vocab_size())
        throw Error(cat("--ids: ", id, " is no token of the model's ", architecture.vocab_size()));
    const InputHook hook = activations_of(architecture, *source, catalogue, device).hook;
    Tensor stored(DType::kI64, {static_cast<int64_t>(ids.size())});
    std::copy(ids.begin(), ids.end(), stored.as<int64_t>());
    write_safetensors_file(o->out, {{"ids", stored}, {"logits", logits(architecture, *source, ids, hook, device)}});
  });
}

}  // namespace roundhouse::cli

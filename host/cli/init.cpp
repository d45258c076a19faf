// SPDX-License-Identifier: Apache-2.0
// roundhouse init MODEL --for ENGINE: a recipe that fits the model, the engine and the memory at hand.
#include <iostream>
#include <memory>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/machine.h"
#include "host/base/model_folder.h"
#include "host/base/suggest.h"
#include "host/base/words.h"
#include "host/cli/context.h"
#include "host/plan/mix.h"
#include "host/report/table.h"
#include "host/run/texts.h"
#include "host/yaml/yaml.h"

namespace roundhouse::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, engine, data, output, file;
};

// One of an engine's choices in configs/engines.yaml.
struct Candidate {
  std::string scheme, formats;
  bool tuned;
};

std::vector<Candidate> candidates_for(const std::string& engine) {
  const yaml::Node root = yaml::Node::load(Context::config_file("engines.yaml"));
  root.only({"version", "engines"});
  std::vector<std::string> engines;
  for (const auto& [name, choices] : root.at("engines").members()) {
    engines.push_back(name);
    if (name != engine) continue;
    std::vector<Candidate> candidates;
    for (const bool tuned : {true, false})
      for (const yaml::Node& choice : choices->as_list())
        candidates.push_back({choice.at("scheme").as_json().dump(), choice.at("formats").as_json().dump(), tuned});
    return candidates;
  }
  throw Error(cat("there is no engine \"", engine, "\"", suggest(engine, engines), "; --for takes: ", joined(engines)));
}

// As YAML takes any path.
std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

std::string recipe_text(const Options& o, const fs::path& model, const Candidate& candidate, int64_t seqlen,
                        const std::string& memory) {
  std::string text =
      cat("# For ", o.engine,
          ". Every key: docs/recipes.md, or `roundhouse schema`.\nversion: 1\nmodel: ", quoted(model.string()),
          "\noutput: ", quoted(o.output), "\nscheme: ", candidate.scheme, "\n");
  if (candidate.tuned) {
    text += cat("calibration:\n  data: ", quoted(o.data));
    if (fs::path(o.data) == Context::example_texts())
      text += "\n                              # short stories; texts of the kind that the model is for are better";
    text += cat("\n  samples: 128\n  seqlen: ", seqlen,
                "                 # more tokens take more time, and are more like the model's work\n",
                "  concatenate: true           # short texts are packed\ntuning:\n  iters: 200\n");
  } else {
    text += "tuning:\n  iters: 0                    # plain rounding: no texts, and little time\n";
  }
  return text + memory + "formats: " + candidate.formats + "\n";
}

// Half of what is free for the calibration's activations, where they would take more.
std::string memory_line(const Plan& plan) {
  const uint64_t free = available_memory(), needed = 2 * plan.activation_bytes;
  if (needed <= free / 2) return "";
  return cat("memory: ", free / 2 / 1'000'000, "MB  # of ", format_bytes(needed),
             " of activations; the others go to disk\n");
}

// Of "models/x/", the file "models/x.y" and "org/x@revision": x.
std::string short_name(const std::string& model) {
  fs::path path = fs::absolute(model).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  if (fs::is_regular_file(path)) path.replace_extension();
  const std::string name = path.filename().string();
  return name.substr(0, name.find('@'));
}

// Tokens of a sample.
int64_t choose_seqlen(Catalogue& catalogue, const fs::path& model) {
  constexpr int64_t kWanted = 512;
  Recipe bare;
  bare.model = model;
  try {
    return std::min(kWanted,
                    open_original(catalogue, bare, Context::architecture_folders()).architecture.max_positions());
  } catch (const Error&) {
    return kWanted;  // each attempt says why
  }
}

void write_recipe(Context& context, Options o) {
  const std::vector<Candidate> candidates = candidates_for(o.engine);
  const fs::path model = find_model(o.model);
  const std::string name = short_name(o.model);
  if (o.file.empty()) o.file = cat(name, "-", o.engine, ".yaml");
  if (o.output.empty()) o.output = cat(name, "-", o.engine);
  if (fs::exists(o.file)) throw Error(cat(o.file, " already exists; choose another --output"));
  o.data = fs::absolute(o.data.empty() ? Context::example_texts() : fs::path(o.data)).lexically_normal().string();

  Catalogue catalogue = context.catalogue();
  const int64_t seqlen = choose_seqlen(catalogue, model);
  std::string refused;
  for (const Candidate& candidate : candidates) {
    const auto fits = [&](const std::string& memory) {
      write_file(o.file, recipe_text(o, fs::absolute(model), candidate, seqlen, memory));
      const Recipe recipe = load_recipe(o.file, {}, Context::scheme_folders());
      const Original original = open_original(catalogue, recipe, Context::architecture_folders());
      Plan plan = plan_recipe(recipe, original, catalogue);
      load_texts(plan, original);
      return plan;
    };
    try {
      const Plan plan = fits("");
      if (const std::string memory = memory_line(plan); !memory.empty()) fits(memory);
      std::cout << "Wrote " << o.file << ": " << candidate.scheme << (candidate.tuned ? ", tuned" : ", plain rounding")
                << (plan.seconds_estimate ? cat(", some ", format_seconds(*plan.seconds_estimate), " on this processor")
                                          : "")
                << ". Next:\n  roundhouse plan " << shell_quoted(o.file) << "\n  roundhouse run "
                << shell_quoted(o.file) << "\n";
      return;
    } catch (const Error& e) {
      fs::remove(o.file);
      refused += cat("\n  ", candidate.scheme, candidate.tuned ? ", tuned: " : ", plain rounding: ", e.what());
    }
  }
  throw Error(cat("nothing that ", o.engine, " reads fits ", model.string(), ":", refused));
}

}  // namespace

void add_init(Command program, Context& context) {
  const auto o = std::make_shared<Options>();
  Command command =
      program.add_command("init", "Write a recipe that fits a model, an engine and this machine's memory");
  command.add_option("MODEL", o->model, "A folder, a file or a hub id").required();
  command
      .add_option("--for", o->engine, "The engine that will load the result: vllm, sglang, transformers or llama.cpp")
      .required();
  command.add_option("--data", o->data, "Texts for calibration (default: stories that ship with the program)")
      .type_name("FILE");
  command.add_option("--output", o->file, "The recipe (default: MODEL-ENGINE.yaml)").type_name("FILE");
  command.add_option("--result", o->output, "The recipe's output (default: MODEL-ENGINE)").type_name("DIR");
  command.set_action([&context, o] { write_recipe(context, *o); });
}

}  // namespace roundhouse::cli

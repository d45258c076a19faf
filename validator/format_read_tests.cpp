// SPDX-License-Identifier: Apache-2.0
// Reading what a format wrote.
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "host/base/files.h"
#include "validator/model.h"
#include "validator/services.h"

namespace roundhouse::validator {
namespace {

namespace fs = std::filesystem;

template <typename Body>
void for_kinds(Context& context, bool all, Body&& body) {
  const Started plugin(context.file);
  bool any = false;
  Skip last{""};
  for (const rh_format* format : plugin.formats()) {
    try {
      std::set<std::string> seen;
      for (const LayerKind& kind : accepted_kinds(format)) {
        any = true;
        if (!all && !seen.insert(kind.encoding).second) continue;
        body(format, kind);
        for (const auto& entry : fs::directory_iterator(context.scratch)) fs::remove_all(entry.path());
      }
    } catch (const Skip& s) {
      last = s;
    } catch (const Refused& r) {
      fail(r.call, "RH_OK: check took the layers", text("code ", r.code, ": ", printable(r.message.c_str())));
    }
  }
  if (!any) throw last;
}

void write_read(Context& context) {
  for_kinds(context, true, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1);
    write_model(format, model, context.scratch / "out");
    expect_model(model, read_model(format, context.scratch / "out"), kind.label());
  });
}

// Groups that differ between layers, and such as a data type may have chosen by itself.
void parameters(Context& context) {
  for_kinds(context, true, [&](const rh_format* format, const LayerKind& kind) {
    if (!kind.mixed && kind.group_cols != 48 && kind.group_cols != 96 && kind.group_cols != RH_GROUP_ROW) return;
    const Model model(kind, context.scratch / "model", 1);
    write_model(format, model, context.scratch / "out");
    expect_model(model, read_model(format, context.scratch / "out"), kind.label());
  });
}

void plan(Context& context) {
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1);
    ExportOptions options;
    options.check_errors = true;
    const Answers answers = ask_plan(format, model, options);
    expect(answers == ask_plan(format, model, options), kind.label(), "the same answers each time", "others");
    write_model(format, model, context.scratch / "out");
    const ReadItems items = read_model(format, context.scratch / "out");
    for (const auto& [name, answer] : answers) {
      const bool stored = items.count(name) > 0, omitted = answer.first == RH_TENSOR_OMITTED;
      expect(stored != omitted, "the plan for " + name,
             omitted ? "no such tensor in the checkpoint: it is omitted" : "the tensor in the checkpoint",
             stored ? "it is there" : "it is not there");
      if (!stored) continue;
      const int32_t kind_of = items.at(name).kind;
      expect(kind_of == (answer.first == RH_TENSOR_PACKED ? RH_ITEM_LAYER : RH_ITEM_TENSOR), "the plan for " + name,
             answer.first == RH_TENSOR_PACKED ? "a layer: it is packed" : "a tensor: it is copied",
             kind_of == RH_ITEM_LAYER ? "a layer" : "a tensor");
    }
    options.extra = true;
    ask_plan(format, model, options);
    options.extra = false;
    // Options that are none, and a plan of no tensor: an answer or an error.
    for (const std::string& garbage : garbage_options()) {
      options.options = garbage;
      try {
        ask_plan(format, model, options);
      } catch (const Refused&) {
      }
    }
    const rh_plan empty{sizeof empty, 0, 0, nullptr, "{}", "{}"};
    ErrorSlot error;
    const rh_code code = guarded("plan of no tensor", [&] {
      return format->plan(
          format, &empty, [](void*, uint64_t, int32_t, const char*) {}, nullptr, error.get());
    });
    error.check(code, "plan of no tensor");
  });
}

// What a checkpoint records beside its tensors, and the files within it.
void reader_facts(Context& context) {
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1);
    write_model(format, model, context.scratch / "out");
    const Opened opened(format, context.scratch / "out");
    rh_reader* reader = opened.reader();
    if (reader->facts_json) {
      const char* facts = nullptr;
      ErrorSlot error;
      const rh_code code = guarded("facts_json", [&] { return reader->facts_json(reader, &facts, error.get()); });
      error.check(code, "facts_json");
      if (code != RH_OK) fail("facts_json", "RH_OK", error.message());
      const auto parsed = nlohmann::json::parse(checked_text(facts, "facts_json"), nullptr, false);
      expect(parsed.is_object(), "facts_json", "a JSON object", printable(facts));
      for (const char* key : {"config", "tuning"})
        expect(!parsed.contains(key) || parsed[key].is_object(), text("facts_json: ", key), "an object",
               parsed.value(key, nlohmann::json()).dump());
    }
    if (!reader->side_file) return;
    for (const char* name : {"no-such-file.bin", "", "../config.json", "tokenizer.json", "config.json"}) {
      const std::string where = text("side_file of ", printable(name));
      int taken = 0;
      ErrorSlot error;
      const rh_code code = guarded(where, [&] {
        return reader->side_file(
            reader, name, [](void* count, const void*, uint64_t) { ++*static_cast<int*>(count); }, &taken, error.get());
      });
      error.check(code, where);
      expect(taken == (code == RH_OK), where, "one call of take with RH_OK, none with an error",
             text(taken, " calls and code ", code));
      const bool known = std::string(name) == "tokenizer.json" || std::string(name) == "config.json";
      expect(code == RH_NOT_FOUND || (known && code == RH_OK), where, known ? "RH_OK or RH_NOT_FOUND" : "RH_NOT_FOUND",
             text("code ", code));
    }
  });
}

// With the matrices of a tensor of all experts each by itself, as the plan has them.
ReadItems apart(const Model& model, ReadItems items) {
  for (const Model::Layer& layer : model.layers()) {
    const auto whole = items.find(layer.stack);
    if (whole == items.end()) continue;
    const Value& from = whole->second.value;
    expect(from.shape == std::vector<int64_t>{Model::kExperts, layer.cols, layer.rows}, layer.stack,
           "the shape that the source has", "another");
    Value matrix{from.type, {layer.rows, layer.cols}, std::vector<uint8_t>(from.bytes.size() / Model::kExperts)};
    const size_t size = from.type.bits / 8, bytes = matrix.bytes.size();
    for (int64_t r = 0; r < layer.rows; ++r)
      for (int64_t c = 0; c < layer.cols; ++c)
        std::memcpy(matrix.bytes.data() + static_cast<size_t>(r * layer.cols + c) * size,
                    from.bytes.data() + static_cast<size_t>(layer.index) * bytes +
                        static_cast<size_t>(c * layer.rows + r) * size,
                    size);
    items[layer.name + ".weight"] = {RH_ITEM_TENSOR, std::move(matrix), std::nullopt};
  }
  for (const Model::Layer& layer : model.layers()) items.erase(layer.stack);
  return items;
}

// Models that a format may refuse, with answers or as a whole; else it writes them.
template <typename Body>
void for_models_with(Context& context, const ModelParts& parts, const char* without, Body&& body) {
  bool any = false;
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1, parts);
    Answers answers;
    try {
      answers = ask_plan(format, model);
    } catch (const Refused&) {
      return;
    }
    if (!takes(answers)) return;
    any = true;
    write_model(format, model, context.scratch / "out");
    const ReadItems items = apart(model, read_model(format, context.scratch / "out"));
    expect_model(model, items, kind.label());
    body(format, model, answers, items);
  });
  if (!any) throw Skip{without};
}

void biases(Context& context) {
  for_models_with(context, {.biases = true}, "it refuses layers with a bias",
                  [&](const rh_format*, const Model& model, const Answers& answers, const ReadItems& items) {
                    for (const Model::Layer& layer : model.layers()) {
                      const std::string name = layer.name + ".bias";
                      if (answers.at(name).first != RH_TENSOR_OMITTED)
                        expect_tensor(name, *layer.bias, items, model.kind().label());
                    }
                  });
}

// The matrices of a stack come one by one, and are read back so, or as the tensor that the source has.
void stacks(Context& context) {
  for_models_with(
      context, {.experts = true}, "it refuses stacks of experts",
      [&](const rh_format* format, const Model& model, const Answers&, const ReadItems&) {
        const Opened opened(format, context.scratch / "out");
        rh_reader* reader = opened.reader();
        for (uint64_t i = 0; i < reader->count(reader); ++i) {
          rh_item item{};
          item.struct_size = sizeof item;
          ErrorSlot error;
          reader->item(reader, i, &item, error.get());
          if (!item.stack) continue;  // the reader does not say
          const std::string where = text("item of ", item.name, ": stack");
          const auto layer = std::find_if(model.layers().begin(), model.layers().end(),
                                          [&](const auto& l) { return l.name + ".weight" == item.name; });
          expect(layer != model.layers().end() && !layer->stack.empty(), where, "NULL", "a stack");
          const rh_stack& stack = *item.stack;
          expect(layer->stack == checked_text(stack.name, where), where, layer->stack, printable(stack.name));
          expect(stack.index == layer->index && stack.count == Model::kExperts, where,
                 text("matrix ", layer->index, " of ", Model::kExperts), text(stack.index, " of ", stack.count));
        }
      });
}

// Where a tensor is stored, as messages have it.
void places(Context& context) {
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1);
    const fs::path folder = context.scratch / "out";
    write_model(format, model, folder);
    uint64_t all = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) all += entry.file_size();
    const Opened opened(format, folder);
    rh_reader* reader = opened.reader();
    for (uint64_t i = 0; i < reader->count(reader); ++i) {
      rh_item item{};
      item.struct_size = sizeof item;
      ErrorSlot error;
      reader->item(reader, i, &item, error.get());
      const std::string where = text("item of ", item.name);
      expect(item.bytes <= all, where, text("at most the ", all, " bytes that there are"), text(item.bytes));
      if (!item.file) continue;
      const fs::path file = folder / checked_text(item.file, where + ": file");
      expect(fs::is_regular_file(file), where, "a file of the checkpoint", file.string());
      expect(item.offset + (item.bytes > 0) <= fs::file_size(file), where,
             text("an offset in its file of ", fs::file_size(file), " bytes"), text(item.offset));
    }
  });
}

void any_order(Context& context) {
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1);
    ExportOptions reversed;
    reversed.reversed = true;
    write_model(format, model, context.scratch / "out", reversed);
    expect_model(model, read_model(format, context.scratch / "out", reversed),
                 kind.label() + ", in the opposite order");
  });
}

void probe(Context& context) {
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const std::string id = format->descriptor->id;
    const auto score = [&](const fs::path& folder) {
      return guarded("probe of " + id, [&] { return format->probe(format, folder.c_str()); });
    };
    const Model model(kind, context.scratch / "model", 1);
    write_model(format, model, context.scratch / "out");
    expect(score(context.scratch / "out") > 0, "probe of " + id, "a score above 0 for what it wrote", "0");
    fs::create_directories(context.scratch / "empty");
    for (const char* other : {"model", "empty", "no such folder"})
      expect(score(context.scratch / other) <= 0, "probe of " + id, text("0 for the folder \"", other, "\""),
             "a higher score");
    // A file that the format claims is a checkpoint by itself.
    for (const auto& entry : fs::recursive_directory_iterator(context.scratch / "out"))
      if (entry.is_regular_file() && score(entry.path()) > 0)
        expect_model(model, read_model(format, entry.path()), "open of the file " + entry.path().filename().string());
    fs::create_directories(context.scratch / "damaged");
    std::ofstream(context.scratch / "damaged/config.json") << "{\"quantization_config\": [";
    score(context.scratch / "damaged");
  });
}

void deterministic(Context& context) {
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1);
    std::map<std::string, std::string> first;
    for (const bool second : {false, true}) {
      write_model(format, model, context.scratch / "out");
      std::map<std::string, std::string> files;
      for (const auto& entry : fs::recursive_directory_iterator(context.scratch / "out"))
        if (entry.is_regular_file())
          files[fs::relative(entry.path(), context.scratch).string()] = read_file(entry.path());
      if (!second) first = files;
      for (const auto& [name, bytes] : files)
        expect(first.count(name) && first[name] == bytes, kind.label(), "the same bytes each time", name + " differs");
      fs::remove_all(context.scratch / "out");
    }
  });
}

void interleaved(Context& context) {
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1), other(kind, context.scratch / "model", 77);
    Export first(format, model, context.scratch / "a"), second(format, other, context.scratch / "b");
    for (bool more = true; more;) {
      more = first.step();
      more |= second.step();
    }
    first.finish();
    second.finish();
    expect_model(model, read_model(format, context.scratch / "a"), kind.label() + ", beside a second export");
    expect_model(other, read_model(format, context.scratch / "b"), kind.label() + ", beside a second export");
  });
}

void threads(Context& context) {
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1);
    faults.schedule = Schedule::kThreads;
    write_model(format, model, context.scratch / "out");
    expect_model(model, read_model(format, context.scratch / "out"), kind.label() + ", on four threads");
    faults.schedule = Schedule::kInOrder;
  });
}

// Cut off, and with bytes changed: an error or other numbers, never a crash.
void damaged(Context& context) {
  for_kinds(context, false, [&](const rh_format* format, const LayerKind& kind) {
    const Model model(kind, context.scratch / "model", 1);
    write_model(format, model, context.scratch / "out");
    std::mt19937 random(3);
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(context.scratch / "out"))
      if (entry.is_regular_file() && entry.file_size() > 0) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      const std::string whole = read_file(file);
      for (int i = 0; i < 24; ++i) {
        std::string bytes = whole;
        if (i < 8)
          bytes.resize(bytes.size() * static_cast<size_t>(i) / 8);
        else  // most of what matters stands at the beginning
          for (int k = 0; k < 4; ++k)
            bytes[random() % std::min<size_t>(bytes.size(), i < 16 ? 64 : 2000)] ^=
                static_cast<char>(1 + random() % 255);
        std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
        at("open of a damaged " + file.filename().string());
        guarded("probe", [&] { return format->probe(format, (context.scratch / "out").c_str()); });
        try {
          ExportOptions options;
          options.check_errors = true;
          read_model(format, context.scratch / "out", options);
        } catch (const Refused&) {
        } catch (const Failure& f) {
          // What a damaged file names its tensors is not the plugin's doing.
          if (f.where.rfind("item", 0) != 0 && f.where.rfind("count", 0) != 0) throw;
        }
        expect(use.open_readers == 0, "after a damaged " + file.filename().string(),
               "every safetensors reader ends in close", text(use.open_readers, " are open"));
      }
      std::ofstream(file, std::ios::binary | std::ios::trunc) << whole;
    }
    ErrorSlot error;
    const rh_open source{sizeof source, 0, "no such folder", "{}", nullptr};
    rh_reader* reader = nullptr;
    const rh_code code =
        guarded("open of no folder", [&] { return format->open(format, &source, &reader, error.get()); });
    error.check(code, "open of no folder");
    expect(code != RH_OK, "open of no folder", "an error", "RH_OK");
  });
}

std::map<std::string, std::string> files_in(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  return files;
}

void lint_rules(Context& context) {
  bool any = false;
  for_kinds(context, true, [&](const rh_format* format, const LayerKind& kind) {
    if (kind.mixed) return;  // engines fuse what has several groups there
    const Model model(kind, context.scratch / "model", 1);
    const fs::path out = context.scratch / "out";
    write_model(format, model, out);
    const auto before = files_in(out);
    const auto all = lint(format, out);
    if (!all) return;
    any = true;
    const std::string where = "lint of what was written, " + kind.label();
    for (const bool architecture : {true, false}) {
      const auto found = lint(format, out, nullptr, architecture);
      for (const Finding& finding : *found)
        expect(finding.severity != RH_FINDING_ERROR, where, "no error", printable(finding.text.c_str()));
    }
    expect(lint(format, out) == all, where, "the same findings each time", "others");
    for (const char* engine : {"vllm", "no such engine"}) {
      const auto found = lint(format, out, engine);
      for (const Finding& finding : *found)
        expect(finding.engine.empty() || finding.engine == engine, text("lint for ", engine),
               "findings of that engine and of every one", printable(finding.engine.c_str()));
    }
    expect(files_in(out) == before, where, "a folder as it was", "a file has changed");
    for (const auto& [name, bytes] : before) {
      for (const size_t size : {size_t{0}, bytes.size() / 3, bytes.size() / 2, bytes.size() - 1}) {
        std::ofstream(out / name, std::ios::binary | std::ios::trunc) << bytes.substr(0, size);
        at("lint with a damaged " + name);
        try {
          for (const char* engine : {static_cast<const char*>(nullptr), "vllm", "llama.cpp"}) {
            const auto found = lint(format, out, engine);
            for (const Finding& finding : *found)
              expect(!engine || finding.engine.empty() || finding.engine == engine, text("lint for ", engine),
                     "findings of that engine and of every one", printable(finding.engine.c_str()));
          }
        } catch (const Refused&) {
        }
        expect(use.open_readers == 0, "after lint with a damaged " + name, "every safetensors reader ends in close",
               text(use.open_readers, " are open"));
      }
      std::ofstream(out / name, std::ios::binary | std::ios::trunc) << bytes;
    }
  });
  if (!any) throw Skip{"no format looks for what engines stumble over"};
}

}  // namespace

void add_format_read_tests(std::vector<Test>& tests) {
  tests.insert(
      tests.end(),
      {{"format.write-read", "what was added is read back: names, tensors, the weights that the codes mean", "format.h",
        write_read},
       {"format.plan", "plan says of each tensor once what is done with it, and so it is done", "format.h", plan},
       {"format.parameters", "layers are described by their encodings: groups of any width, and of several in a plan",
        "encoding.h", parameters},
       {"format.bias", "a layer's bias comes with the layer, and is stored unless plan omits or refuses it", "format.h",
        biases},
       {"format.stacks",
        "experts come one by one, and are stored so or as the source has them; an item's stack is its own", "format.h",
        stacks},
       {"format.places", "an item's file, offset and bytes are those of the checkpoint", "format.h", places},
       {"format.facts", "facts_json is an object; side_file hands out what the checkpoint holds, or RH_NOT_FOUND",
        "format.h", reader_facts},
       {"format.any-order", "layers and tensors come and are read in any order", "format.h", any_order},
       {"format.probe", "probe is above 0 for the format's own checkpoints, and 0 for others; what it claims opens",
        "format.h", probe},
       {"format.deterministic", "the same calls write the same bytes", "host.h", deterministic},
       {"format.instances", "two exports do not disturb each other", "format.h", interleaved},
       {"format.threads", "what is written does not depend on the thread count", "host.h", threads},
       {"format.lint", "lint finds no error in what was just written, says the same each time, and changes nothing",
        "ext/lint.h", lint_rules},
       {"format.damaged", "a damaged checkpoint gives an error", "format.h", damaged}});
}

}  // namespace roundhouse::validator

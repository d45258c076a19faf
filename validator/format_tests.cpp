// SPDX-License-Identifier: Apache-2.0
// Writing through a format: what it asks of its host, faults of the disk, and the ends of an export.
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <roundhouse/plugin.hpp>

#include "host/base/files.h"
#include "validator/model.h"
#include "validator/services.h"

namespace roundhouse::validator {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kRounds = 16;
constexpr int kMostFaults = 400;

// body(format, its kinds) for each format that takes one.
template <typename Body>
void for_formats(Context& context, Body&& body) {
  const Started plugin(context.file);
  bool any = false;
  Skip last{""};
  for (const rh_format* format : plugin.formats()) {
    try {
      const std::vector<LayerKind> kinds = accepted_kinds(format);
      any = true;
      body(format, kinds);
    } catch (const Skip& s) {
      last = s;
    } catch (const Refused& r) {
      fail(r.call, "RH_OK: check took the layers", text("code ", r.code, ": ", printable(r.message.c_str())));
    }
  }
  if (!any) throw last;
}

// The first of each encoding.
std::vector<LayerKind> few(const std::vector<LayerKind>& kinds) {
  std::vector<LayerKind> out;
  std::set<std::string> seen;
  for (const LayerKind& kind : kinds)
    if (seen.insert(kind.encoding + (kind.activation ? " with input" : "")).second) out.push_back(kind);
  return out;
}

std::map<std::string, std::string> files_in(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) out[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  return out;
}

// Nothing that the plugin opened through the host is open any more.
void expect_closed(const std::string& where) {
  expect(use.open_files == 0, where, "every file of the output extension ends in commit or discard",
         text(use.open_files, " are open"));
  expect(use.open_writers == 0, where, "every safetensors writer ends in finish or abort",
         text(use.open_writers, " are open"));
  expect(use.open_readers == 0, where, "every safetensors reader ends in close", text(use.open_readers, " are open"));
}

void check_rules(Context& context) {
  const Started plugin(context.file);
  for (const rh_format* format : plugin.formats()) {
    const std::string id = format->descriptor->id;
    std::set<std::string> taken;
    for (const LayerKind& kind : layer_kinds())
      for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{256, 256}, {33, 96}, {1, 256}}) {
        if (kind.encoding == RH_ENCODING_GGML_BLOCK && cols % 256 != 0) continue;
        ErrorSlot error;
        const rh_code code = check_layer(format, kind, rows, cols, error);
        error.check(code, text("check of ", id, ", ", kind.label()));
        if (code == RH_OK) taken.insert(kind.encoding);
      }
    std::set<std::string> listed(format->descriptor->encodings,
                                 format->descriptor->encodings + format->descriptor->encoding_count);
    for (const std::string& encoding : taken)
      expect(listed.count(encoding) || listed.count("*"), id + ": encodings", encoding + ", which check takes",
             "it is not listed");
    for (const std::string& encoding : listed) {
      const bool ours = std::any_of(layer_kinds().begin(), layer_kinds().end(),
                                    [&](const LayerKind& r) { return r.encoding == encoding; });
      if (ours && !taken.count(encoding))
        context.warnings.push_back(text(id, ": lists ", encoding, ", but check took none of the layers tried"));
    }
  }
}

void garbage(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const Model model(kinds[0], context.scratch / "model", 1);
    for (const std::string& garbage : garbage_options()) {
      ErrorSlot error;
      const rh_code code = check_layer(format, kinds[0], 256, 256, error, garbage);
      error.check(code, text("check with the options ", garbage.substr(0, 80)));
      ExportOptions options;
      options.check_errors = true;
      options.options = garbage;
      try {
        write_model(format, model, context.scratch / "out", options);
      } catch (const Refused&) {
      }
      expect_closed(text("an export with the options ", garbage.substr(0, 80)));
      fs::remove_all(context.scratch / "out");
    }
  });
}

// Blanks and the order of keys change nothing: not of no options, nor of those that an alias stands for.
void options_json(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const rh_format_descriptor& d = *format->descriptor;
    std::set<std::string> all{"{}"};
    for (uint32_t i = 0; i < d.alias_count; ++i) all.insert(d.aliases[i]->options_json);
    const char* rule = "options are compared as JSON values: blanks and the order of keys change nothing";
    for (const std::string& given : all)
      for (const std::string& same : same_json(given))
        for (const LayerKind& kind : few(kinds)) {
          const std::string where = text("the options ", given, ", ", kind.label());
          ErrorSlot error, same_error;
          const rh_code code = check_layer(format, kind, 256, 256, error, given);
          expect(code == check_layer(format, kind, 256, 256, same_error, same), "check with " + where, rule,
                 "another answer");
          if (code != RH_OK) continue;
          const Model model(kind, context.scratch / "model", 1);
          const auto written = [&](const std::string& options) {
            ExportOptions export_options;
            export_options.options = options;
            std::map<std::string, std::string> files;
            try {
              write_model(format, model, context.scratch / "out", export_options);
              files = files_in(context.scratch / "out");
            } catch (const Refused& r) {
              files["refused"] = r.message;
            }
            fs::remove_all(context.scratch / "out");
            return files;
          };
          expect(written(given) == written(same), "an export with " + where, rule, "another result");
        }
  });
}

// Cancelled before it begins, and while layers are added; and when it is read.
void cancel(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const LayerKind& kind = kinds[0];
    const Model model(kind, context.scratch / "model", 1);
    volatile int32_t cancelled = 0;
    ExportOptions options;
    options.check_errors = true;
    options.cancelled = &cancelled;
    const auto expect_cancelled = [&](const Refused& r) {
      expect(r.code == RH_CANCELLED, r.call, "RH_CANCELLED, or the whole result", text("code ", r.code));
    };
    for (const int before : {0, 1, 3}) {
      const std::string where = text(kind.label(), ", cancelled before call ", before);
      cancelled = before == 0;
      try {
        {
          Export target(format, model, context.scratch / "out", options);
          for (int i = 0; i < before; ++i) target.step();
          cancelled = 1;
          while (target.step()) continue;
          target.finish();
        }
        expect_model(model, read_model(format, context.scratch / "out"), where);
      } catch (const Refused& r) {
        expect_cancelled(r);
        expect(!fs::exists(context.scratch / "out"), where, "no folder", "there is one");
      }
      expect_closed(where);
      fs::remove_all(context.scratch / "out");
    }
    for (int64_t begun = 1;; begun += begun / 2 + 1) {
      const std::string where = text(kind.label(), ", cancelled when ", begun, " chunks and writes had begun");
      const CancelAfter cancel(begun);
      ExportOptions late = options;
      late.cancelled = cancel.flag();
      try {
        write_model(format, model, context.scratch / "out", late);
        expect_model(model, read_model(format, context.scratch / "out"), where);
      } catch (const Refused& r) {
        expect_cancelled(r);
        expect(!fs::exists(context.scratch / "out"), where, "no folder", "there is one");
      }
      expect_closed(where);
      fs::remove_all(context.scratch / "out");
      if (!cancel.cancelled()) break;
    }
    write_model(format, model, context.scratch / "out");
    try {
      expect_model(model, read_model(format, context.scratch / "out", options), kind.label() + ", read when cancelled");
    } catch (const Refused& r) {
      expect_cancelled(r);
    }
    expect_closed(kind.label() + ", read when cancelled");
    fs::remove_all(context.scratch / "out");
  });
}

void no_facts(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const Model model(kinds[0], context.scratch / "model", 1);
    ExportOptions options;
    options.check_errors = true;
    options.facts = false;
    try {
      write_model(format, model, context.scratch / "out", options);
    } catch (const Refused&) {
    }
    expect_closed("an export where the host knows no fact");
  });
}

void bare_host(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const Model model(kinds[0], context.scratch / "model", 1);
    faults.extensions = false;
    ExportOptions options;
    options.check_errors = true;
    try {
      write_model(format, model, context.scratch / "out", options);
    } catch (const Refused&) {
    }
    faults.extensions = true;
  });
}

void inputs(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    for (const LayerKind& kind : few(kinds)) {
      ExportOptions options;
      options.check_inputs = true;
      write_model(format, Model(kind, context.scratch / "model", 1), context.scratch / "out", options);
      fs::remove_all(context.scratch / "out");
    }
  });
}

void kept_pointers(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    for (const LayerKind& kind : few(kinds)) {
      const Model model(kind, context.scratch / "model", 1);
      ExportOptions options;
      options.seal = true;
      write_model(format, model, context.scratch / "out", options);
      expect_model(model, read_model(format, context.scratch / "out"), kind.label());
      fs::remove_all(context.scratch / "out");
    }
  });
}

void struct_size(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    ExportOptions options;
    options.grow = 64;
    for (const LayerKind& kind : kinds) {
      ErrorSlot error;
      const rh_code code = check_layer(format, kind, 256, 256, error, "{}", options.grow);
      expect(code == RH_OK, "check with larger structs, " + kind.label(), "RH_OK", text("code ", code));
    }
    const Model model(kinds[0], context.scratch / "model", 1);
    write_model(format, model, context.scratch / "out", options);
    expect_model(model, read_model(format, context.scratch / "out", options), kinds[0].label());
  });
}

// ---- the ends ----

void abort(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const Model model(kinds[0], context.scratch / "model", 1);
    const auto source = files_in(context.scratch / "model");
    const fs::path cwd = fs::current_path();
    const fs::path work = context.scratch / "work";
    fs::create_directories(work);
    fs::current_path(work);
    const size_t descriptors = descriptor_count();
    for (const int layers : {0, 1, 3, -1}) {
      ExportOptions options;
      options.layers = layers;
      {
        Export target(format, model, context.scratch / "out", options);
        while (target.step()) continue;
        target.abort();
        expect_closed("abort");
      }
      expect(!fs::exists(context.scratch / "out"), "abort", "no folder", "there is one");
    }
    expect(descriptor_count() == descriptors, "abort", text(descriptors, " open files, as before"),
           text(descriptor_count()));
    expect(files_in(context.scratch / "model") == source, "abort", "the source checkpoint as it was", "changed");
    for (const auto& entry : fs::recursive_directory_iterator(context.scratch))
      expect(entry.is_directory() || fs::relative(entry.path(), context.scratch).begin()->string() == "model", "abort",
             "no file but through the output extension", entry.path().filename().string());
    fs::current_path(cwd);
  });
}

void only_output(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const Model model(kinds[0], context.scratch / "model", 1);
    const auto source = files_in(context.scratch / "model");
    const fs::path cwd = fs::current_path();
    fs::create_directories(context.scratch / "work");
    fs::current_path(context.scratch / "work");
    write_model(format, model, context.scratch / "out");
    fs::current_path(cwd);
    expect_closed("finish");
    expect(files_in(context.scratch / "model") == source, "finish", "the source checkpoint as it was", "changed");
    for (const auto& entry : fs::recursive_directory_iterator(context.scratch)) {
      const std::string name = fs::relative(entry.path(), context.scratch).string();
      const bool known = name == "work" || name.rfind("model", 0) == 0 || name.rfind("out", 0) == 0;
      expect(known, "finish", "no file but through the output extension", name);
    }
  });
}

// The disk is full at the first write, at the second, and so on, until none fails.
void full_disk(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const Model model(kinds[0], context.scratch / "model", 1);
    for (int run = 0;; ++run) {
      const int writes = run / 2;
      faults.writes_until_full = writes;
      faults.full_once = run % 2 == 1;  // who does not look at each result loses what the others then hide
      use = {};
      bool refused = false;
      const std::string where = text("an export whose write ", writes + 1, " fails");
      try {
        ExportOptions options;
        options.check_errors = true;
        Export target(format, model, context.scratch / "out", options);
        for (int i = 0; target.step(); ++i)
          if (i == 1 && resume_of(format)) target.save();
        target.finish();
      } catch (const Refused&) {
        refused = true;
      }
      faults.writes_until_full = -1;
      expect_closed(where);
      expect(refused == (use.failed > 0), where, use.failed ? "an error, from add or finish" : "RH_OK",
             refused ? "an error" : "RH_OK: the loss is unseen");
      expect(!refused || !fs::exists(context.scratch / "out"), where, "no folder that looks whole", "there is one");
      fs::remove_all(context.scratch / "out");
      if (use.failed == 0) return;
      if (writes > kMostFaults) {
        context.warnings.push_back(
            text(format->descriptor->id, ": more than ", kMostFaults, " writes for a tiny model"));
        return;
      }
    }
  });
}

// ---- going on in another process ----

// The first steps of an export, in a process that is gone without an end: `before` and then saved, `lost` more, and
// with `finished` the writer's finish. Returns what was saved.
std::string save_elsewhere(const rh_format* format, const Model& model, const fs::path& scratch, int before, int lost,
                           bool finished) {
  const fs::path answer = scratch / "answer";
  const pid_t pid = ::fork();
  if (pid == 0) {
    json said;
    const auto failed = [&](const std::string& where, const std::string& expected, const std::string& actual) {
      said = {{"where", where}, {"expected", expected}, {"actual", actual}};
    };
    try {
      ExportOptions options;
      options.unfinished = Partial::kKeep;
      Export target(format, model, scratch / "out", options);
      for (int i = 0; i < before; ++i) target.step();
      const std::string saved = target.save();
      for (int i = 0; i < lost; ++i) target.step();
      if (finished) target.finish_writer();
      said["saved"] = json::binary({saved.begin(), saved.end()});
    } catch (const Failure& f) {
      failed(f.where, f.expected, f.actual);
    } catch (const Refused& r) {
      failed(r.call, "RH_OK", text("code ", r.code, ": ", printable(r.message.c_str())));
    } catch (const std::exception& e) {
      failed(place(), "an answer that the host can use", e.what());
    }
    const std::vector<uint8_t> bytes = json::to_cbor(said);
    std::ofstream(answer, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    ::_exit(EXIT_SUCCESS);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  expect(WIFEXITED(status) && fs::exists(answer), place(), "the call returns", "the process ended");
  const std::string bytes = read_file(answer);
  const json said = json::from_cbor(bytes.begin(), bytes.end());
  if (!said.contains("saved")) fail(said.at("where"), said.at("expected"), said.at("actual"));
  const auto& saved = said.at("saved").get_binary();
  return {saved.begin(), saved.end()};
}

void expect_same_files(const std::map<std::string, std::string>& expected, const fs::path& folder,
                       const std::string& where) {
  const auto files = files_in(folder);
  const char* const rule = "the same files as of an export without a break";
  for (const auto& [name, bytes] : files) expect(expected.count(name), where, rule, "also " + name);
  for (const auto& [name, bytes] : expected)
    expect(files.count(name) && files.at(name) == bytes, where, rule,
           name + (files.count(name) ? " is another one" : " is missing"));
}

bool takes_experts(const rh_format* format, const LayerKind& kind, const fs::path& scratch) {
  try {
    return takes(ask_plan(format, Model(kind, scratch / "model", 1, {.experts = true})));
  } catch (const Refused&) {
    return false;
  }
}

void resume(Context& context) {
  bool any = false;
  const fs::path out = context.scratch / "out";
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    if (!resume_of(format)) return;
    any = true;
    for (const LayerKind& kind : few(kinds)) {
      const Model model(kind, context.scratch / "model", 1, {.experts = takes_experts(format, kind, context.scratch)});
      write_model(format, model, context.scratch / "whole");
      const auto whole = files_in(context.scratch / "whole");
      fs::remove_all(context.scratch / "whole");
      int steps = 0;
      {
        Export target(format, model, out);  // the writer goes on after it was saved
        steps = target.steps();
        while (target.step()) target.save();
        target.finish();
        expect_same_files(whole, out, "an export that was saved after each call, " + kind.label());
        expect_closed("an export that was saved");
        fs::remove_all(out);
      }
      std::string saved;
      for (const auto& [before, lost] : {std::pair{0, 0}, {1, 2}, {2, 0}, {3, steps - 3}, {5, 1}, {steps, 0}}) {
        const std::string where =
            text(kind.label(), ", saved after ", before, " calls and restored after ", lost, " more");
        saved = save_elsewhere(format, model, context.scratch, before, lost, before + lost == steps);
        use = {};
        ExportOptions options;
        options.unfinished = Partial::kTakeUp;
        options.saved = &saved;
        Export target(format, model, out, options);
        target.skip(before);
        while (target.step()) continue;
        target.finish();
        expect_closed(where);
        expect_same_files(whole, out, where);
        fs::remove_all(out);
      }
      for (const std::string& damaged : {std::string(), std::string("x"), saved.substr(0, saved.size() / 2)}) {
        save_elsewhere(format, model, context.scratch, 2, 0, false);
        use = {};
        ExportOptions options;
        options.unfinished = Partial::kTakeUp;
        options.saved = &damaged;
        options.check_errors = true;
        try {
          const Export target(format, model, out, options);
        } catch (const Refused&) {
        }
        expect_closed("restore from damaged bytes");
        fs::remove_all(fs::path(out) += ".partial");
      }
    }
  });
  if (!any) throw Skip{"no format resumes"};
}

void incomplete(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const Model model(kinds[0], context.scratch / "model", 1);
    for (const int layers : {0, 1}) {
      ExportOptions options;
      options.layers = layers;
      options.check_errors = true;
      try {
        write_model(format, model, context.scratch / "out", options);
      } catch (const Refused&) {
      }
      expect_closed("finish of an incomplete export");
      fs::remove_all(context.scratch / "out");
    }
  });
}

void errors(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    ExportOptions options;
    options.check_errors = true;
    for (const LayerKind& kind : few(kinds)) {
      const Model model(kind, context.scratch / "model", 1);
      write_model(format, model, context.scratch / "out", options);
      read_model(format, context.scratch / "out", options);
      fs::remove_all(context.scratch / "out");
    }
  });
}

void leaks(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const Model model(kinds[0], context.scratch / "model", 1);
    const auto round = [&](bool ends) {
      ExportOptions options;
      options.layers = ends ? -1 : 2;
      if (ends) {
        write_model(format, model, context.scratch / "out", options);
        read_model(format, context.scratch / "out");
        fs::remove_all(context.scratch / "out");
      } else {
        Export target(format, model, context.scratch / "out", options);
        while (target.step()) continue;
      }
    };
    for (const bool ends : {true, false}) {
      for (int i = 0; i < 3; ++i) round(ends);
      const size_t before = allocated_bytes(), descriptors = descriptor_count();
      for (int i = 0; i < kRounds; ++i) round(ends);
      const size_t after = allocated_bytes();
      const std::string where = text(kRounds, ends ? " exports, written and read" : " exports, aborted");
      expect(after < before + 8 * kRounds, where, "memory given back",
             text((after - before) / kRounds, " bytes more each"));
      expect(descriptor_count() == descriptors, where, "files closed", text(descriptor_count() - descriptors, " more"));
    }
  });
}

void no_threads(Context& context) {
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const size_t before = thread_count();
    write_model(format, Model(kinds[0], context.scratch / "model", 1), context.scratch / "out");
    read_model(format, context.scratch / "out");
    expect(thread_count() == before, "after an export", text(before, " threads, as before"), text(thread_count()));
  });
}

void process_state(Context& context) {
  leftovers.on = leftovers.own_files = true;
  for_formats(context, [&](const rh_format* format, const std::vector<LayerKind>& kinds) {
    const size_t before = descriptor_count();
    write_model(format, Model(kinds[0], context.scratch / "model", 1), context.scratch / "out");
    read_model(format, context.scratch / "out");
    expect_nothing_left();
    expect(descriptor_count() == before, "after an export", text(before, " open files, as before"),
           text(descriptor_count()));
  });
}

void assign(Context& context) {
  const Started plugin(context.file);
  bool any = false;
  for (const rh_format* format : plugin.formats()) {
    if (!format->get_extension) continue;
    const auto* table = static_cast<const rh_assign*>(
        guarded("get_extension", [&] { return format->get_extension(format, RH_EXT_ASSIGN); }));
    if (!table) continue;
    any = true;
    expect(table->struct_size >= sizeof(rh_assign) && table->assign, "rh_assign", "a whole table", "NULL or smaller");
    const Model model(layer_kinds()[0], context.scratch / "model", 1);
    json asked{{"data_type", "q4_k"}, {"layers", json::array()}};
    for (const Model::Layer& layer : model.layers())
      asked["layers"].push_back(
          {{"name", layer.name}, {"role", layer.role}, {"rows", layer.rows}, {"cols", layer.cols}});
    const std::string plan = asked.dump(), architecture = Model::architecture();
    std::vector<std::string> options = garbage_options();
    options.push_back("{}");
    for (const std::string& text_options : options) {
      std::vector<std::string> taken;
      ErrorSlot error;
      const std::string where = "assign with the options " + text_options.substr(0, 80);
      const rh_code code = guarded(where, [&] {
        return table->assign(
            format, plan.c_str(), architecture.c_str(), text_options.c_str(),
            [](void* list, const char* answer) {
              static_cast<std::vector<std::string>*>(list)->push_back(answer ? answer : "");
            },
            &taken, error.get());
      });
      error.check(code, where);
      if (code != RH_OK) continue;
      expect(taken.size() == 1, where, "one call of take", text(taken.size()));
      const json answer = json::parse(taken[0], nullptr, false);
      expect(answer.is_object(), where, "a JSON object", printable(taken[0].c_str()));
      for (const auto& [layer, scheme] : answer.items())
        expect(scheme.is_object() && scheme.contains("data_type"), where, layer + ": an object with a data_type",
               scheme.dump());
    }
  }
  if (!any) throw Skip{"no format assigns data types"};
}

}  // namespace

void add_format_tests(std::vector<Test>& tests) {
  tests.insert(
      tests.end(),
      {{"format.check", "check takes layers in the encodings that the descriptor lists, or says why not", "format.h",
        check_rules},
       {"format.garbage-options", "options that are not what the schema says give an error in words, or are ignored",
        "format.h", garbage},
       {"format.options-json", "options are compared as JSON values, never as text", "format.h", options_json},
       {"format.cancel", "a cancelled call returns RH_CANCELLED, or has done its work", "format.h", cancel},
       {"format.no-facts", "an unknown fact of the model is NULL; the format says what it lacks", "host.h", no_facts},
       {"format.bare-host", "a plugin works without an extension, or says what it lacks", "host.h", bare_host},
       {"format.errors", "a failure returns a code and fills rh_error with it and a terminated message", "abi.h",
        errors},
       {"format.inputs", "inputs are read only", "format.h", inputs},
       {"format.kept-pointers", "pointers are borrowed for the call", "abi.h", kept_pointers},
       {"format.struct-size", "readers compare struct_size with >= and ignore what they do not know", "abi.h",
        struct_size},
       {"format.abort", "abort frees the writer; no file is left", "format.h", abort},
       {"format.only-output", "files are written through the output extension only, and each ends in commit or discard",
        "ext/output.h", only_output},
       {"format.full-disk", "a short write or a full disk is an error of the export, wherever it happens", "host.h",
        full_disk},
       {"format.resume", "a writer that was saved goes on in another process, and finish gives the same bytes",
        "ext/resume.h", resume},
       {"format.incomplete", "finish frees the writer whatever the result", "format.h", incomplete},
       {"format.leaks", "finish, abort and close give back what the calls took", "format.h", leaks},
       {"format.no-threads", "plugins start no threads", "host.h", no_threads},
       {"format.process-state", kProcessState, "entry.h", process_state},
       {"format.assign", "assign answers once, with data types by layer", "ext/assign.h", assign}});
}

}  // namespace roundhouse::validator

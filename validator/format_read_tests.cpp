// Reading what a format wrote.
#include <fstream>
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
    }
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

}  // namespace

void add_format_read_tests(std::vector<Test>& tests) {
  tests.insert(
      tests.end(),
      {{"format.write-read", "what was added is read back: names, tensors, the weights that the codes mean", "format.h",
        write_read},
       {"format.plan", "plan says of each tensor once what is done with it, and so it is done", "format.h", plan},
       {"format.parameters", "layers are described by their encodings: groups of any width, and of several in a plan",
        "encoding.h", parameters},
       {"format.any-order", "layers and tensors come and are read in any order", "format.h", any_order},
       {"format.probe", "probe is above 0 for the format's own checkpoints, and 0 for others", "format.h", probe},
       {"format.deterministic", "the same calls write the same bytes", "host.h", deterministic},
       {"format.instances", "two exports do not disturb each other", "format.h", interleaved},
       {"format.threads", "what is written does not depend on the thread count", "host.h", threads},
       {"format.damaged", "a damaged checkpoint gives an error", "format.h", damaged}});
}

}  // namespace roundhouse::validator

// SPDX-License-Identifier: Apache-2.0
// How a data type behaves when it is called: errors, memory, threads, lifetimes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <thread>

#include "validator/pipeline.h"
#include "validator/services.h"

namespace roundhouse::validator {
namespace {

constexpr int kRounds = 24;

// ---- plan time ----

void honest_support(Context& context) {
  const Started plugin(context.file);
  std::vector<Case> cases;
  try {
    cases = accepted_cases(plugin);
  } catch (const Skip&) {
  }
  for (const rh_dtype* dtype : plugin.dtypes()) {
    const uint32_t supports = dtype->descriptor->supports;
    const std::string id = dtype->descriptor->id;
    std::set<uint32_t> taken;
    for (const Case& c : cases) {
      if (c.dtype != dtype) continue;
      taken.insert(c.is_weight() ? RH_SUPPORTS_WEIGHTS : RH_SUPPORTS_ACTIVATIONS);
      if (c.scheme.rounding == RH_ROUNDING_SEARCH) taken.insert(RH_SUPPORTS_SEARCH);
      if (c.scheme.rounding == RH_ROUNDING_TUNED_SEARCH) taken.insert(RH_SUPPORTS_TUNED_SEARCH);
    }
    const auto compare = [&](uint32_t bit, const char* name) {
      if (taken.count(bit))
        expect(supports & bit, id + ": supports", text(name, ": check takes them"), "the bit is not set");
      else if (supports & bit)
        context.warnings.push_back(
            text(id, ": supports says ", name, ", but check took none of those that were tried"));
    };
    compare(RH_SUPPORTS_WEIGHTS, "RH_SUPPORTS_WEIGHTS");
    compare(RH_SUPPORTS_ACTIVATIONS, "RH_SUPPORTS_ACTIVATIONS");
    if (supports & RH_SUPPORTS_WEIGHTS) {
      compare(RH_SUPPORTS_SEARCH, "RH_SUPPORTS_SEARCH");
      compare(RH_SUPPORTS_TUNED_SEARCH, "RH_SUPPORTS_TUNED_SEARCH");
    }
    for (const Case& c : cases) {
      if (c.dtype != dtype || !c.is_weight() || !c.tuned() || !(supports & RH_SUPPORTS_TUNING)) continue;
      const Pipeline pipeline(c, random_input(c));
      expect(pipeline.info().tunable_count > 0 && (pipeline.quantizer()->backward || pipeline.quantizer()->sign_step),
             id + ": RH_SUPPORTS_TUNING", "tunables, and backward or sign_step", "none");
    }
  }
}

// create refuses what check refuses, and takes what it takes.
void create_agrees(Context& context) {
  const Started plugin(context.file);
  const auto look = [&](const Case& c) {
    ErrorSlot error;
    const bool taken = check(c, error) == RH_OK;
    bool made = true;
    std::string message;
    try {
      const Pipeline pipeline(c, Value{c.element, {0, 0}, {}});
    } catch (const Refused& r) {
      made = false;
      message = r.message;
    }
    expect(made == taken, "create of " + c.label(), taken ? "RH_OK, as check says" : "an error, as check gives",
           made ? "RH_OK" : printable(message.c_str()));
  };
  for (const rh_dtype* dtype : plugin.dtypes())
    for (const Case& c : nonsense_cases(dtype)) {
      ErrorSlot error;
      if (check(c, error) != RH_OK) look(c);
    }
  for (const Case& c : few_cases(plugin)) look(c);
}

void errors(Context& context) {
  const Started plugin(context.file);
  for (const rh_dtype* dtype : plugin.dtypes())
    for (const Case& c : nonsense_cases(dtype)) {
      ErrorSlot error;
      const rh_code code = check(c, error);
      error.check(code, "check of " + c.label());
      if (code == RH_OK) continue;
      CallOptions options;
      options.check_errors = true;
      try {
        const Pipeline pipeline(c, Value{c.element, {0, 0}, {}}, options);
      } catch (const Refused&) {
      }
    }
  CallOptions options;
  options.check_errors = true;
  for_cases(few_cases(plugin), [&](const Case& c) {
    run_all(c, options);
    // Numbers that many data types refuse, with words.
    Value damaged = random_input(c);
    std::vector<float> numbers = floats(damaged);
    numbers[numbers.size() / 2] = NAN;
    try {
      Pipeline(c, to_value(c.element, damaged.shape, numbers), options).run();
    } catch (const Refused&) {
    }
  });
}

void garbage(Context& context) {
  const Started plugin(context.file);
  CallOptions options;
  options.check_errors = true;
  std::set<std::string> seen;
  for (Case c : few_cases(plugin)) {
    if (!seen.insert(text(c.scheme.dtype, c.target)).second) continue;
    for (const std::string& garbage : garbage_options()) {
      c.scheme.options = garbage;
      ErrorSlot error;
      const rh_code code = check(c, error);
      error.check(code, "check of " + c.label());
      try {
        Pipeline(c, random_input(c), options).run();
      } catch (const Refused&) {
      }
    }
  }
}

void info(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    const std::string where = "info of " + c.label();
    Pipeline pipeline(c, random_input(c));
    const rh_quantizer_info& info = pipeline.info();
    const auto check_specs = [&](const rh_tensor_spec* const* specs, uint32_t count, const char* kind) {
      std::set<std::string> names;
      expect(count < 1000 && (count == 0 || specs), where, text(count, " ", kind), "NULL, or an impossible count");
      for (uint32_t i = 0; i < count; ++i) {
        const std::string what = text(where, ", ", kind, " ", i);
        const rh_tensor_spec* spec = specs[i];
        expect(spec && spec->struct_size >= sizeof(rh_tensor_spec), what, "a whole rh_tensor_spec", "NULL or smaller");
        expect(names.insert(checked_text(spec->name, what)).second, what, "a name of its own", printable(spec->name));
        expect(spec->ndim >= 0 && spec->ndim <= RH_MAX_DIMS, what, "0 to 8 dimensions", text(spec->ndim));
        for (int32_t k = 0; k < spec->ndim; ++k)
          expect(spec->shape[k] >= 0 && spec->shape[k] < int64_t{1} << 40, what, "a shape", text(spec->shape[k]));
        expect(spec->dtype.lanes == 1 && (spec->dtype.bits % 8) == 0 && spec->dtype.bits > 0, what,
               "an element type of whole bytes, one lane",
               text(static_cast<int>(spec->dtype.bits), " bits, ", spec->dtype.lanes, " lanes"));
      }
    };
    check_specs(info.tunables, info.tunable_count, "tunable");
    check_specs(info.states, info.state_count, "state");
    check_specs(info.results, info.result_count, "result");
    check_specs(&info.statistic, info.statistic ? 1 : 0, "statistic");
    for (uint32_t i = 0; i < info.tunable_count; ++i) {
      const rh_tensor_spec& spec = *info.tunables[i];
      const std::string what = text(where, ", tunable ", spec.name);
      expect(is_float(spec.dtype) && spec.dtype.bits == 32, what, "f32", type_name(spec.dtype));
      expect(spec.lr_group == RH_LR_ROUNDING || spec.lr_group == RH_LR_RANGE, what, "a learning-rate group",
             text(spec.lr_group));
      expect(spec.clamp_min <= spec.initial && spec.initial <= spec.clamp_max, what,
             "clamp_min <= initial <= clamp_max", text(spec.clamp_min, ", ", spec.initial, ", ", spec.clamp_max));
    }
    constexpr uint32_t kKnown =
        RH_QUANTIZER_SHARED_STATISTIC | RH_QUANTIZER_CPU_PREPARE | RH_QUANTIZER_ROWS_INDEPENDENT;
    expect((info.flags & ~kKnown) == 0, where, "known flags", text(info.flags));
    expect(info.row_multiple >= 1, where, "a row_multiple of at least 1", text(info.row_multiple));
    expect(info.reduce >= RH_REDUCE_NONE && info.reduce <= RH_REDUCE_SUM, where, "a known reduction",
           text(info.reduce));
    const rh_quantizer& q = *pipeline.quantizer();
    expect(q.forward, where, "forward", "NULL");
    expect(!info.statistic || q.measure, where, "measure: there is a statistic", "NULL");
    expect(!info.state_count || q.prepare, where, "prepare: there are states", "NULL");
    expect(!c.is_weight() || q.decode, where, "decode, of a weight", "NULL");
    if (const rh_encoding* e = info.encoding) {
      expect(e->struct_size >= sizeof(rh_encoding), where, "a whole rh_encoding", text("struct_size ", e->struct_size));
      const std::string id = checked_text(e->id, where + ", encoding");
      expect(id == c.dtype->descriptor->encoding, where,
             text("the descriptor's encoding, ", c.dtype->descriptor->encoding), id);
      checked_text(e->parameters_json, where + ", parameters_json");
      expect(e->parameters_json[0] == '{', where, "parameters_json is an object", printable(e->parameters_json));
      check_specs(e->tensors, e->tensor_count, "encoded tensor");
      expect(!e->tensor_count || q.encode, where, "encode: the encoding has tensors", "NULL");
    }
    if (q.get_extension)
      expect(!guarded(where, [&] { return q.get_extension(&q, "roundhouse.no-such-extension/1"); }), where,
             "NULL for an unknown extension", "a pointer");
    const rh_quantizer_info before = info;
    pipeline.run();
    expect(pipeline.quantizer()->info(pipeline.quantizer()) == &info && std::memcmp(&before, &info, sizeof info) == 0,
           where, "the same info after all calls", "another one");
  });
}

// ---- memory ----

void bounds(Context& context) {
  const Started plugin(context.file);
  for (const bool pages : {false, true}) {
    CallOptions options;
    options.check_bounds = true;
    options.pages = pages;
    options.importance = pages;
    for_cases(accepted_cases(plugin), [&](const Case& c) { run_all(c, options); });
  }
}

void inputs(Context& context) {
  const Started plugin(context.file);
  CallOptions options;
  options.check_inputs = options.importance = true;
  for_cases(accepted_cases(plugin), [&](const Case& c) { run_all(c, options); });
}

void kept_pointers(Context& context) {
  const Started plugin(context.file);
  CallOptions options;
  options.pages = options.seal = true;
  for_cases(few_cases(plugin), [&](const Case& c) { run_all(c, options); });
}

// What a call finds in its outputs and workspace must not matter; and all of an output is written.
void whole_outputs(Context& context) {
  const Started plugin(context.file);
  CallOptions other;
  other.fill = 0xc3;
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    expect_same(run_all(c), run_all(c, other), c, "the same results whatever outputs and workspace held before");
  });
}

void struct_size(Context& context) {
  const Started plugin(context.file, newer_host());
  CallOptions newer;
  newer.grow = 64;
  for_cases(few_cases(plugin), [&](const Case& c) {
    expect_same(run_all(c), run_all(c, newer), c, "the same results with the larger structs of a later minor version");
  });
}

void leaks(Context& context) {
  const Started plugin(context.file);
  for_cases(few_cases(plugin), [&](const Case& c) {
    const Value input = random_input(c);
    std::vector<float> numbers = floats(input);
    numbers[0] = INFINITY;
    const Value damaged = to_value(c.element, input.shape, numbers);
    const auto round = [&] {
      Pipeline(c, input).run();
      try {
        Pipeline(c, damaged).run();
      } catch (const Refused&) {
      }
    };
    for (int i = 0; i < 3; ++i) round();
    const size_t before = allocated_bytes();
    for (int i = 0; i < kRounds; ++i) round();
    const size_t after = allocated_bytes();
    expect(after < before + 8 * kRounds, text(kRounds, " rounds from create to destroy of ", c.label()),
           "memory given back", text((after - before) / kRounds, " bytes more each round"));
  });
}

// ---- threads and instances ----

void thread_counts(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](Case c) {
    if (c.rows * 4 >= 16) c.rows *= 64;  // enough for several chunks
    ErrorSlot error;
    if (check(c, error) != RH_OK) return;
    const Value input = random_input(c);
    CallOptions options;
    options.importance = true;
    faults.schedule = Schedule::kInOrder;
    const Values in_order = run_all(c, input, options);
    faults.schedule = Schedule::kReversed;
    expect_same(in_order, run_all(c, input, options), c, "the same bits when the chunks run in another order");
    faults.schedule = Schedule::kThreads;
    expect_same(in_order, run_all(c, input, options), c, "the same bits on four threads");
    faults.schedule = Schedule::kInOrder;
  });
}

void no_threads(Context& context) {
  const Started plugin(context.file);
  const size_t before = thread_count();
  for_cases(few_cases(plugin), [&](const Case& c) {
    run_all(c);
    expect(thread_count() == before, c.label(), text(before, " threads, as before"), text(thread_count()));
  });
}

void process_state(Context& context) {
  const Started plugin(context.file);
  leftovers.on = true;
  for_cases(few_cases(plugin), [&](const Case& c) {
    run_all(c);
    expect_nothing_left();
  });
}

void deterministic(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    const Values first = run_all(c);
    expect_same(first, run_all(c), c, "the same bits for the same input");
    // Again by one quantizer.
    Pipeline pipeline(c, random_input(c));
    pipeline.run();
    const Value again = pipeline.forward(random_input(c), c.tuned() ? pipeline.tunables() : std::vector<Value>());
    const Value once_more = pipeline.forward(random_input(c), c.tuned() ? pipeline.tunables() : std::vector<Value>());
    const std::string d = difference(again, once_more);
    expect(d.empty(), "forward of " + c.label(), "the same bits when it is called again", d);
  });
}

void interleaved(Context& context) {
  const Started plugin(context.file);
  for_cases(few_cases(plugin), [&](const Case& c) {
    const Value input = random_input(c), other_input = random_input(c, 0.7f);
    const Values alone = run_all(c, input), other_alone = run_all(c, other_input);
    Pipeline pipeline(c, input), other(c, other_input);
    for (bool more = true; more;) {
      more = pipeline.step();
      more |= other.step();
    }
    expect_same(alone, pipeline.values(), c, "the same bits beside a second quantizer");
    expect_same(other_alone, other.values(), c, "the same bits beside a second quantizer");
  });
}

void other_thread(Context& context) {
  const Started plugin(context.file);
  CallOptions options;
  options.fresh_threads = true;
  for_cases(few_cases(plugin), [&](const Case& c) {
    expect_same(run_all(c), run_all(c, options), c, "the same bits when every call comes from another thread");
  });
}

void bare_host(Context& context) {
  const Started plugin(context.file);
  const std::vector<Case> cases = few_cases(plugin);
  std::vector<Values> expected;
  for (const Case& c : cases) expected.push_back(run_all(c));
  faults.extensions = false;
  for (size_t i = 0; i < cases.size(); ++i) {
    try {
      CallOptions options;
      options.check_errors = true;
      Pipeline pipeline(cases[i], random_input(cases[i]), options);
      expect_same(expected[i], pipeline.run(), cases[i], "the same bits without the host's parallel extension");
    } catch (const Refused&) {
    }
  }
}

void cancel(Context& context) {
  const Started plugin(context.file);
  const volatile int32_t cancelled = 1;
  CallOptions options;
  options.cancelled = &cancelled;
  options.check_errors = true;
  for_cases(few_cases(plugin), [&](const Case& c) {
    const Value input = random_input(c);
    try {
      const Values values = Pipeline(c, input, options).run();
      expect_same(run_all(c), values, c, "RH_CANCELLED, or the whole result");
    } catch (const Refused& r) {
      expect(r.code == RH_CANCELLED, r.call, "RH_CANCELLED, or the whole result", text("code ", r.code));
    }
    const Values whole = run_all(c);
    for (int64_t begun = 1;; begun += begun / 2 + 1) {
      const CancelAfter cancel(begun);
      CallOptions late = options;
      late.cancelled = cancel.flag();
      try {
        expect_same(whole, Pipeline(c, input, late).run(), c, "RH_CANCELLED, or the whole result");
      } catch (const Refused& r) {
        expect(r.code == RH_CANCELLED, r.call, "RH_CANCELLED, or the whole result", text("code ", r.code));
      }
      if (!cancel.cancelled()) break;
    }
  });
}

}  // namespace

void add_dtype_call_tests(std::vector<Test>& tests) {
  tests.insert(
      tests.end(),
      {{"dtype.supports", "the descriptor's supports says what check takes", "dtype.h", honest_support},
       {"dtype.create", "create makes a quantizer for the layers that check takes, and for no others", "dtype.h",
        create_agrees},
       {"dtype.errors", "a failure returns a code and fills rh_error with it and a terminated message", "abi.h",
        errors},
       {"dtype.garbage-options", "options that are not what the schema says give an error in words, or are ignored",
        "scheme.h", garbage},
       {"dtype.info", "info declares whole tensors with names of their own, and never changes", "dtype.h", info},
       {"dtype.bounds",
        "a call writes its outputs and the workspace it asked for, and reads its inputs: no byte beyond", "host.h",
        bounds},
       {"dtype.inputs", "inputs are read only", "dtype.h", inputs},
       {"dtype.kept-pointers", "pointers are borrowed for the call; create copies the layer and its scheme", "abi.h",
        kept_pointers},
       {"dtype.whole-outputs", "every element of an output is written, from the inputs alone", "dtype.h",
        whole_outputs},
       {"dtype.struct-size", "readers compare struct_size with >= and ignore what they do not know", "abi.h",
        struct_size},
       {"dtype.leaks", "destroy gives back what create and the calls took, also after an error", "dtype.h", leaks},
       {"dtype.threads", "results have the same bits for any thread count and order of chunks", "host.h",
        thread_counts},
       {"dtype.no-threads", "plugins start no threads", "host.h", no_threads},
       {"dtype.process-state", kProcessState, "entry.h", process_state},
       {"dtype.deterministic", "the same input gives the same bits", "dtype.h", deterministic},
       {"dtype.instances", "quantizers do not disturb each other", "dtype.h", interleaved},
       {"dtype.other-thread", "[worker]: any one thread at a time may call a quantizer", "abi.h", other_thread},
       {"dtype.bare-host", "a plugin works without an extension, or says what it lacks", "host.h", bare_host},
       {"dtype.cancel", "a cancelled call returns RH_CANCELLED, or has done its work", "host.h", cancel}});
}

}  // namespace roundhouse::validator

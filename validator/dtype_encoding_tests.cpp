// SPDX-License-Identifier: Apache-2.0
// What a data type makes: encode and decode, quantizers made from encodings, ranges of rows, batches.
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <roundhouse/plugin.hpp>
#include <set>

#include "validator/pipeline.h"

namespace roundhouse::validator {
namespace {

void round_trip(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    if (!c.is_weight()) return;
    expect_round_trip(c, random_input(c));
    expect_round_trip(c, random_input(c, 3.0f));
  });
}

// The case with the encoding that its quantizer made, instead of its scheme.
Case from_encoding(Case c, const Pipeline& made) {
  const rh_encoding& e = *made.info().encoding;
  c.encoding = std::make_shared<const Given>(Given{e.id, e.parameters_json, made.encoded()});
  return c;
}

void expect_refused(const Case& c) {
  ErrorSlot error;
  const rh_code code = check(c, error);
  expect(code != RH_OK, "check of " + c.label(), "an error", "RH_OK");
  error.check(code, "check of " + c.label());
}

void encoded(Context& context) {
  const Started plugin(context.file);
  bool any = false;
  std::set<std::string> refused;
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    const Value input = random_input(c);
    Pipeline made(c, input);
    made.run();
    if (!made.info().encoding) return;
    const Case given = from_encoding(c, made);
    const bool supported = c.dtype->descriptor->supports & RH_SUPPORTS_ENCODED;
    if (refused.insert(text(c.scheme.dtype, c.target)).second) {
      Given other = *given.encoding;
      other.id = "example.com/no-such-encoding/1";
      Case foreign = given;
      foreign.encoding = std::make_shared<const Given>(other);
      expect_refused(foreign);
      other = *given.encoding;
      other.parameters = "{";
      foreign.encoding = std::make_shared<const Given>(other);
      expect_refused(foreign);
      if (!supported) expect_refused(given);
    }
    if (!supported) return;
    any = true;
    ErrorSlot error;
    const rh_code code = check(given, error);
    expect(code == RH_OK, "check of " + given.label(), "RH_OK: RH_SUPPORTS_ENCODED is set and it made this encoding",
           text("code ", code, ": ", printable(error.get()->message)));
    const char* result = c.is_weight() ? "decode: output" : "forward: output";
    if (!made.find(result)) return;
    Pipeline taken(given, input);
    taken.run();
    const std::string d =
        difference(without_signed_zeros(made.value(result)), without_signed_zeros(taken.value(result)));
    expect(d.empty(), text(result, " of ", given.label()), "the bits of the quantizer that made the encoding", d);
  });
  if (!any) throw Skip{"no data type supports RH_SUPPORTS_ENCODED"};
}

// Rows [begin, end) of a value.
Value rows_of(const Value& value, int64_t begin, int64_t end) {
  const size_t row = value.bytes.size() / static_cast<size_t>(value.shape.at(0));
  return {
      value.type,
      {end - begin, value.shape.at(1)},
      {value.bytes.begin() + static_cast<int64_t>(row) * begin, value.bytes.begin() + static_cast<int64_t>(row) * end}};
}

// Throws Failure unless the parts, one below the other, are the whole: all results whose rows add up.
void expect_rows(const Pipeline& whole, const Pipeline& top, const Pipeline& bottom, const Case& c,
                 const std::string& rule) {
  for (const auto& [name, value] : whole.values()) {
    const Value &a = top.value(name), &b = bottom.value(name);
    if (value.shape.empty() || a.shape.size() != value.shape.size() || a.shape[0] + b.shape[0] != value.shape[0])
      continue;
    Value joined = a;
    joined.shape[0] = value.shape[0];
    joined.bytes.insert(joined.bytes.end(), b.bytes.begin(), b.bytes.end());
    const std::string d = difference(joined, value);
    expect(d.empty(), text(name, " of ", c.label()), rule, d);
  }
}

void independent_rows(Context& context) {
  const Started plugin(context.file);
  bool any = false;
  for_cases(accepted_cases(plugin), [&](Case c) {
    if (!c.is_weight()) return;
    CallOptions options;
    options.initial_tunables = true;
    const int64_t multiple = Pipeline(c, random_input(c)).info().row_multiple;
    if (c.rows <= multiple) c.rows = 2 * multiple;
    ErrorSlot error;
    if (check(c, error) != RH_OK) return;
    const Value input = random_input(c);
    Pipeline whole(c, input, options);
    if (!(whole.info().flags & RH_QUANTIZER_ROWS_INDEPENDENT)) return;
    any = true;
    whole.run();
    if (whole.info().statistic) options.statistic = whole.value(text("measure: ", whole.info().statistic->name));
    const int64_t split = (c.rows - 1) / multiple * multiple;
    const Value gradient =
        to_value(rh::kF32, input.shape, gradient_numbers(static_cast<size_t>(count_elements(input.shape)), 1));
    std::vector<std::unique_ptr<Pipeline>> parts;
    for (const auto& [begin, end] : {std::pair(int64_t{0}, split), std::pair(split, c.rows)}) {
      Case part = c;
      part.rows = end - begin;
      ErrorSlot part_error;
      const rh_code code = check(part, part_error);
      expect(code == RH_OK, "check of " + part.label(), "RH_OK: rows are independent",
             text("code ", code, ": ", printable(part_error.get()->message)));
      options.gradient = rows_of(gradient, begin, end);
      parts.push_back(std::make_unique<Pipeline>(part, rows_of(input, begin, end), options));
      parts.back()->run();
    }
    expect_rows(whole, *parts[0], *parts[1], c,
                text("the bits that rows 0 to ", split - 1, " and those from ", split, " on have by themselves"));
  });
  if (!any) throw Skip{"no quantizer says RH_QUANTIZER_ROWS_INDEPENDENT"};
}

// Two matrices, one below the other: as two quantizers give them, each with its importance.
void batches(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    if (!c.is_weight() || c.rows % 2 != 0) return;
    const bool supported = c.dtype->descriptor->supports & RH_SUPPORTS_BATCHES;
    CallOptions options;
    options.initial_tunables = true;
    Case both = c, one = c;
    both.matrices = 2;
    one.rows = c.rows / 2;
    ErrorSlot error;
    const rh_code code = check(both, error);
    error.check(code, "check of " + both.label());
    expect(supported || code != RH_OK, "check of " + both.label(), "an error: RH_SUPPORTS_BATCHES is not set", "RH_OK");
    if (code != RH_OK) {
      bool made = true;
      try {
        const Pipeline pipeline(both, random_input(both));
      } catch (const Refused&) {
        made = false;
      }
      expect(!made, "create of " + both.label(), "an error, as check gives", "RH_OK");
      return;
    }
    const Value input = random_input(both);
    std::vector<float> importance(static_cast<size_t>(2 * c.cols));
    for (size_t i = 0; i < importance.size(); ++i) importance[i] = 0.1f + static_cast<float>(i * 37 % 101) / 25.0f;
    const Value importances = to_value(rh::kF32, {2, c.cols}, importance);
    const Value gradient =
        to_value(rh::kF32, input.shape, gradient_numbers(static_cast<size_t>(count_elements(input.shape)), 1));
    options.importance = true;
    options.importance_of = importances;
    Pipeline whole(both, input, options);
    whole.run();
    std::vector<std::unique_ptr<Pipeline>> parts;
    for (const int64_t i : {0, 1}) {
      options.importance_of = rows_of(importances, i, i + 1);
      options.importance_of->shape = {c.cols};
      options.gradient = rows_of(gradient, i * one.rows, (i + 1) * one.rows);
      parts.push_back(std::make_unique<Pipeline>(one, rows_of(input, i * one.rows, (i + 1) * one.rows), options));
      parts.back()->run();
    }
    if (const rh_tensor_spec* statistic = whole.info().statistic) {
      std::vector<int64_t> shape = shape_of(*parts[0]->info().statistic);
      expect(!shape.empty(), "the statistic of " + one.label(), "a dimension, so that a batch has one for each matrix",
             "none");
      shape[0] *= 2;
      expect(shape_of(*statistic) == shape, "the statistic of " + both.label(), text("the shape ", shape_text(shape)),
             shape_text(shape_of(*statistic)));
    }
    expect_rows(whole, *parts[0], *parts[1], both, "the bits that each matrix has by itself");
  });
}

// exec->status may be NULL, as in all other tests. On a device a kernel cannot return an error: it writes the word.
void status(Context& context) {
  const Started plugin(context.file);
  for_cases(few_cases(plugin), [&](const Case& c) {
    uint32_t word = 0;
    CallOptions options;
    options.status = &word;
    expect_same(run_all(c), run_all(c, options), c, "the same bits with a status word as without");
    expect(word == 0, c.label(), "a status of 0 after numbers that can be represented", text(word));
    for (const float extreme : {NAN, 1e9f}) {
      std::vector<float> numbers = floats(random_input(c));
      numbers[1] = extreme;
      const Value input = to_value(c.element, {c.rows, c.cols}, numbers);
      const std::string where = text(c.label(), " with ", extreme);
      Pipeline pipeline(c, input, options);
      bool told = false;
      word = 0;
      try {
        pipeline.run();
      } catch (const Refused&) {
        told = true;
      }
      expect((word & ~(RH_STATUS_NOT_FINITE | RH_STATUS_SCALE_RANGE)) == 0, where, "RH_STATUS_*", text(word));
      if (told || word != 0 || !c.is_weight()) continue;
      const std::vector<float> given = floats(input), output = floats(pipeline.value("forward: output"));
      for (size_t i = 0; i < given.size(); ++i)
        if (std::isfinite(given[i]) != std::isfinite(output[i]))
          fail("forward of " + where, "an error, or RH_STATUS_* in exec->status, for what cannot be represented",
               text("neither, and element ", i, ", ", given[i], ", became ", output[i]));
    }
  });
}

void options_json(Context& context) {
  const Started plugin(context.file);
  std::set<std::string> seen;
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    if (!seen.insert(text(c.scheme.dtype, c.target, c.scheme.options)).second) return;
    for (const std::string& options : same_json(c.scheme.options)) {
      Case same = c;
      same.scheme.options = options;
      ErrorSlot error;
      const rh_code code = check(same, error);
      const char* rule = "options are compared as JSON values: blanks and the order of keys change nothing";
      expect(code == RH_OK, "check of " + same.label(), rule,
             text("code ", code, ": ", printable(error.get()->message)));
      expect_same(run_all(c), run_all(same), same, rule);
    }
  });
}

void decode_types(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    if (!c.is_weight()) return;
    Pipeline pipeline(c, random_input(c));
    pipeline.run();
    if (!pipeline.find("decode: output")) return;
    const Values encoded = pipeline.encoded();
    const Value wide = pipeline.decode(encoded, rh::kF32);
    for (const rh_data_type type : {rh::kBF16, rh::kF16}) {
      const std::vector<float> narrow = floats(pipeline.decode(encoded, type)), exact = floats(wide);
      for (size_t i = 0; i < exact.size(); ++i) {
        // Rounded to the output's type, once or after the element's own.
        const float distance = std::abs(narrow[i] - exact[i]);
        if (!(distance <= std::abs(exact[i]) / 64 + 1e-6f))
          fail(text("decode of ", c.label(), " into ", type_name(type)),
               text("element ", i, ", rounded from ", exact[i]), text(narrow[i]));
      }
    }
  });
}

}  // namespace

void add_dtype_encoding_tests(std::vector<Test>& tests) {
  tests.insert(
      tests.end(),
      {{"dtype.round-trip", "decode(encode(w)) equals forward(w), but for the sign of a zero", "dtype.h", round_trip},
       {"dtype.encoded", "a quantizer that is made from an encoding gives the bits of the one that made it", "layer.h",
        encoded},
       {"dtype.rows", "where rows are independent, a range of them gives the bits that it has in the whole", "dtype.h",
        independent_rows},
       {"dtype.batches", "equal matrices in one call have the bits that each has by itself, or check refuses them",
        "layer.h", batches},
       {"dtype.status",
        "what cannot be represented is an error or told in exec->status, NULL or a word that else stays 0", "host.h",
        status},
       {"dtype.options-json", "options are compared as JSON values, never as text", "dtype.h", options_json},
       {"dtype.decode-types", "decode writes f32, f16 or bf16", "dtype.h", decode_types}});
}

}  // namespace roundhouse::validator

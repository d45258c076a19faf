// SPDX-License-Identifier: Apache-2.0
// The numbers of a data type: forward, gradients, unusual shapes and values.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <roundhouse/plugin.hpp>

#include "validator/pipeline.h"

namespace roundhouse::validator {
namespace {

void expect_finite(const Value& value, const std::string& where) {
  const std::vector<float> numbers = floats(value);
  for (size_t i = 0; i < numbers.size(); ++i)
    if (!std::isfinite(numbers[i])) fail(where, "finite numbers", text("element ", i, " is ", numbers[i]));
}

double power(const std::vector<float>& values) {
  double sum = 0;
  for (const float x : values) sum += static_cast<double>(x) * x;
  return sum;
}

// The error of qdq against the input is below the input's own power: zero would be as good. Of columns [begin, end).
void expect_near(const Value& input, const Value& output, int64_t begin, const std::string& where) {
  const std::vector<float> x = floats(input), y = floats(output);
  const int64_t cols = input.shape[1];
  std::vector<float> kept, error;
  for (size_t i = 0; i < x.size(); ++i) {
    if (static_cast<int64_t>(i) % cols < begin) continue;
    kept.push_back(x[i]);
    error.push_back(y[i] - x[i]);
  }
  const double whole = power(kept), missed = power(error);
  expect(missed < whole || whole == 0, where,
         text("the input, quantized: nearer to it than zeros are (sum of squares ", whole, ")"),
         text("a sum of squared errors of ", missed,
              begin ? text(", in the columns from ", begin, " on") : std::string()));
}

void forward(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    const Value input = random_input(c);
    const std::string where = "forward of " + c.label();
    CallOptions options;
    options.initial_tunables = true;
    Pipeline pipeline(c, input, options);
    pipeline.run();
    const Value& output = pipeline.value("forward: output");
    expect_finite(output, where);
    expect_near(input, output, 0, where);
    // The columns of the last, shorter group.
    const int64_t width = c.scheme.group_cols;
    const int64_t last = width > 0 ? c.cols / width * width : c.cols;
    if (last < c.cols) expect_near(input, output, last, where);
    for (uint32_t i = 0; i < pipeline.info().result_count; ++i) {
      const Value& result = pipeline.value(text("forward: ", pipeline.info().results[i]->name));
      if (is_float(result.type)) expect_finite(result, text(where, ", result ", pipeline.info().results[i]->name));
    }
  });
}

void forward_outputs(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    const Value input = random_input(c);
    const std::string where = "forward of " + c.label();
    const auto output = [&](const CallOptions& options) {
      Pipeline pipeline(c, input, options);
      pipeline.run();
      return pipeline.value("forward: output");
    };
    const Value plain = output({});
    CallOptions options;
    options.with_results = false;
    std::string d = difference(plain, output(options));
    expect(d.empty(), where, "the same output without results", d);
    options = {};
    options.in_place = true;
    d = difference(plain, output(options));
    expect(d.empty(), where, "the same output in the input's own memory", d);
    for (const rh_data_type type : {rh::kF32, rh::kBF16, rh::kF16}) {
      options = {};
      options.output = type;
      d = difference(to_value(type, plain.shape, floats(plain)), output(options));
      expect(d.empty(), where + " into " + type_name(type), "the output in the input's element type, converted", d);
    }
  });
}

void absent_tunables(Context& context) {
  const Started plugin(context.file);
  for_cases(few_cases(plugin), [&](const Case& c) {
    if (!c.tuned()) return;
    const int count = static_cast<int>(Pipeline(c, random_input(c)).info().tunable_count);
    for (int i = 0; i < count && count > 1; ++i) {
      CallOptions absent, initial;
      absent.absent_tunable = initial.absent_tunable = i;
      initial.absent_as_initial = true;
      Pipeline without(c, random_input(c), absent), with(c, random_input(c), initial);
      without.run();
      with.run();
      for (const auto& [name, value] : without.values()) {
        const std::string d = difference(with.value(name), value);
        expect(d.empty(), text(name, " of ", c.label()),
               text("tunable ", i, " as NULL counts with its initial value; the others' results stay"), d);
      }
    }
  });
}

// ---- gradients ----

void gradient_rules(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    const auto gradients = [&](float scale) {
      CallOptions options;
      options.gradient_scale = scale;
      Values out;
      for (auto& [name, value] : run_all(c, options))
        if (name.rfind("backward", 0) == 0) out.emplace_back(name, value);
      return out;
    };
    const Values once = gradients(1), twice = gradients(2), opposite = gradients(-1), none = gradients(0);
    for (size_t i = 0; i < once.size(); ++i) {
      const std::string where = text(once[i].first, " of ", c.label());
      expect_finite(once[i].second, where);
      const std::vector<float> g = floats(once[i].second);
      std::vector<float> doubled = g, negated = g, zeros(g.size(), 0.0f);
      for (float& x : doubled) x *= 2;
      for (float& x : negated) x = -x;
      // Exact but for what float16 loses near its smallest numbers.
      const bool half = rh::same_type(c.element, rh::kF16);
      const float relative = half ? 0x1p-6f : 0, absolute = half ? 0x1p-18f : 0;
      const auto like = [&](const std::vector<float>& expected, const Value& actual, const char* rule) {
        const std::vector<float> found = floats(actual);
        for (size_t k = 0; k < found.size(); ++k)
          if (!(std::abs(found[k] - expected[k]) <= relative * std::abs(expected[k]) + absolute))
            fail(where, rule, text("element ", k, ": ", expected[k], " against ", found[k]));
      };
      like(zeros, none[i].second, "no gradient where the output's gradient is zero");
      like(doubled, twice[i].second, "twice the gradient for twice the output's gradient");
      like(negated, opposite[i].second, "the opposite gradient for the opposite of the output's gradient");
    }
  });
}

// What the straight-through estimator calls a slope of 1 is, over steps as wide as the distance of two codes, the slope
// of the rounded function itself: sums of finite differences agree with the gradient where single ones do not.
constexpr double kTolerance = 0.15;
constexpr double kDeviations = 4;      // of the sum, by chance
constexpr double kEnoughMoved = 0.15;  // of the elements must change their codes

struct Slope {
  double sum = 0, squares = 0, moved = 0;
};

// Of <g, forward>, from `down` to `up`, which lie `distance` apart.
Slope slope(const std::vector<float>& g, const Value& up, const Value& down, double distance) {
  const std::vector<float> above = floats(up), below = floats(down);
  Slope out;
  for (size_t i = 0; i < g.size(); ++i) {
    const double part = g[i] * (static_cast<double>(above[i]) - below[i]) / distance;
    out.sum += part;
    out.squares += part * part;
    out.moved += above[i] != below[i];
  }
  out.moved /= static_cast<double>(g.size());
  return out;
}

// Steps until enough codes change, and compares. `move` gives forward's output for a step along the gradient's signs.
template <typename Move>
void compare_slopes(const std::vector<float>& g, double expected, std::initializer_list<double> steps,
                    const std::string& where, Move&& move) {
  for (const double step : steps) {
    const Slope measured = slope(g, move(step), move(-step), 2 * step);
    if (measured.moved < kEnoughMoved) continue;
    expect(std::abs(measured.sum - expected) <=
               kTolerance * std::abs(expected) + kDeviations * std::sqrt(measured.squares),
           where, text("the slope that finite differences show, ", measured.sum), text("the gradient says ", expected));
    return;
  }
}

// `values` moved along the signs of `direction`.
Value moved(const Value& values, const std::vector<float>& direction, double step) {
  std::vector<float> out = floats(values);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] += static_cast<float>(direction[i] > 0 ? step : direction[i] < 0 ? -step : 0);
  return to_value(values.type, values.shape, out);
}

double magnitude_sum(const std::vector<float>& values) {
  double sum = 0;
  for (const float x : values) sum += std::abs(x);
  return sum;
}

void weight_slopes(const Case& c) {
  const Value input = random_input(c);
  Pipeline pipeline(c, input);
  pipeline.run();
  if (!pipeline.tunes()) return;
  const std::vector<float> g = gradient_numbers(static_cast<size_t>(count_elements(input.shape)), 1);
  for (uint32_t t = 0; t < pipeline.info().tunable_count; ++t) {
    const rh_tensor_spec& spec = *pipeline.info().tunables[t];
    if (spec.lr_group != RH_LR_ROUNDING) continue;  // a scale moves the code as well: no step shows its estimate
    const std::vector<float> gradient = floats(pipeline.value(text("backward: ", spec.name)));
    const std::string where = text("backward: ", spec.name, " of ", c.label());
    expect(magnitude_sum(gradient) > 0, where, "a gradient", "zeros");
    const bool bounded = std::isfinite(spec.clamp_min) && std::isfinite(spec.clamp_max);
    const auto forward = [&](double step) {
      std::vector<Value> tunables = pipeline.tunables();
      if (bounded) {  // from end to end
        std::vector<float> middle(gradient.size(), static_cast<float>((spec.clamp_min + spec.clamp_max) / 2));
        tunables[t] = to_value(spec.dtype, tunables[t].shape, middle);
      }
      tunables[t] = moved(tunables[t], gradient, step);
      return pipeline.forward(input, tunables);
    };
    const double expected = magnitude_sum(gradient);
    if (bounded)
      compare_slopes(g, expected, {(spec.clamp_max - spec.clamp_min) / 2}, where, forward);
    else
      compare_slopes(g, expected, {0.5, 2, 8, 32, 128, 512, 2048, 8192}, where, forward);
  }
}

void activation_slopes(const Case& c) {
  const Value input = random_input(c);
  Pipeline pipeline(c, input);
  pipeline.run();
  const Value* gradient = pipeline.find("backward: input");
  if (!gradient) return;
  const std::vector<float> g = gradient_numbers(static_cast<size_t>(count_elements(input.shape)), 1);
  const auto forward = [&](double step) { return pipeline.forward(moved(input, g, step), {}); };
  double expected = 0;  // along the signs of g
  const std::vector<float> slopes = floats(*gradient);
  for (size_t i = 0; i < g.size(); ++i) expected += g[i] > 0 ? slopes[i] : -slopes[i];
  compare_slopes(g, expected, {0.005, 0.01, 0.02}, "backward: input of " + c.label(), forward);
}

void slopes(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](Case c) {
    c.rows *= 8;  // sums over many elements
    ErrorSlot error;
    if (check(c, error) != RH_OK) return;
    c.is_weight() ? weight_slopes(c) : activation_slopes(c);
  });
}

void sign_step(Context& context) {
  const Started plugin(context.file);
  for_cases(accepted_cases(plugin), [&](const Case& c) {
    if (!c.is_weight() || !c.tuned()) return;
    for (const int rate : {0, 1, 40}) {  // hundredths; 0.4 leads out of the range that the tunables keep
      CallOptions options;
      options.learning_rate = rate;
      Pipeline pipeline(c, random_input(c), options);
      if (!pipeline.tunes() || !pipeline.quantizer()->sign_step) return;
      pipeline.run();
      for (uint32_t t = 0; t < pipeline.info().tunable_count; ++t) {
        const rh_tensor_spec& spec = *pipeline.info().tunables[t];
        const std::vector<float> gradient = floats(pipeline.value(text("backward: ", spec.name)));
        std::vector<float> expected = floats(pipeline.tunables()[t]);
        const float lr = static_cast<float>(rate) / 100.0f;
        for (size_t i = 0; i < expected.size(); ++i) {
          const float sign = gradient[i] > 0 ? 1.0f : gradient[i] < 0 ? -1.0f : 0.0f;
          const float moved = expected[i] - lr * sign;
          expected[i] =
              std::min(std::max(moved, static_cast<float>(spec.clamp_min)), static_cast<float>(spec.clamp_max));
        }
        const Value& actual = pipeline.value(text("sign_step: ", spec.name));
        const std::string d = difference(without_signed_zeros(to_value(spec.dtype, actual.shape, expected)),
                                         without_signed_zeros(actual));
        expect(d.empty(), text("sign_step: ", spec.name, " of ", c.label(), ", learning rate ", lr),
               "clamp(tunable - learning_rate * sign(gradient)), with backward's gradient", d);
      }
    }
  });
}

void clamps(Context& context) {
  const Started plugin(context.file);
  for_cases(few_cases(plugin), [&](const Case& c) {
    if (!c.tuned() || !c.is_weight()) return;
    const Value input = random_input(c);
    Pipeline pipeline(c, input);
    pipeline.run();
    for (uint32_t t = 0; t < pipeline.info().tunable_count; ++t) {
      const rh_tensor_spec& spec = *pipeline.info().tunables[t];
      if (!std::isfinite(spec.clamp_max)) continue;
      std::vector<Value> at_end = pipeline.tunables(), beyond = at_end;
      const std::vector<float> ends(floats(at_end[t]).size(), static_cast<float>(spec.clamp_max));
      std::vector<float> more = ends;
      for (float& x : more) x += 0.5f;
      at_end[t] = to_value(spec.dtype, at_end[t].shape, ends);
      beyond[t] = to_value(spec.dtype, beyond[t].shape, more);
      const std::string d = difference(pipeline.forward(input, at_end), pipeline.forward(input, beyond));
      expect(d.empty(), text("forward of ", c.label()), text(spec.name, " kept below ", spec.clamp_max), d);
    }
  });
}

// ---- unusual ----

void shapes(Context& context) {
  const Started plugin(context.file);
  const std::pair<int64_t, int64_t> all[] = {{1, 256}, {1, 1},   {3, 1},     {7, 33},    {2, 31},
                                             {5, 65},  {1, 513}, {130, 130}, {33, 1024}, {0, 256}};
  for_cases(few_cases(plugin), [&](Case c) {
    if (c.cols != 256) return;
    for (const auto& [rows, cols] : all) {
      c.rows = rows;
      c.cols = cols;
      ErrorSlot error;
      if (check(c, error) != RH_OK) continue;
      const Value input = random_input(c);
      CallOptions options;
      options.initial_tunables = true;
      Pipeline pipeline(c, input, options);
      pipeline.run();
      const Value& output = pipeline.value("forward: output");
      expect_finite(output, "forward of " + c.label());
      if (rows > 0) expect_near(input, output, 0, "forward of " + c.label());
      if (rows > 0 && cols > 1)
        expect_near(input, output, cols - std::max<int64_t>(1, cols / 8), "forward of " + c.label());
      if (c.is_weight()) expect_round_trip(c, input);
    }
  });
}

void special_values(Context& context) {
  const Started plugin(context.file);
  struct Special {
    const char* name;
    std::vector<float> values;  // in turn, over the first half
  };
  const float tiny = std::numeric_limits<float>::denorm_min();
  const std::vector<Special> all{{"zeros", {0.0f}},
                                 {"negative zeros", {-0.0f}},
                                 {"denormals", {tiny, -tiny, 1e-40f}},
                                 {"one value", {0.3f}},
                                 {"tiny", {1e-20f, -1e-30f}},
                                 {"huge", {3e38f, -3e38f}},
                                 {"large", {30000, -30000.f}},
                                 {"NaN", {NAN}},
                                 {"infinity", {INFINITY, -INFINITY}}};
  for_cases(few_cases(plugin), [&](const Case& c) {
    for (const Special& special : all) {
      for (const bool everywhere : {true, false}) {
        std::vector<float> numbers = floats(random_input(c));
        for (size_t i = 0; i < numbers.size() / (everywhere ? 1 : 2); ++i)
          numbers[i] = special.values[i % special.values.size()];
        const Value input = to_value(c.element, {c.rows, c.cols}, numbers);
        const std::vector<float> given = floats(input);  // 3e38 is infinite in f16
        const bool damaged = !std::all_of(given.begin(), given.end(), [](float x) { return std::isfinite(x); });
        const std::string where = text(everywhere ? "all " : "half ", special.name, ", ", c.label());
        try {
          Pipeline pipeline(c, input);
          pipeline.run();
          // An activation comes from the model: what is not a number stays none. And near the largest float32 a
          // difference may overflow.
          if ((damaged && !c.is_weight()) || special.values[0] > 1e30f) continue;
          for (const auto& [name, value] : pipeline.values())
            if (is_float(value.type) && name.rfind("encode", 0) != 0) expect_finite(value, text(name, " of ", where));
          const std::vector<float> output = floats(pipeline.value("forward: output"));
          for (size_t i = 0; i < given.size() && everywhere && !c.tuned(); ++i)
            if (given[i] == 0 && output[i] != 0)
              fail("forward of " + where, "zeros stay zeros", text("element ", i, " is ", output[i]));
        } catch (const Refused& r) {
          const float largest =
              *std::max_element(given.begin(), given.end(), [](float a, float b) { return std::abs(a) < std::abs(b); });
          expect(damaged || std::abs(largest) > 1000, r.call, text("RH_OK for ", special.name),
                 text("code ", r.code, ": ", printable(r.message.c_str())));
        }
      }
    }
  });
}

// The reduced statistic of two parts is that of the whole.
void statistics(Context& context) {
  const Started plugin(context.file);
  bool any = false;
  for_cases(few_cases(plugin), [&](const Case& c) {
    if (c.is_weight() || c.rows < 2) return;
    const Value whole = random_input(c);
    const auto measured = [&](int64_t begin, int64_t end) -> std::optional<Value> {
      Case part = c;
      part.rows = end - begin;
      const size_t row = static_cast<size_t>(c.cols) * (c.element.bits / 8);
      Value input{c.element,
                  {part.rows, c.cols},
                  {whole.bytes.begin() + static_cast<long>(static_cast<size_t>(begin) * row),
                   whole.bytes.begin() + static_cast<long>(static_cast<size_t>(end) * row)}};
      Pipeline pipeline(part, input);
      if (!pipeline.info().statistic) return std::nullopt;
      pipeline.step();
      return pipeline.values().at(0).second;
    };
    const auto all = measured(0, c.rows);
    if (!all) return;
    any = true;
    const int reduce = Pipeline(c, whole).info().reduce;
    std::vector<float> top = floats(*measured(0, 1)), rest = floats(*measured(1, c.rows));
    for (size_t i = 0; i < top.size(); ++i)
      top[i] = reduce == RH_REDUCE_MAX   ? std::max(top[i], rest[i])
               : reduce == RH_REDUCE_MIN ? std::min(top[i], rest[i])
               : reduce == RH_REDUCE_SUM ? top[i] + rest[i]
                                         : floats(*all)[i];
    for (size_t i = 0; i < top.size(); ++i)
      expect(std::abs(top[i] - floats(*all)[i]) <= 1e-5f * std::abs(top[i]), "measure of " + c.label(),
             text("what info's reduction makes of two parts, ", top[i]), text(floats(*all)[i]));
  });
  if (!any) throw Skip{"no activation has a statistic"};
}

}  // namespace

void add_dtype_number_tests(std::vector<Test>& tests) {
  tests.insert(
      tests.end(),
      {{"dtype.forward", "forward's output is the input, quantized and dequantized, in every column", "dtype.h",
        forward},
       {"dtype.forward-outputs",
        "forward writes f32, f16 or bf16, in the input's memory too, and gives results only when asked", "dtype.h",
        forward_outputs},
       {"dtype.absent-tunables", "a tunable that is NULL has its initial value and gets no gradient", "dtype.h",
        absent_tunables},
       {"dtype.gradient-rules", "backward is linear in the gradient of the output, and finite", "dtype.h",
        gradient_rules},
       {"dtype.gradient", "straight-through gradients: the slope that finite differences show across codes", "dtype.h",
        slopes},
       {"dtype.sign-step", "sign_step: tunable <- clamp(tunable - learning_rate * sign(gradient))", "dtype.h",
        sign_step},
       {"dtype.clamp", "forward keeps tunables in the range that info declares", "encoding.h", clamps},
       {"dtype.shapes", "a layer of any shape that check takes can be quantized", "dtype.h", shapes},
       {"dtype.special-values", "zeros, denormals, NaN and infinity give finite results or an error", "dtype.h",
        special_values},
       {"dtype.statistic", "a statistic of parts, reduced as info says, is that of the whole", "dtype.h", statistics}});
}

}  // namespace roundhouse::validator

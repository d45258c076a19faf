// SPDX-License-Identifier: Apache-2.0
// One quantizer driven through all of its calls, in the host's order.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "validator/cases.h"

namespace roundhouse::validator {

// How the calls are made, and what is looked at after each.
struct CallOptions {
  unsigned char fill = 0x5a;       // what outputs and workspace hold before a call
  bool pages = false;              // memory of a call ends at a page that cannot be touched
  bool seal = false;               // after a call its memory cannot be touched; REQUIRES pages
  bool check_bounds = false;       // Failure for a write around an output or the workspace
  bool check_inputs = false;       // Failure for a change of an input
  bool check_errors = false;       // Failure for an rh_error that is not as abi.h wants it
  uint32_t grow = 0;               // unknown bytes behind every struct
  bool fresh_threads = false;      // each call from a thread of its own
  bool importance = false;         // prepare gets one
  bool with_results = true;        // forward is asked for its results
  bool in_place = false;           // forward's output is its input's memory
  rh_data_type output{};           // of forward; bits 0: the input's
  bool initial_tunables = false;   // or random ones
  int absent_tunable = -1;         // this one is NULL
  bool absent_as_initial = false;  // ... or has its initial value
  float gradient_scale = 1;        // what grad_output is multiplied by
  int learning_rate = 1;           // of sign_step, hundredths
  const volatile int32_t* cancelled = nullptr;
  uint32_t* status = nullptr;
  std::optional<Value> statistic;        // the reduced one, in place of what measure() gives
  std::optional<Value> importance_of{};  // with `importance`: this one
  std::optional<Value> gradient{};       // of the output, in place of random numbers
};

// A call returned an error.
struct Refused {
  std::string call;
  rh_code code;
  std::string message;
};

std::vector<int64_t> shape_of(const rh_tensor_spec& spec);

using Values = std::vector<std::pair<std::string, Value>>;  // "forward: output", ...

class Pipeline {
 public:
  Pipeline(const Case& c, const Value& input, const CallOptions& options = {});
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  // Makes the next call; false when there is none left. Throws Refused and Failure.
  bool step();
  // All calls that are left.
  const Values& run();

  const Values& values() const { return values_; }
  const Value* find(const std::string& name) const;
  const Value& value(const std::string& name) const;  // throws Failure
  const rh_quantizer_info& info() const { return *info_; }
  const rh_quantizer* quantizer() const { return quantizer_; }
  const std::vector<Value>& tunables() const { return tunables_; }
  bool tunes() const;  // backward is among the calls

  // Calls out of order, with what earlier ones left.
  Value forward(const Value& input, const std::vector<Value>& tunables);
  // Decodes into this element type.
  Value decode(const Values& encoded, rh_data_type type);
  Values encoded() const;

 private:
  class Call;

  void create();
  void measure();
  void prepare();
  void first_forward();
  void backward();
  void sign_step();
  void encode();
  void decode_encoded();
  void keep(const char* call, const rh_tensor_spec& spec, const Value& value);
  bool is_absent(size_t tunable) const {
    return static_cast<int>(tunable) == options_.absent_tunable && !options_.absent_as_initial;
  }

  Case case_;
  CallOptions options_;
  Value input_, importance_, grad_;
  std::unique_ptr<LayerBlock> layer_;
  rh_quantizer* quantizer_ = nullptr;
  const rh_quantizer_info* info_ = nullptr;
  bool uses_tunables_ = false;
  std::optional<Value> statistic_;
  std::vector<Value> states_, tunables_, encoded_;
  Values values_;
  std::vector<void (Pipeline::*)()> steps_;
  size_t next_ = 0;
};

// The gradient of the output that backward and sign_step get, uniform in [-scale, scale].
std::vector<float> gradient_numbers(size_t n, float scale);
// Numbers as weights have them, the same for the same shape and deviation.
Value random_input(const Case& c, float deviation = 0.05f);
// Pipeline::run, where an error is a Failure: check took the case.
Values run_all(const Case& c, const Value& input, const CallOptions& options = {});
Values run_all(const Case& c, const CallOptions& options = {});
// Throws Failure naming the first value that differs.
void expect_same(const Values& expected, const Values& actual, const Case& c, const std::string& rule);
[[noreturn]] void fail_refused(const Refused& r, const Case& c);

// Zeros of either sign are one number.
Value without_signed_zeros(const Value& value);
// Throws Failure unless a quantizer that knows the layer alone decodes to what forward gave.
void expect_round_trip(const Case& c, const Value& input);

// body(case) for each case, none of which may be refused.
template <typename Body>
void for_cases(const std::vector<Case>& cases, Body&& body) {
  for (const Case& c : cases) {
    try {
      body(c);
    } catch (const Refused& r) {
      fail_refused(r, c);
    }
  }
}

}  // namespace roundhouse::validator

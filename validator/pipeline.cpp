// SPDX-License-Identifier: Apache-2.0
#include "validator/pipeline.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <roundhouse/plugin.hpp>
#include <thread>

namespace roundhouse::validator {
std::vector<int64_t> shape_of(const rh_tensor_spec& spec) { return {spec.shape, spec.shape + spec.ndim}; }

namespace {

constexpr unsigned char kUnknown = 0xa5;  // bytes behind structs
constexpr uint32_t kLearningRates = 2;

std::vector<float> random_floats(size_t n, float low, float high, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> out(n);
  for (float& x : out) x = low + (high - low) * static_cast<float>(random() >> 8) / static_cast<float>(1 << 24);
  return out;
}

Value filled(const rh_tensor_spec& spec, double value) {
  const auto shape = shape_of(spec);
  return to_value(spec.dtype, shape,
                  std::vector<float>(static_cast<size_t>(count_elements(shape)), static_cast<float>(value)));
}

Value tunable_of(const rh_tensor_spec& spec, const CallOptions& options, unsigned seed) {
  if (options.initial_tunables) return filled(spec, spec.initial);
  const bool bounded = std::isfinite(spec.clamp_min) && std::isfinite(spec.clamp_max);
  const double low = bounded ? spec.clamp_min + 0.75 * (spec.clamp_max - spec.clamp_min) : spec.initial - 0.45;
  const double high = bounded ? spec.clamp_max : spec.initial + 0.45;
  const auto shape = shape_of(spec);
  return to_value(spec.dtype, shape,
                  random_floats(static_cast<size_t>(count_elements(shape)), static_cast<float>(low),
                                static_cast<float>(high), seed));
}

}  // namespace

// One call: its tensors, its workspace and what is looked at afterwards.
class Pipeline::Call {
 public:
  Call(Pipeline& pipeline, const char* name, int32_t operation)
      : p_(pipeline), o_(pipeline.options_), name_(name), operation_(operation) {}

  const rh_tensor* in(const Value& value) {
    inputs_.push_back(std::make_unique<Tensor>(value, o_.pages));
    given_.push_back(value);
    return inputs_.back()->view();
  }
  const rh_tensor* const* in(const std::vector<Value>& values) {
    auto& list = lists_.emplace_back(std::make_unique<std::vector<rh_tensor*>>());
    for (const Value& value : values) list->push_back(const_cast<rh_tensor*>(in(value)));
    return list->data();
  }
  rh_tensor* out(rh_data_type type, std::vector<int64_t> shape) {
    outputs_.push_back(std::make_unique<Tensor>(type, std::move(shape), o_.pages, o_.fill));
    return outputs_.back()->view();
  }
  rh_tensor* in_out(const Value& value) {
    outputs_.push_back(std::make_unique<Tensor>(value, o_.pages));
    return outputs_.back()->view();
  }
  rh_tensor* const* out(const rh_tensor_spec* const* specs, uint32_t count) {
    auto& list = lists_.emplace_back(std::make_unique<std::vector<rh_tensor*>>());
    for (uint32_t i = 0; i < count; ++i) list->push_back(out(specs[i]->dtype, shape_of(*specs[i])));
    return list->data();
  }
  // Those of the pipeline, but for the one that is to be absent.
  rh_tensor* const* tunables() {
    if (!p_.uses_tunables_) return nullptr;
    std::vector<rh_tensor*> pointers;
    for (size_t i = 0; i < p_.tunables_.size(); ++i)
      pointers.push_back(p_.is_absent(i) ? nullptr : const_cast<rh_tensor*>(in(p_.tunables_[i])));
    return list(std::move(pointers));
  }
  rh_tensor* const* list(std::vector<rh_tensor*> pointers) {
    lists_.push_back(std::make_unique<std::vector<rh_tensor*>>(std::move(pointers)));
    return lists_.back()->data();
  }
  Value output(size_t i) const { return outputs_.at(i)->value(); }

  template <typename Args>
  void operator()(rh_code (*function)(rh_quantizer*, const rh_exec*, const Args*, rh_error*), Args args, int64_t rows) {
    const std::string where = text(name_, " of ", p_.case_.label());
    expect(function, where, text("the function ", name_, ", which info() makes necessary"), "NULL");
    std::vector<unsigned char> args_bytes(sizeof(Args) + o_.grow, kUnknown),
        exec_bytes(sizeof(rh_exec) + o_.grow, kUnknown);
    args.struct_size = static_cast<uint32_t>(args_bytes.size());
    std::memcpy(args_bytes.data(), &args, sizeof args);

    rh_exec exec{};
    exec.struct_size = static_cast<uint32_t>(exec_bytes.size());
    exec.device = {RH_DEVICE_CPU, 0};
    exec.cancelled = o_.cancelled;
    exec.status = o_.status;
    rh_quantizer* q = p_.quantizer_;
    if (q->workspace_size)
      exec.workspace_size =
          guarded("workspace_size for " + where, [&] { return q->workspace_size(q, operation_, RH_DEVICE_CPU, rows); });
    expect(exec.workspace_size < uint64_t{1} << 40, "workspace_size for " + where, "a size", text(exec.workspace_size));
    Block workspace(exec.workspace_size, o_.pages, o_.fill);
    if (exec.workspace_size > 0) exec.workspace = workspace.data();
    std::memcpy(exec_bytes.data(), &exec, sizeof exec);

    ErrorSlot error;
    rh_code code = RH_OK;
    const auto call = [&] {
      return function(q, reinterpret_cast<const rh_exec*>(exec_bytes.data()),
                      reinterpret_cast<const Args*>(args_bytes.data()), error.get());
    };
    if (o_.fresh_threads) {
      std::exception_ptr thrown;
      std::optional<Failure> failure;
      at(where);
      std::thread([&] {
        try {
          code = guarded(where, call);
        } catch (const Failure& f) {
          failure = f;
        }
      }).join();
      if (failure) throw *failure;
    } else {
      code = guarded(where, call);
    }
    look(where, workspace);
    if (o_.check_errors) error.check(code, where);
    std::fill(args_bytes.begin(), args_bytes.end(), 0xdb);
    std::fill(exec_bytes.begin(), exec_bytes.end(), 0xdb);
    if (code != RH_OK) {
      error.get()->message[sizeof error.get()->message - 1] = 0;
      throw Refused{where, code, error.get()->message};
    }
    if (o_.seal && exec.workspace_size > 0) workspace.seal();
  }

  ~Call() {
    if (!o_.seal) return;
    for (const auto& tensor : inputs_) tensor->seal();
    for (const auto& tensor : outputs_) tensor->seal();
  }

 private:
  void look(const std::string& where, const Block& workspace) {
    if (o_.check_inputs)
      for (size_t i = 0; i < inputs_.size(); ++i)
        if (const std::string d = difference(given_[i], inputs_[i]->value()); !d.empty())
          fail(where, "inputs stay as they are", text("input ", i, ", ", d));
    if (!o_.check_bounds) return;
    for (size_t i = 0; i < inputs_.size(); ++i)
      expect(inputs_[i]->block().damage().empty(), where, "no write around an input",
             text("input ", i, ": ", inputs_[i]->block().damage()));
    for (size_t i = 0; i < outputs_.size(); ++i)
      expect(outputs_[i]->block().damage().empty(), where, "no write around an output",
             text("output ", i, ": ", outputs_[i]->block().damage()));
    expect(workspace.damage().empty(), where,
           text("no write around the workspace of ", workspace.size(), " bytes, as workspace_size() asked"),
           workspace.damage());
  }

  Pipeline& p_;
  const CallOptions& o_;
  const char* name_;
  int32_t operation_;
  std::vector<std::unique_ptr<Tensor>> inputs_, outputs_;
  std::vector<Value> given_;
  std::vector<std::unique_ptr<std::vector<rh_tensor*>>> lists_;
};

Pipeline::Pipeline(const Case& c, const Value& input, const CallOptions& options)
    : case_(c), options_(options), input_(input), layer_(std::make_unique<LayerBlock>(c, options.pages, options.grow)) {
  assert(options.pages || !options.seal);
  create();
  const auto add = [&](bool wanted, void (Pipeline::*step)()) {
    if (wanted) steps_.push_back(step);
  };
  if (c.encoding) {
    for (const auto& [name, value] : c.encoding->tensors) encoded_.push_back(value);
    add(info_->state_count > 0, &Pipeline::prepare);
    add(!c.is_weight(), &Pipeline::first_forward);
    add(c.is_weight(), &Pipeline::decode_encoded);
    return;
  }
  uses_tunables_ = c.tuned() && info_->tunable_count > 0;
  add(info_->statistic, &Pipeline::measure);
  add(info_->state_count > 0, &Pipeline::prepare);
  add(true, &Pipeline::first_forward);
  add(tunes(), &Pipeline::backward);
  add(tunes() && c.is_weight() && quantizer_->sign_step, &Pipeline::sign_step);
  const bool encodes = info_->encoding && info_->encoding->tensor_count > 0;
  add(encodes, &Pipeline::encode);
  add(encodes && c.is_weight(), &Pipeline::decode_encoded);
}

Pipeline::~Pipeline() {
  if (!quantizer_ || !quantizer_->destroy) return;
  at("destroy of " + case_.label());
  quantizer_->destroy(quantizer_);
}

bool Pipeline::tunes() const { return quantizer_->backward && (uses_tunables_ || !case_.is_weight()); }

bool Pipeline::step() {
  if (next_ == steps_.size()) return false;
  (this->*steps_[next_++])();
  return true;
}

const Values& Pipeline::run() {
  while (step()) continue;
  return values_;
}

void Pipeline::create() {
  const std::string where = "create of " + case_.label();
  ErrorSlot error;
  const rh_code code =
      guarded(where, [&] { return case_.dtype->create(case_.dtype, layer_->get(), &quantizer_, error.get()); });
  if (options_.check_errors) error.check(code, where);
  if (code != RH_OK) {
    error.get()->message[sizeof error.get()->message - 1] = 0;
    throw Refused{where, code, error.get()->message};
  }
  expect(quantizer_, where, "a quantizer", "RH_OK and NULL");
  expect(quantizer_->struct_size >= sizeof(rh_quantizer), where,
         text("a table of at least ", sizeof(rh_quantizer), " bytes, that of 1.0"),
         text("struct_size ", quantizer_->struct_size));
  expect(quantizer_->info && quantizer_->destroy, where, "info and destroy", "NULL");
  if (options_.seal) layer_->seal();
  info_ = guarded("info of " + case_.label(), [&] { return quantizer_->info(quantizer_); });
  expect(info_ && info_->struct_size >= sizeof(rh_quantizer_info), "info of " + case_.label(),
         text("a struct of at least ", sizeof(rh_quantizer_info), " bytes"), info_ ? "a smaller one" : "NULL");
  for (uint32_t i = 0; i < info_->tunable_count; ++i)
    tunables_.push_back(tunable_of(*info_->tunables[i], options_, 11 + i));
  if (options_.absent_tunable >= 0 && options_.absent_as_initial) {
    const rh_tensor_spec& spec = *info_->tunables[options_.absent_tunable];
    tunables_.at(static_cast<size_t>(options_.absent_tunable)) = filled(spec, spec.initial);
  }
  const auto n = static_cast<size_t>(count_elements(input_.shape));
  grad_ = to_value(rh::kF32, input_.shape, gradient_numbers(n, options_.gradient_scale));
  if (options_.gradient) grad_ = *options_.gradient;
  importance_ = to_value(rh::kF32, {std::max<int64_t>(0, case_.cols)},
                         random_floats(static_cast<size_t>(std::max<int64_t>(0, case_.cols)), 0.1f, 4, 6));
  if (options_.importance_of) importance_ = *options_.importance_of;
}

void Pipeline::keep(const char* call, const rh_tensor_spec& spec, const Value& value) {
  values_.emplace_back(text(call, ": ", spec.name ? spec.name : "?"), value);
}

void Pipeline::measure() {
  Call call(*this, "measure", RH_OP_MEASURE);
  rh_tensor* statistic = call.out(info_->statistic->dtype, shape_of(*info_->statistic));
  call(quantizer_->measure, rh_measure_args{0, 0, call.in(input_), statistic}, input_.shape[0]);
  statistic_ = options_.statistic ? *options_.statistic : call.output(0);
  keep("measure", *info_->statistic, *statistic_);
}

void Pipeline::prepare() {
  Call call(*this, "prepare", RH_OP_PREPARE);
  rh_tensor* const* states = call.out(info_->states, info_->state_count);
  const rh_prepare_args args{0,
                             0,
                             case_.is_weight() && !case_.encoding ? call.in(input_) : nullptr,
                             options_.importance ? call.in(importance_) : nullptr,
                             statistic_ ? call.in(*statistic_) : nullptr,
                             states,
                             case_.encoding ? call.in(encoded_) : nullptr};
  call(quantizer_->prepare, args, case_.is_weight() ? input_.shape[0] : 0);
  states_.clear();
  for (uint32_t i = 0; i < info_->state_count; ++i) {
    states_.push_back(call.output(i));
    keep("prepare", *info_->states[i], states_.back());
  }
}

void Pipeline::first_forward() {
  Call call(*this, "forward", RH_OP_FORWARD);
  const rh_data_type type = options_.output.bits ? options_.output : case_.element;
  rh_tensor* output = options_.in_place ? call.in_out(input_) : call.out(type, input_.shape);
  rh_tensor* const* results = options_.with_results ? call.out(info_->results, info_->result_count) : nullptr;
  const rh_tensor* const* states = call.in(states_);
  const rh_tensor* const* tunables = call.tunables();
  const rh_tensor* input = options_.in_place ? output : call.in(input_);
  call(quantizer_->forward, rh_forward_args{0, 0, input, tunables, states, output, results}, input_.shape[0]);
  values_.emplace_back("forward: output", call.output(0));
  if (options_.with_results)
    for (uint32_t i = 0; i < info_->result_count; ++i) keep("forward", *info_->results[i], call.output(i + 1));
}

Value Pipeline::forward(const Value& input, const std::vector<Value>& tunables) {
  Call call(*this, "forward", RH_OP_FORWARD);
  rh_tensor* output = call.out(rh::kF32, input.shape);
  const rh_forward_args args{
      0, 0, call.in(input), tunables.empty() ? nullptr : call.in(tunables), call.in(states_), output, nullptr};
  call(quantizer_->forward, args, input.shape[0]);
  return call.output(0);
}

void Pipeline::backward() {
  Call call(*this, "backward", RH_OP_BACKWARD);
  std::vector<rh_tensor*> grads;
  if (uses_tunables_) {
    rh_tensor* const* made = call.out(info_->tunables, info_->tunable_count);
    grads.assign(made, made + info_->tunable_count);
    for (size_t i = 0; i < grads.size(); ++i)
      if (is_absent(i)) grads[i] = nullptr;
  } else {
    grads.resize(info_->tunable_count, nullptr);
  }
  rh_tensor* grad_input = case_.is_weight() ? nullptr : call.out(case_.element, input_.shape);
  const rh_backward_args args{0,
                              0,
                              call.in(input_),
                              call.tunables(),
                              call.in(states_),
                              call.in(grad_),
                              grads.empty() ? nullptr : call.list(grads),
                              grad_input};
  call(quantizer_->backward, args, input_.shape[0]);
  for (uint32_t i = 0; uses_tunables_ && i < info_->tunable_count; ++i)
    if (grads[i]) keep("backward", *info_->tunables[i], call.output(i));
  if (grad_input) values_.emplace_back("backward: input", call.output(uses_tunables_ ? info_->tunable_count : 0));
}

void Pipeline::sign_step() {
  Call call(*this, "sign_step", RH_OP_SIGN_STEP);
  std::vector<rh_tensor*> tunables;
  for (const Value& tunable : tunables_) tunables.push_back(call.in_out(tunable));
  for (size_t i = 0; i < tunables.size(); ++i)
    if (is_absent(i)) tunables[i] = nullptr;
  const std::vector<Value> rates(kLearningRates,
                                 to_value(rh::kF32, {}, {static_cast<float>(options_.learning_rate) / 100.0f}));
  const rh_sign_step_args args{
      0, kLearningRates, call.in(input_), call.list(tunables), call.in(states_), call.in(grad_), call.in(rates)};
  call(quantizer_->sign_step, args, input_.shape[0]);
  for (uint32_t i = 0; i < info_->tunable_count; ++i)
    if (tunables[i]) keep("sign_step", *info_->tunables[i], call.output(i));
}

void Pipeline::encode() {
  Call call(*this, "encode", RH_OP_ENCODE);
  rh_tensor* const* tensors = call.out(info_->encoding->tensors, info_->encoding->tensor_count);
  const rh_encode_args args{0,      0, case_.is_weight() ? call.in(input_) : nullptr, call.tunables(), call.in(states_),
                            tensors};
  call(quantizer_->encode, args, case_.is_weight() ? input_.shape[0] : 0);
  encoded_.clear();
  for (uint32_t i = 0; i < info_->encoding->tensor_count; ++i) {
    encoded_.push_back(call.output(i));
    keep("encode", *info_->encoding->tensors[i], encoded_.back());
  }
}

Values Pipeline::encoded() const {
  Values out;
  for (uint32_t i = 0; i < info_->encoding->tensor_count && !encoded_.empty(); ++i)
    out.emplace_back(info_->encoding->tensors[i]->name, encoded_.at(i));
  return out;
}

Value Pipeline::decode(const Values& encoded, rh_data_type type) {
  Call call(*this, "decode", RH_OP_DECODE);
  rh_tensor* output = call.out(type, {case_.rows, case_.cols});
  std::vector<Value> tensors;
  for (const auto& [name, value] : encoded) tensors.push_back(value);
  call(quantizer_->decode, rh_decode_args{0, 0, call.in(tensors), output}, case_.rows);
  return call.output(0);
}

void Pipeline::decode_encoded() { values_.emplace_back("decode: output", decode(encoded(), case_.element)); }

const Value* Pipeline::find(const std::string& name) const {
  for (const auto& [key, value] : values_)
    if (key == name) return &value;
  return nullptr;
}

const Value& Pipeline::value(const std::string& name) const {
  const Value* found = find(name);
  if (!found) fail(case_.label(), name, "no such result");
  return *found;
}

std::vector<float> gradient_numbers(size_t n, float scale) { return random_floats(n, -scale, scale, 5); }

Value random_input(const Case& c, float deviation) {
  std::mt19937 random(static_cast<unsigned>(c.rows * 1009 + c.cols));
  std::vector<float> out(static_cast<size_t>(c.rows * c.cols));
  for (float& x : out) {  // nearly normal: the sum of four uniform numbers
    x = 0;
    for (int i = 0; i < 4; ++i) x += static_cast<float>(random() >> 8) / static_cast<float>(1 << 23) - 1;
    x *= deviation;
  }
  return to_value(c.element, {c.rows, c.cols}, out);
}

void fail_refused(const Refused& r, const Case&) {
  fail(r.call, "RH_OK: check took the layer", text("code ", r.code, ": ", printable(r.message.c_str())));
}

Values run_all(const Case& c, const Value& input, const CallOptions& options) {
  try {
    Pipeline pipeline(c, input, options);
    return pipeline.run();
  } catch (const Refused& r) {
    fail_refused(r, c);
  }
}

Values run_all(const Case& c, const CallOptions& options) { return run_all(c, random_input(c), options); }

void expect_same(const Values& expected, const Values& actual, const Case& c, const std::string& rule) {
  expect(expected.size() == actual.size(), c.label(), rule, "another number of results");
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::string d = difference(expected[i].second, actual[i].second);
    if (!d.empty()) fail(text(expected[i].first, " of ", c.label()), rule, d);
  }
}

Value without_signed_zeros(const Value& value) {
  std::vector<float> numbers = floats(value);
  for (float& x : numbers) x = x == 0 ? 0.0f : x;
  return to_value(value.type, value.shape, numbers);
}

void expect_round_trip(const Case& c, const Value& input) {
  Pipeline pipeline(c, input);
  pipeline.run();
  if (!pipeline.find("decode: output")) return;
  // By a quantizer that knows the layer alone.
  Pipeline fresh(c, Value{c.element, {0, 0}, {}});
  const Value decoded = fresh.decode(pipeline.encoded(), c.element);
  const std::string d =
      difference(without_signed_zeros(pipeline.value("forward: output")), without_signed_zeros(decoded));
  expect(d.empty(), "decode of " + c.label(), "decode(encode(w)) equals forward(w) bit for bit", d);
}

}  // namespace roundhouse::validator

// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/quantize.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <exception>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "host/base/cpu.h"
#include "host/base/error.h"
#include "host/base/log.h"
#include "host/base/parallel.h"
#include "host/export/stored_layer.h"
#include "host/model/accelerator.h"
#include "host/model/decoder.h"
#include "host/model/torch_tensor.h"
#include "host/plan/passes.h"
#include "host/ranks/ranks.h"
#include "host/text/calibration.h"
#include "host/tuning/activation_quantizer.h"
#include "host/tuning/block_loop.h"
#include "host/tuning/caching_allocator.h"
#include "host/tuning/expert_tokens.h"
#include "host/tuning/hand_over.h"
#include "host/tuning/held_source.h"
#include "host/tuning/hidden_states.h"
#include "host/tuning/importance.h"
#include "host/tuning/layer_quantizer.h"
#include "host/tuning/logits_loss.h"
#include "host/tuning/loss.h"
#include "host/tuning/place.h"
#include "host/tuning/shares.h"
#include "host/tuning/units.h"

namespace roundhouse {
namespace {

// Where rounding is so coarse that outliers are left out of the loss: auto-round 0.16, SignRoundV2.
bool has_outliers(const LayerPlan& layer) {
  const auto& [weight, activation] = layer.scheme;
  return weight->rounding == Rounding::kTunedSearch && !layer.too_few_tokens &&
         (weight->bits < 4 || (activation && activation->bits <= 4));
}

constexpr const char* kSave = "save";  // what the first rank tells the others before it writes a record

constexpr int64_t kErrorUnits = 4;  // those that a block's errors are taken over: some thousand tokens

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Run {
 public:
  Run(const QuantizeInput& input, QuantizeSink& sink)
      : in_(input),
        source_(input.source),
        sink_(sink),
        recipe_(input.plan.recipe),
        passes_(passes(input.plan)),
        device_(input.device),
        on_device_(device_),
        compute_(computes_in_bfloat16(device_.is_cuda()) ? at::kBFloat16 : at::kFloat),
        random_(static_cast<uint64_t>(recipe_.calibration.seed)),
        collector_(layers_to_collect(input.plan, input.catalogue)),
        share_(input.samples.empty() ? Range() : own_share(static_cast<int64_t>(input.samples.size()), seqlen())),
        memory_{recipe_.memory, recipe_.output, {}},
        // Packed layers come out of a plugin, which is to be asked by one thread.
        hand_over_(sink, runs_ahead(device_) && !input.quantized, input.ahead_bytes) {
    at::set_num_threads(threads());
    seen_.importance = input.plan.importance;
    for (const LayerPlan& layer : in_.plan.layers)
      if (layer.scheme.weight)
        planned_[layer.block].push_back(&layer);
      else if (layer.kept())
        kept_[layer.info.name + ".weight"] = &layer;
  }

  Observations run() {
    const at::NoGradGuard no_grad;
    if (passes_.any()) at_place("the embedding", recipe_, [&] { start_chains(); });
    for (int64_t block = in_.from ? restore(*in_.from) : 0; block < in_.architecture.blocks(); ++block) {
      const auto start = std::chrono::steady_clock::now();
      BlockReport report{block};
      at_place(cat("block ", block), recipe_, [&] { quantize_block(block, report); });
      report.seconds = seconds_since(start);
      sink_.block_done(report);
      pause(block + 1);
    }
    at_place(in_.architecture.head().name, recipe_, [&] {
      quantize_head();
      hand_over_.finish();
    });
    seen_.spill = memory_.spill;
    return std::move(seen_);
  }

 private:
  // A build without nvcc has plugins without kernels, and not every scheme has some.
  void warn_of_move(const LayerQuantizer& layer) {
    const std::string& dtype = layer.plan().scheme.weight->dtype;
    const bool others = device_.is_cuda() && (in_.catalogue.find_dtype(dtype)->supports & RH_SUPPORTS_CUDA);
    const std::string text =
        cat("the data type ", dtype, " has no kernels for ", in_.device, others ? " and this scheme" : "",
            layer.tunable() ? ": each iteration moves its weights to the CPU and back"
                            : ": its weights are rounded on the CPU",
            others ? "" : ". A build that finds nvcc has the kernels of the data types that come with it");
    if (warned_.insert(dtype).second) log::warning(text);
  }

  // Experts that are tuned are among them: calibration may hardly reach them.
  static std::set<std::string> layers_to_collect(const Plan& plan, const Catalogue& catalogue) {
    std::set<std::string> layers;
    const bool importance = passes(plan).importance;
    for (const LayerPlan& layer : plan.layers) {
      if (importance && layer.block >= 0 && plan.recipe.imatrix.save) layers.insert(layer.info.name);
      if (!layer.scheme.weight) continue;
      const Rounding rounding = layer.scheme.weight->rounding;
      if ((importance && is_searched(rounding)) ||
          (layer.info.stack && is_tuned(rounding) &&
           untuned(layer, catalogue).scheme.weight->rounding == Rounding::kSearch))
        layers.insert(layer.info.name);
    }
    return layers;
  }

  LayerQuantizers load_layers(int64_t block) {
    LayerQuantizers layers;
    for (const LayerPlan* plan : planned_[block]) {
      layers.push_back(
          std::make_unique<LayerQuantizer>(in_.catalogue, *plan, source_.load(stored_weight(plan->info)), device_));
      if (layers.back()->device() != device_) warn_of_move(*layers.back());
    }
    return layers;
  }

  // The planned weights of a block.
  std::vector<std::string> weights_of(int64_t block) const {
    std::vector<std::string> names;
    if (const auto found = planned_.find(block); found != planned_.end())
      for (const LayerPlan* layer : found->second) names.push_back(stored_weight(layer->info));
    return names;
  }

  void quantize_block(int64_t index, BlockReport& report) {
    std::optional<KeepFreedTensors> keep(std::in_place);
    LayerQuantizers layers = load_layers(index);
    Activations activations(in_.catalogue, planned_[index], compute_, device_);
    std::optional<Block> block;
    if (passes_.any()) {
      const LoadedWeights uploaded = [&](const LinearInfo& linear) {
        for (const auto& layer : layers)
          if (layer->plan().info.name == linear.name && layer->device() == device_) return layer->weight();
        return at::Tensor();
      };
      block.emplace(decoder_->block(index, runs_ahead(device_) ? uploaded : LoadedWeights()));
      observe(index, *block, activations, report);
      give_up_on_few(index, layers, report);
    }
    keep.reset();  // tuning wants other sizes
    keep.emplace();
    set_owners(layers, in_.catalogue);
    prepare(layers, seen_.importance);
    activations.prepare(seen_.ranges);
    // Where the source's tensors come out of a plugin, it is to be asked by one thread.
    if (runs_ahead(device_) && !in_.quantized && index + 1 < in_.architecture.blocks())
      source_.load_ahead(weights_of(index + 1), device_, in_.ahead_bytes);
    if (passes_.tuned || passes_.quantized) tune(index, *block, layers, activations, report);
    source_.settle();
    if (targets_) full_.swap(targets_);
    block.reset();
    keep.reset();
    emit(layers, activations, in_.architecture.block_tensors(index));
    if (!passes_.importance)
      for (const LinearInfo& linear : in_.architecture.block_linears(index)) seen_.importance.erase(linear.name);
  }

  // Takes the importance of input channels and the ranges of activations from the block with its original weights, and
  // takes the original chain, if that is there, through it. Counts the tokens of experts.
  void observe(int64_t index, Block& block, Activations& activations, BlockReport& report) {
    const bool ranges = activations.calibrated(), all_experts = recipe_.calibration.all_experts;
    tokens_ = ExpertTokens(in_.architecture.block_linears(index));
    const auto observe_with = [&](const InputHook& look, bool count) {
      block.set_input_hook([&, count](const LinearInfo& linear, const at::Tensor& input) {
        if (count) tokens_.add(linear, input);
        return all_experts && linear.stack ? input : look(linear, input);
      });
      if (all_experts) block.set_expert_hook(look);
    };
    if (passes_.full) {
      const bool measure = ranges && !passes_.quantized;
      const InputHook look = [&, measure](const LinearInfo& linear, const at::Tensor& input) {
        collector_.add(linear, input, unit_);
        if (measure) activations.measure(linear, input, unit_);
        return input;
      };
      if (passes_.importance || measure || !tokens_.by_expert().empty()) observe_with(look, true);
      if (passes_.tuned || passes_.quantized) first_inputs_ = full_->rows(0, error_samples()).clone();
      forward_all(block, *full_, targets_ ? targets_.get() : full_.get());
      collector_.join_ranks();
      seen_.importance.merge(collector_.take());
    }
    if (ranges && passes_.quantized) {
      const InputHook look = [&](const LinearInfo& linear, const at::Tensor& input) {
        activations.measure(linear, input, unit_);
        return input;
      };
      observe_with(look, !passes_.full);
      forward_all(block, *quantized_, nullptr);
    }
    block.set_input_hook({});
    block.set_expert_hook({});
    tokens_.join_ranks();
    if (ranges) seen_.ranges.merge(activations.take_ranges([&](const std::string& layer) { return few(layer); }));
    report.expert_tokens = tokens_.by_expert();
  }

  // Whether what calibration told of the layer is that of too few tokens.
  bool few(const std::string& layer) const {
    return !recipe_.calibration.all_experts && tokens_.few(layer, std::max<int64_t>(1, recipe_.tuning.least_tokens));
  }

  // Experts that got few tokens are not tuned, and searched with the importance of all experts of the block.
  void give_up_on_few(int64_t index, LayerQuantizers& layers, BlockReport& report) {
    std::vector<const LayerPlan*> sharing;
    for (auto& layer : layers) {
      const LayerPlan& plan = layer->plan();
      if (is_tuned(plan.scheme.weight->rounding) && tokens_.few(plan.info.name, recipe_.tuning.least_tokens))
        layer =
            std::make_unique<LayerQuantizer>(in_.catalogue, few_.emplace_back(untuned_as_planned(plan, in_.catalogue)),
                                             source_.load(stored_weight(plan.info)), device_);
      if (few(layer->plan().info.name) && collector_.wants(layer->plan().info.name)) sharing.push_back(&layer->plan());
    }
    share_importance(seen_.importance, in_.architecture.block_linears(index), sharing);
    report.few = std::count_if(report.expert_tokens.begin(), report.expert_tokens.end(),
                               [&](int64_t tokens) { return tokens < recipe_.tuning.least_tokens; });
  }

  void quantize_head() {
    const LinearInfo& head = in_.architecture.head();
    LayerQuantizers layers = load_layers(-1);
    Activations activations(in_.catalogue, planned_[-1], compute_, device_);
    const auto for_inputs = [&](const HiddenStates& hidden, const auto& body) {
      for_all_units([&](int64_t begin, int64_t end) { body(head, decoder_->head_input(hidden.rows(begin, end))); });
    };
    if (collector_.wants(head.name)) {
      for_inputs(*full_, [&](const auto& linear, const auto& input) { collector_.add(linear, input, unit_); });
      collector_.join_ranks();
      seen_.importance.merge(collector_.take());
    }
    if (activations.calibrated()) {
      for_inputs(passes_.quantized ? *quantized_ : *full_,
                 [&](const auto& linear, const auto& input) { activations.measure(linear, input, unit_); });
      seen_.ranges.merge(activations.take_ranges([](const std::string&) { return false; }));
    }
    set_owners(layers, in_.catalogue);
    prepare(layers, seen_.importance);
    activations.prepare(seen_.ranges);
    emit(layers, activations, stored_);
  }

  void start_chains() {
    decoder_ = std::make_unique<Decoder>(in_.architecture, source_, compute_, device_);
    const int64_t n = static_cast<int64_t>(in_.samples.size());
    const int64_t length = seqlen();
    seen_.tokens = n * length;
    at::Tensor ids = at::empty({n, length}, at::kLong);
    mask_ = at::empty({n, length}, at::kByte);
    for (int64_t i = 0; i < n; ++i) {
      const std::vector<uint8_t> mask = loss_mask(in_.samples[i], in_.pad_id);
      std::copy(in_.samples[i].begin(), in_.samples[i].end(), ids.mutable_data_ptr<int64_t>() + i * length);
      std::copy(mask.begin(), mask.end(), mask_.mutable_data_ptr<uint8_t>() + i * length);
    }
    positions_ = std::make_unique<PositionData>(decoder_->positions(length));
    const auto store = [&] {
      return std::make_unique<HiddenStates>(at::IntArrayRef{share_.size(), length, in_.architecture.state_size()},
                                            compute_, device_, memory_);
    };
    if (passes_.full) full_ = store();
    if (passes_.quantized) quantized_ = store();
    if (passes_.tuned && !passes_.quantized) targets_ = store();
    if (in_.from) return;  // restore() fills them
    ids = ids.slice(0, share_.begin, share_.end);
    for_all_units([&](int64_t begin, int64_t end) {
      const at::Tensor hidden = decoder_->embed(ids.slice(0, begin, end));
      if (full_) full_->write(begin, hidden);
      if (quantized_) quantized_->write(begin, hidden);
    });
    source_.drop();
  }

  // The first rank's sink decides whether there is to be a record.
  void pause(int64_t next) {
    if (this_rank() > 0) {
      if (ranks()->from_first("") == kSave) send_chains();
      return;
    }
    bool saved = false;
    if (sink_.wants_pause()) {
      hand_over_.finish();
      sink_.pause([&](RecordWriter& record) {
        if (ranks()) ranks()->from_first(kSave);
        saved = true;
        save(next, record);
      });
    }
    if (ranks() && !saved) ranks()->from_first("");
  }

  // All that blocks from `next` on take from those before them. What the other ranks send is taken in any case: a run
  // goes on without a record that cannot be written.
  void save(int64_t next, RecordWriter& record) const {
    std::exception_ptr failure;
    const auto attempt = [&](const auto& step) {
      if (failure) return;
      try {
        step();
      } catch (const std::exception&) {
        failure = std::current_exception();
      }
    };
    attempt([&] {
      record.state["next"] = next;
      record.state["random"] = random_.state();
      record.state["done"] = done_;
      add_observations(record, seen_);
    });
    for (const auto& [name, chain] : chains()) {
      std::vector<int64_t> shape = chain->sample_shape().vec();
      shape.insert(shape.begin(), static_cast<int64_t>(in_.samples.size()));
      attempt([&, chain = chain, name = name] {
        record.begin(name, from_torch(chain->type()), shape);
        for_all_units(
            [&](int64_t begin, int64_t end) { record.append(from_torch(chain->rows(begin, end).cpu().contiguous())); });
      });
      for (int rank = 1; rank < rank_count(); ++rank) {
        const Range share = share_of_rank(shape.front(), seqlen(), rank, rank_count());
        for_units(share.size(), seqlen(), [&](int64_t, int64_t) {
          const at::Tensor rows = receive(rank);
          attempt([&] { record.append(from_torch(rows)); });
        });
      }
    }
    if (failure) std::rethrow_exception(failure);
  }

  // What save() takes from the other ranks.
  void send_chains() const {
    for (const auto& [name, chain] : chains())
      for_all_units([&, chain = chain](int64_t begin, int64_t end) {
        post(0, chain->rows(begin, end));
        ranks()->flush();
      });
  }

  // Takes all of the record, and returns the next block.
  int64_t restore(std::optional<JournalRecord>& from) {
    const JournalRecord record = std::move(*from);
    from.reset();
    random_.restore(record.state().at("random").get<std::string>());
    done_ = record.state().at("done").get<decltype(done_)>();
    take_observations(record, seen_);
    for (const auto& [name, chain] : chains()) {
      const at::Tensor stored = to_torch(record.tensor(name));
      for_all_units([&, chain = chain](int64_t begin, int64_t end) {
        chain->write(begin, stored.slice(0, share_.begin + begin, share_.begin + end).to(device_));
      });
    }
    return record.state().at("next").get<int64_t>();
  }

  // Those that are there, by their names in a record.
  std::vector<std::pair<std::string, HiddenStates*>> chains() const {
    std::vector<std::pair<std::string, HiddenStates*>> there;
    if (full_) there.emplace_back("full", full_.get());
    if (quantized_) there.emplace_back("quantized", quantized_.get());
    return there;
  }

  int64_t seqlen() const { return static_cast<int64_t>(in_.samples.front().size()); }

  // Calls body(begin, end) for the units of this rank's samples, in whose stores they have these numbers.
  template <typename Body>
  void for_all_units(const Body& body) const {
    unit_ = 0;
    for_units(share_.size(), seqlen(), [&](int64_t begin, int64_t end) {
      body(begin, end);
      ++unit_;
    });
  }

  // The block's output for all samples goes to `output`, which may be `input`, or nowhere.
  void forward_all(const Block& block, const HiddenStates& input, HiddenStates* output) {
    for_all_units([&](int64_t begin, int64_t end) {
      const at::Tensor hidden = block.forward(input.rows(begin, end), *positions_);
      if (output) output->write(begin, hidden);
    });
  }

  void tune(int64_t index, Block& block, LayerQuantizers& layers, Activations& activations, BlockReport& report) {
    std::unordered_map<std::string, LayerQuantizer*> by_name;
    for (auto& layer : layers) {
      layer->make_leaf(compute_, device_);
      by_name[layer->plan().info.name] = layer.get();
    }
    for (LinearSlot& slot : block.linears())
      if (const auto layer = by_name.find(slot.info.name); layer != by_name.end()) slot.weight = layer->second->leaf();
    if (!activations.empty())
      block.set_input_hook(
          [&](const LinearInfo& linear, const at::Tensor& input) { return activations.forward(linear, input); });
    if (std::none_of(layers.begin(), layers.end(), [](const auto& layer) { return layer->tunable(); })) {
      write_leaves(layers, [](const LayerQuantizer&) { return true; });
    } else {
      std::vector<const DeviceQuantizer*> quantizers;
      for (const auto& layer : layers) quantizers.push_back(&layer->on_device());
      for (const auto& activation : activations.quantizers()) quantizers.push_back(&activation->on_device());
      DeviceStatus status(std::move(quantizers));
      const at::AutoGradMode with_grad(true);
      block.set_expert_gradient_hook([&](const LinearInfo& linear, Rows x, Rows dy) {
        by_name.at(linear.name)->gradient().add_product(std::move(x), std::move(dy));
      });
      const BlockLoss loss = run_block_loop(
          {passes_.quantized ? *quantized_ : *full_, targets_ ? *targets_ : *full_, mask_,
           [&](const at::Tensor& hidden) { return compared(block.forward(hidden, *positions_)); }, layers, random_,
           [&](int64_t iteration, double value) {
             hand_over_.check();
             sink_.iteration(index, iteration, value);
           },
           runs_ahead(device_),
           std::any_of(layers.begin(), layers.end(), [](const auto& layer) { return has_outliers(layer->plan()); }),
           in_.architecture.hidden_size(), loss_of(index, layers), [&] { in_.source.release_pages(); }, &status},
          recipe_.tuning, recipe_.calibration.batch_size);
      block.set_expert_gradient_hook({});
      report.first_loss = loss.first;
      report.best_loss = loss.best;
      report.best_iteration = loss.best_iteration;
      report.of_logits = is_against_logits(index);
    }
    if (full_) {
      report.error_alone = error(block, first_inputs_);
      if (quantized_) report.error_in_chain = error(block, quantized_->rows(0, error_samples()));
    }
    const auto outside = planned_.find(-1);
    const bool read_on = index + 1 < in_.architecture.blocks() ||
                         (outside != planned_.end() && std::any_of(outside->second.begin(), outside->second.end(),
                                                                   [](const auto* l) { return l->calibrated_input; }));
    if (passes_.quantized && read_on) forward_all(block, *quantized_, quantized_.get());
  }

  bool is_against_logits(int64_t index) const {
    return index + 1 == in_.architecture.blocks() && last_block(recipe_.tuning) == Tuning::LastBlock::kLogits;
  }

  // Nothing: the squared error of its output.
  decltype(BlockLoop::loss) loss_of(int64_t index, const LayerQuantizers& layers) const {
    if (!is_against_logits(index)) return {};
    double weights = 0;
    for (const auto& layer : layers)
      weights += static_cast<double>(layer->weight().numel()) * share_met(layer->plan(), in_.plan);
    const double head = static_cast<double>(decoder_->vocab()) * static_cast<double>(in_.architecture.hidden_size());
    const int64_t stride = std::min(logits_stride(weights, head), seqlen());
    return [this, stride](const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& mask, double scale,
                          int64_t iteration) {
      return divergence_of_logits(*decoder_, prediction, target, mask, scale, iteration % stride, stride);
    };
  }

  // Of a block's output the hidden state, without what it passes on.
  at::Tensor compared(const at::Tensor& output) const {
    const int64_t size = in_.architecture.hidden_size();
    return output.size(-1) == size ? output : output.narrow(-1, 0, size);
  }

  // Of this rank's samples, those that a block's errors are taken over.
  int64_t error_samples() const {
    return std::clamp<int64_t>(kErrorUnits * unit_samples(seqlen()) - share_.begin, 0, share_.size());
  }

  // The relative error of the block's output for the first samples, given these inputs.
  double error(const Block& block, const at::Tensor& inputs) const {
    std::vector<double> of_units;
    for_units(inputs.size(0), inputs.size(1), [&](int64_t begin, int64_t end) {
      const at::Tensor wanted = compared((targets_ ? *targets_ : *full_).rows(begin, end)),
                       mask = mask_.slice(0, share_.begin + begin, share_.begin + end).to(device_);
      const auto distance = [&](const at::Tensor& from) {
        return masked_squared_error(from, wanted, mask, 0).squared_error.item<double>();
      };
      of_units.push_back(distance(compared(block.forward(inputs.slice(0, begin, end), *positions_))));
      of_units.push_back(distance(at::zeros_like(wanted)));
    });
    double squared_error = 0, squares = 0;
    for (const std::vector<double>& units : of_all_ranks(of_units))
      for (size_t i = 0; i < units.size(); i += 2) {
        squared_error += units[i];
        squares += units[i + 1];
      }
    return squares > 0 ? std::sqrt(squared_error / squares) : 0;
  }

  // Hands the layers and the other tensors among `names` over.
  void emit(LayerQuantizers& layers, const Activations& activations, const std::vector<std::string>& names) {
    if (this_rank() > 0) return send(layers);
    for (auto& layer : layers) {
      const std::string& name = layer->plan().info.name;
      const Tensor bias = layer->plan().info.has_bias ? source_.take(name + ".bias") : Tensor();
      EncodedLayer encoded = layer->is_own()
                                 ? layer->take_encoded(bias)
                                 : receive_layer(layer->owner(), layer->plan(), layer->encoding(), bias, in_.catalogue);
      if (ActivationQuantizer* activation = activations.find(name)) encoded.activation_tensors = activation->encode();
      hand_over_.layer(std::move(encoded));
      done_.insert(name + ".weight");
      if (layer->plan().info.has_bias) done_.insert(name + ".bias");  // another one is no part of the layer
    }
    for (const std::string& name : names) {
      if (const auto kept = kept_.find(name); kept != kept_.end() && done_.insert(name).second) {
        with_stored_layer(*kept->second, *in_.quantized, in_.source,
                          [&](const EncodedLayer& layer) { hand_over_.layer(layer); });
        done_.insert(kept->second->info.name + ".bias");  // it came with the layer
      }
      const std::string exported = exported_name(in_.architecture, stored_, name);
      if (exported.empty() || !source_.contains(name) || !done_.insert(exported).second) continue;
      hand_over_.tensor(exported, source_.take(name));
    }
    source_.drop();
  }

  // The first rank hands this rank's layers to the formats.
  void send(LayerQuantizers& layers) {
    for (auto& layer : layers)
      if (layer->is_own())
        for (const Tensor& tensor : layer->encode()) post(0, tensor);
    ranks()->flush();
    source_.drop();
  }

  // A tied head may be stored under the head's name alone; the layer is the embedding then.
  std::string stored_weight(const LinearInfo& layer) const {
    const std::string weight = layer.name + ".weight";
    return source_.contains(weight) ? weight : in_.architecture.head().name + ".weight";
  }

  const QuantizeInput& in_;
  HeldSource source_;
  const std::vector<std::string> stored_ = source_.names();
  QuantizeSink& sink_;
  const Recipe& recipe_;
  Passes passes_;
  at::Device device_;
  OnRunDevice on_device_;
  at::ScalarType compute_;
  PythonRandom random_;                                       // one stream for all blocks, the same on every rank
  std::map<std::string, const LayerPlan*> kept_;              // by weight: they stay packed as the source has them
  std::map<int64_t, std::vector<const LayerPlan*>> planned_;  // by block, -1: the head and the embedding
  ImportanceCollector collector_;
  Range share_;                // this rank's calibration samples: those in its stores
  mutable int64_t unit_ = 0;   // of them: the one that passes
  ExpertTokens tokens_{{}};    // of the block
  std::deque<LayerPlan> few_;  // of layers that are not tuned for want of them
  Observations seen_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<PositionData> positions_;
  // Where the two chains are. The original one is a block ahead while that is tuned, and its outputs the targets; when
  // its inputs are needed too, for want of the other chain, they stay and the outputs go to targets_.
  HiddenStatesMemory memory_;
  std::unique_ptr<HiddenStates> full_, quantized_, targets_;
  at::Tensor mask_;
  at::Tensor first_inputs_;               // of the block in the original chain: the first samples
  std::unordered_set<std::string> done_;  // by the names that the formats get
  std::set<std::string> warned_;          // data types whose weights leave the device
  HandOver hand_over_;                    // last: its thread uses the others
};

}  // namespace

int64_t busy_ranks(int64_t batch, int64_t seqlen, int ranks) {
  int64_t busy = 0;
  while (busy < ranks && share_of_rank(batch, seqlen, static_cast<int>(busy), ranks).size() > 0) ++busy;
  return busy;
}

Observations quantize(const QuantizeInput& input, QuantizeSink& sink) { return Run(input, sink).run(); }

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/round.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/base/cancel.h"
#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/export/stored_layer.h"
#include "host/model/accelerator.h"
#include "host/model/finite.h"
#include "host/model/torch_tensor.h"
#include "host/ranks/ranks.h"
#include "host/tuning/hand_over.h"
#include "host/tuning/layer_quantizer.h"
#include "host/tuning/place.h"
#include "host/tuning/shares.h"

namespace roundhouse {
namespace {

const std::string kShared = "shared/";  // what names of a record's tensors begin with

class LayerRounding {
 public:
  LayerRounding(const QuantizeInput& input, QuantizeSink& sink)
      : in_(input),
        sink_(sink),
        device_(input.device),
        hand_over_(sink, runs_ahead(device_) && !input.quantized, input.ahead_bytes) {
    at::set_num_threads(threads());
    for (const LayerPlan& layer : in_.plan.layers) {
      if (!layer.encoding) continue;
      layers_[layer.info.name + ".weight"] = &layer;
      if (!layer.info.siblings.empty()) siblings_[layer.info.siblings].push_back(&layer);
    }
    for (const TensorPlan& tensor : in_.plan.tensors)
      if (tensor.part) stacks_[tensor.name] = tensor.part->tensor;
  }

  void run() {
    const at::NoGradGuard no_grad;
    const std::vector<std::string> names = in_.source.names();
    for (size_t i = in_.from ? restore(*in_.from) : 0; i < names.size(); ++i) {
      throw_if_cancelled();
      if (this_rank() > 0) {
        send(names[i]);
        continue;
      }
      one(names[i]);
      // A stack that a writer has begun is large: no record has a part of one.
      if (i + 1 < names.size() && stack_of(names[i]) == stack_of(names[i + 1]) && !stack_of(names[i]).empty()) continue;
      if (!sink_.wants_pause()) continue;
      hand_over_.finish();
      sink_.pause([&](RecordWriter& record) { save(i + 1, record); });
    }
    hand_over_.finish();
    if (ranks()) ranks()->flush();
  }

 private:
  // The tensor of all that this one is a part of; "": none.
  std::string stack_of(const std::string& name) const {
    const auto found = stacks_.find(name);
    return found == stacks_.end() ? "" : found->second;
  }

  // A file's pages come in groups, and pages shared with a neighbouring tensor stay mapped.
  void release_pages() {
    if (loaded_ <= kLoadedBetweenReleases) return;
    in_.source.release_pages();
    loaded_ = 0;
  }

  // The rank that rounds a layer. REQUIRES: every rank asks for every layer once, in the order of the checkpoint.
  int owner_of(const LayerPlan& plan) {
    return can_be_sent(plan, in_.catalogue) ? balance_.next(plan.info.out_features * plan.info.in_features) : 0;
  }

  // Where the tensor is a layer of this rank's, rounds it for the first rank. While that takes it, the next one is rounded.
  void send(const std::string& name) {
    release_pages();
    const auto found = layers_.find(name);
    if (found == layers_.end() || found->second->kept() || owner_of(*found->second) != this_rank()) return;
    const LayerPlan& plan = *found->second;
    at_place(plan.info.name, in_.plan.recipe, [&] {
      const std::vector<Tensor> tensors = rounded(plan)->encode();
      ranks()->flush();
      for (const Tensor& tensor : tensors) post(0, tensor);
    });
  }

  // The layer of the tensor, or the tensor.
  void one(const std::string& name) {
    release_pages();
    const auto found = layers_.find(name);
    if (found == layers_.end()) {
      if (!is_bias(name)) hand_over_.tensor(name, load(name));
      return;
    }
    const LayerPlan& layer = *found->second;
    at_place(layer.info.name, in_.plan.recipe, [&] {
      if (layer.kept())
        with_stored_layer(layer, *in_.quantized, in_.source,
                          [&](const EncodedLayer& stored) { hand_over_.layer(stored); });
      else
        round(layer);
    });
  }

  // All that tensors from `next` on take from those before them.
  void save(size_t next, RecordWriter& record) const {
    record.state["next"] = next;
    for (const auto& [siblings, statistic] : shared_)
      if (statistic.defined()) record.add(kShared + siblings, from_torch(statistic.cpu().contiguous()));
  }

  // Takes all of the record, and returns the next tensor.
  size_t restore(std::optional<JournalRecord>& from) {
    const JournalRecord record = std::move(*from);
    from.reset();
    for (const auto& [siblings, statistic] : record.tensors(kShared))
      shared_[siblings] = to_torch(statistic).to(device_);
    return record.state().at("next").get<size_t>();
  }

  // It comes with its layer.
  bool is_bias(const std::string& name) const {
    constexpr std::string_view kBias = ".bias";
    if (!name.ends_with(kBias)) return false;
    const auto layer = layers_.find(name.substr(0, name.size() - kBias.size()) + ".weight");
    return layer != layers_.end() && layer->second->info.has_bias;
  }

  Tensor load(const std::string& name) {
    Tensor tensor = in_.source.load(name);
    if (!in_.source.checks_finite(name)) check_finite(tensor, name, in_.source.location());
    loaded_ += tensor.bytes();
    return tensor;
  }

  // Prepared, to be encoded.
  std::unique_ptr<LayerQuantizer> rounded(const LayerPlan& plan) {
    auto layer = std::make_unique<LayerQuantizer>(in_.catalogue, plan, load(plan.info.name + ".weight"), device_);
    const auto importance = in_.plan.importance.find(plan.info.name);
    const bool weighed = plan.scheme.weight->rounding == Rounding::kSearch;
    layer->prepare(statistic(plan, *layer), weighed && importance != in_.plan.importance.end()
                                                ? to_torch(importance->second.sums)
                                                : at::Tensor());
    return layer;
  }

  void round(const LayerPlan& plan) {
    const int owner = owner_of(plan);
    const Tensor bias = plan.info.has_bias ? load(plan.info.name + ".bias") : Tensor();
    hand_over_.layer(owner == this_rank() ? rounded(plan)->take_encoded(bias)
                                          : receive_layer(owner, plan, plan.encoding->get(), bias, in_.catalogue));
  }

  // Of all layers that read the same input, where the data type shares it: each of them is loaded once more.
  at::Tensor statistic(const LayerPlan& plan, LayerQuantizer& layer) {
    const rh_quantizer_info& info = layer.quantizer().info();
    if (plan.info.siblings.empty() || !(info.flags & RH_QUANTIZER_SHARED_STATISTIC)) return layer.measure();
    const auto [known, first] = shared_.try_emplace(plan.info.siblings);
    if (!first) return known->second;
    at::Tensor sum;  // in one order, whichever of them asks
    const auto add = [&](const at::Tensor& one) {
      if (one.defined()) sum = sum.defined() ? reduced(info.reduce, sum, one) : one;
    };
    for (const LayerPlan* other : siblings_.at(plan.info.siblings)) {
      if (other == &plan) {
        add(layer.measure());
      } else if (other->scheme.weight) {
        LayerQuantizer sibling(in_.catalogue, *other, load(other->info.name + ".weight"), device_);
        if (sibling.quantizer().info().flags & RH_QUANTIZER_SHARED_STATISTIC) add(sibling.measure());
      }
    }
    return known->second = sum;
  }

  const QuantizeInput& in_;
  QuantizeSink& sink_;
  at::Device device_;
  Balance balance_;
  static constexpr size_t kLoadedBetweenReleases = 256 << 20;
  size_t loaded_ = 0;                                         // bytes since pages were released
  std::unordered_map<std::string, const LayerPlan*> layers_;  // what becomes of a weight, by its name
  std::unordered_map<std::string, std::vector<const LayerPlan*>> siblings_;
  std::unordered_map<std::string, std::string> stacks_;  // the tensor of all that a tensor is a part of
  std::unordered_map<std::string, at::Tensor> shared_;   // statistics, by siblings
  HandOver hand_over_;
};

}  // namespace

void round_layers(const QuantizeInput& input, QuantizeSink& sink) { LayerRounding(input, sink).run(); }

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/weight_check.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "host/base/cancel.h"
#include "host/base/error.h"
#include "host/base/parallel.h"
#include "host/base/words.h"
#include "host/export/exporter.h"
#include "host/model/finite.h"
#include "host/plan/layer_check.h"
#include "host/plan/plan_text.h"
#include "host/tuning/layer_quantizer.h"

namespace roundhouse {
namespace {

constexpr size_t kLoadedBetweenReleases = 256 << 20;
// No scale of smaller weights is beyond float16: a group's range is at most twice this, and has a step or more.
constexpr double kLargestWithoutDoubt = 65504 / 2;

class Checker {
 public:
  explicit Checker(const WeightCheck& check) : in_(check), found_(check.plan) {
    for (LayerPlan& layer : found_.layers)
      if (layer.scheme.weight && layer.encoding) layers_[layer.info.name + ".weight"] = &layer;
    for (const TensorPlan& tensor : found_.tensors)
      if (tensor.extra) extra_.insert(tensor.name);
  }

  std::vector<std::string> run() {
    at::set_num_threads(threads());
    const at::NoGradGuard no_grad;
    size_t loaded = 0;
    int64_t index = 0;
    for (const std::string& name : in_.source.names()) {
      throw_if_cancelled();
      in_.progress(index++, name);
      const Tensor tensor = in_.source.load(name);
      look_at(name, tensor);
      if ((loaded += tensor.bytes()) < kLoadedBetweenReleases) continue;
      in_.source.release_pages();
      loaded = 0;
    }
    if (const std::string problems = describe_problems(found_); !problems.empty()) throw Error(problems);
    return std::move(warnings_);
  }

 private:
  void look_at(const std::string& name, const Tensor& tensor) {
    const auto layer = layers_.find(name);
    const double largest = largest_magnitude(tensor);
    if (!std::isfinite(largest)) {
      const std::string text = cat(in_.source.location(), ": ", name, " ", not_finite(tensor));
      if (extra_.contains(name))
        warnings_.push_back(text + ". The model does not compute with it: it is carried as it is");
      else
        found_.problems.push_back(text + ". Such a checkpoint is damaged, or overflowed when it was converted.");
    } else if (layer != layers_.end() && largest > kLargestWithoutDoubt) {
      check_scales(*layer->second, tensor);
    }
  }

  // Plain rounding has the largest scales.
  void check_scales(LayerPlan& layer, const Tensor& weight) {
    const std::optional<DType> said = layer.scheme.weight->scale_dtype;
    if (const std::string why = refusal_of_dtype(layer, weight); !why.empty()) {
      LayerPlan wide = with_scales(layer, DType::kBF16);
      const bool helps = !said && wide.problems.empty() && refusal_of_dtype(wide, weight).empty();
      add_problem(layer, why + (helps ? refusal_of_formats(wide, weight, ". With bfloat16: ") : ""));
    } else if (said && *said != DType::kF16 && !refusal_of_dtype(with_scales(layer, DType::kF16), weight).empty()) {
      if (const std::string refused = refusal_of_formats(layer, weight, ""); !refused.empty())
        add_problem(layer, refused);
    }
  }

  static void add_problem(LayerPlan& layer, const std::string& text) {
    layer.problems.push_back(text);
    layer.unfit = true;
  }

  LayerPlan with_scales(LayerPlan layer, DType scale) {
    layer.scheme.weight->scale_dtype = scale;
    check_layer(layer, found_.recipe.formats, in_.catalogue);
    return layer;
  }

  LayerPlan rounded_plainly(LayerPlan layer) const {
    layer.scheme.weight->rounding = Rounding::kPlain;
    return layer;
  }

  std::string refusal_of_dtype(const LayerPlan& layer, const Tensor& weight) {
    const LayerPlan plain = rounded_plainly(layer);
    try {
      LayerQuantizer quantizer(in_.catalogue, plain, weight, at::kCPU);
      quantizer.prepare(quantizer.measure());
      return "";
    } catch (const Cancelled&) {
      throw;
    } catch (const Error& e) {
      return e.what();
    }
  }

  // Formats hold scales beyond float16 or they do not, so the first such layer decides.
  std::string refusal_of_formats(const LayerPlan& layer, const Tensor& weight, const std::string& heading) {
    if (layer.calibrated_input) return "";  // it has no range yet
    if (!formats_refuse_) {
      first_ = layer.info.name;
      formats_refuse_ = rehearse_layer(layer, weight);
      return formats_refuse_->empty() ? "" : heading + *formats_refuse_;
    }
    return formats_refuse_->empty() ? "" : cat(heading, "it needs scales that the formats cannot store, as ", first_);
  }

  std::string rehearse_layer(const LayerPlan& layer, const Tensor& weight) {
    const LayerPlan plain = rounded_plainly(layer);
    Plan plan = in_.plan;
    for (LayerPlan& other : plan.layers)
      if (other.info.name == layer.info.name) other = layer;
    try {
      rehearse(in_.catalogue, plan, in_.architecture, in_.model_folder, [&](Exporter& exporter) {
        LayerQuantizer quantizer(in_.catalogue, plain, weight, at::kCPU);
        quantizer.prepare(quantizer.measure());
        exporter.layer(
            quantizer.take_encoded(layer.info.has_bias ? in_.source.load(layer.info.name + ".bias") : Tensor()));
      });
      return "";
    } catch (const Cancelled&) {
      throw;
    } catch (const Error& e) {
      return e.what();
    }
  }

  const WeightCheck& in_;
  Plan found_;                                          // the plan, with what is found
  std::unordered_map<std::string, LayerPlan*> layers_;  // into found_, by weight
  std::unordered_set<std::string> extra_;
  std::optional<std::string> formats_refuse_;  // scales beyond float16; "": they do not
  std::string first_;                          // the layer that told it
  std::vector<std::string> warnings_;
};

}  // namespace

std::vector<std::string> check_weights(const WeightCheck& check) { return Checker(check).run(); }

}  // namespace roundhouse

// SPDX-License-Identifier: Apache-2.0
#include "host/run/qdq_file.h"

#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "host/abi/quantizer.h"
#include "host/base/error.h"
#include "host/checkpoint/output.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"
#include "host/plan/scheme_resolver.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

using NamedTensor = std::pair<std::string, Tensor>;

class Run {
 public:
  Run(Catalogue& catalogue, const std::string& dtype, const json& options, const fs::path& in)
      : catalogue_(catalogue), source_(in), request_{dtype, options, {}, Rounding::kPlain} {
    request_.said.erase("data_type");
    request_.said.erase("imatrix");
    if (!source_.contains("weight")) throw Error(cat(source_.location(), " has no tensor \"weight\""));
    weight_ = source_.load("weight");
    if (weight_.shape().size() != 2 || !is_floating(weight_.dtype()) || weight_.dtype() == DType::kF64)
      throw Error(cat("\"weight\" is ", config_name(weight_.dtype()), " ", shape_text(weight_.shape()),
                      "; it must have two dimensions and be float32, float16 or bfloat16"));
  }

  std::vector<NamedTensor> run() {
    if (!tune_from_file()) make_quantizer(Rounding::kPlain);
    prepare();
    forward();
    if (source_.contains("grad_qdq")) backward();
    return std::move(written_);
  }

 private:
  void make_quantizer(Rounding rounding) {
    request_.rounding = rounding;
    const TensorScheme scheme = resolve_dtype(catalogue_, request_);
    quantizer_.emplace(
        catalogue_.dtype(scheme.dtype), scheme,
        QuantizerTarget{"weight", "", weight_.dim(0), weight_.dim(1), weight_.dtype(), RH_TARGET_WEIGHT});
  }

  // True when the file has tunables and the name that was asked for lets them count.
  bool tune_from_file() {
    request_.rounding = Rounding::kTuned;
    const TensorScheme scheme = resolve_dtype(catalogue_, request_);
    if (scheme.rounding != Rounding::kTuned || !(catalogue_.find_dtype(scheme.dtype)->supports & RH_SUPPORTS_TUNING))
      return false;
    make_quantizer(Rounding::kTuned);
    tunables_ = quantizer_->tunables();
    bool any = false;
    for (size_t i = 0; i < tunables_.size(); ++i) any |= take(tunables_[i], tunables_.name(i));
    if (!any) tunables_ = {};
    return any;
  }

  // Copies the file's tensor `name`, which may be shaped otherwise, into `to`. False when there is none.
  bool take(const Tensor& to, const std::string& name) {
    if (!source_.contains(name)) return false;
    const Tensor from = source_.load(name);
    if (!is_floating(from.dtype()) || from.elements() != to.elements())
      throw Error(cat("\"", name, "\" is ", config_name(from.dtype()), " ", shape_text(from.shape()),
                      "; for this weight and scheme it must be float32 ", shape_text(to.shape()), " or have as many (",
                      to.elements(), ") elements in another shape"));
    const Tensor converted = from.to(to.dtype());
    std::memcpy(to.data(), converted.data(), to.bytes());
    return true;
  }

  const rh_tensor* const* tunables() const { return tunables_.size() ? tunables_.data() : nullptr; }

  void prepare() {
    const rh_tensor weight = weight_.view();
    TensorSet statistic = quantizer_->statistic();
    states_ = quantizer_->states();
    if (statistic.size()) quantizer_->measure({}, weight, statistic.data()[0]);

    Tensor importance(DType::kF32, {weight_.dim(1)});
    const bool has_importance = take(importance, "imatrix");
    const rh_tensor importance_view = importance.view();
    quantizer_->prepare({}, &weight, has_importance ? &importance_view : nullptr,
                        statistic.size() ? statistic.data()[0] : nullptr, states_.data());
  }

  void forward() {
    const rh_tensor weight = weight_.view();
    const Tensor qdq(weight_.dtype(), weight_.shape());
    rh_tensor output = qdq.view();
    TensorSet results = quantizer_->results();
    quantizer_->forward({}, weight, tunables(), states_.data(), output, results.data());
    written_.push_back({"qdq", qdq});
    for (size_t i = 0; i < results.size(); ++i) written_.push_back({results.name(i), results[i]});
  }

  void backward() {
    const rh_tensor weight = weight_.view();
    const Tensor grad(DType::kF32, weight_.shape());
    take(grad, "grad_qdq");
    const rh_tensor grad_output = grad.view();
    TensorSet grads = quantizer_->tunables();
    quantizer_->backward({}, weight, tunables(), states_.data(), grad_output, grads.data());
    for (size_t i = 0; i < grads.size(); ++i) {
      Tensor tensor = grads[i];
      if (source_.contains(grads.name(i)))
        tensor = Tensor(tensor.dtype(), source_.info(grads.name(i)).shape, tensor.data(), tensor.storage());
      written_.push_back({cat("grad_", grads.name(i)), tensor});
    }
  }

  Catalogue& catalogue_;
  SafetensorsFolder source_;
  DtypeRequest request_;
  Tensor weight_;
  std::optional<Quantizer> quantizer_;
  TensorSet tunables_, states_;  // no tunables: none was given
  std::vector<NamedTensor> written_;
};

}  // namespace

void run_qdq(Catalogue& catalogue, const std::string& dtype, const json& options, const fs::path& in,
             const fs::path& out) {
  if (!options.is_object()) throw Error(cat("the options must be a JSON object, not ", options));
  write_safetensors_file(out, Run(catalogue, dtype, options, in).run());
}

}  // namespace roundhouse

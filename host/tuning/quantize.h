// Quantizing a model, block by block: the flow of a run between its plan and its export. No libtorch here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/abi/quantizer.h"
#include "host/base/tensor.h"
#include "host/discovery/catalogue.h"
#include "host/model/architecture.h"
#include "host/plan/plan.h"

namespace roundhouse {

// A quantized layer on its way to the formats. Borrowed for the call that receives it.
struct EncodedLayer {
  // Writes the weight that `tensors` mean to `output`, [out_features, in_features].
  using Decode = std::function<void(const rh_tensor* const* tensors, rh_tensor& output)>;

  const LayerPlan& plan;
  DType source_dtype;  // of the weight in the checkpoint
  const rh_encoding& encoding;
  const std::vector<Tensor>& tensors;  // as the encoding declares them
  Tensor bias;                         // [out_features], or undefined
  Decode decode;
  const rh_encoding* activation_encoding = nullptr;  // nullptr: its input is not quantized
  std::vector<Tensor> activation_tensors = {};       // as that declares them
};

struct BlockReport {
  int64_t block;
  double first_loss = 0, best_loss = 0;  // mean squared error of an iteration's batch; 0 when not tuned
  int64_t best_iteration = 0;
  double seconds = 0;
};

// Calibration activations that did not fit in the recipe's `memory`.
struct Spill {
  int64_t bytes = 0;              // on disk
  int64_t read = 0, written = 0;  // bytes
  double seconds = 0;             // of gathering batches with them, and writing
};

// What a run produces, in checkpoint order: every tensor of the source exactly once, as itself or as a layer.
class QuantizeSink {
 public:
  virtual ~QuantizeSink() = default;
  virtual void layer(const EncodedLayer& layer) = 0;
  virtual void tensor(const std::string& name, const Tensor& tensor) = 0;
  // Called inside a block, once an iteration; on a GPU some at a time.
  virtual void iteration(int64_t block, int64_t iteration, double loss) = 0;
  virtual void block_done(const BlockReport& report) = 0;
};

struct QuantizeInput {
  const Plan& plan;
  const Architecture& architecture;
  TensorSource& source;
  Catalogue& catalogue;
  std::vector<std::vector<int32_t>>
      samples;  // calibration ids, all of one length; may be empty when no pass needs them
  std::optional<int32_t> pad_id;
  std::string device = "cpu";
};

// By layer: the statistic of its inputs, which its activation's data type measured.
using ActivationRanges = std::map<std::string, Tensor>;

// What the calibration texts told, or the recipe's imatrix.file.
struct Observations {
  int64_t tokens = 0;  // of the calibration texts
  ActivationRanges ranges;
  Importance importance;
  Spill spill;
};

// Same plan, samples and seed: same bits, whatever the thread count. Throws Error; the sink then got a part.
Observations quantize(const QuantizeInput& input, QuantizeSink& sink);

// The weights as plain or searched rounding alone would leave them: decodes each planned layer as it is loaded.
// `importance` must outlive it.
std::unique_ptr<TensorSource> rounded_source(const Plan& plan, TensorSource& source, Catalogue& catalogue,
                                             const Importance& importance);

}  // namespace roundhouse

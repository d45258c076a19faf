// SPDX-License-Identifier: Apache-2.0
// Quantizing a model, block by block: the flow of a run between its plan and its export. No libtorch here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/abi/format_reader.h"
#include "host/base/tensor.h"
#include "host/discovery/catalogue.h"
#include "host/export/journal.h"
#include "host/model/architecture.h"
#include "host/plan/plan.h"
#include "host/tuning/quantize_sink.h"
#include "host/tuning/results.h"

namespace roundhouse {

struct QuantizeInput {
  const Plan& plan;
  const Architecture& architecture;
  TensorSource& source;
  ExportedCheckpoint* quantized;  // the source, where the plan keeps layers of it packed; else nullptr
  Catalogue& catalogue;
  std::vector<std::vector<int32_t>>
      samples;  // calibration ids, all of one length; may be empty when no pass needs them
  std::optional<int32_t> pad_id;
  std::string device = "cpu";
  // To go on from there; reset when all of it is loaded, so that its file's room is free. nullptr: from the beginning.
  std::optional<JournalRecord>* from = nullptr;
  // Beside a GPU at most so many bytes of the next block's weights are read ahead, and so many of the last one's layers
  // wait for the formats: more than a dense block has; experts have more.
  uint64_t ahead_bytes = uint64_t{2} << 30;
};

// How many of `ranks` (host/ranks/ranks.h) an iteration's batch of so many samples gives work to.
int64_t busy_ranks(int64_t batch, int64_t seqlen, int ranks);

// Same plan, samples and seed: same bits, whatever the number of threads and ranks. Every rank calls it: the calibration samples, the
// units of an iteration and the layers are divided among them, and the first one's sink gets all. Throws Error; the sink
// then got a part. REQUIRES: the plan does not round only; round.h does that.
Observations quantize(const QuantizeInput& input, QuantizeSink& sink);

}  // namespace roundhouse

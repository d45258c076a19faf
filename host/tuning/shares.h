// SPDX-License-Identifier: Apache-2.0
// How the work of tuning is divided over the ranks of a run, so that every number is the one that a single process computes.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "host/base/tensor.h"
#include "host/discovery/catalogue.h"
#include "host/export/encoded_layer.h"
#include "host/plan/plan.h"
#include "host/tuning/hidden_states.h"
#include "host/tuning/units.h"

namespace roundhouse {

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool contains(int64_t i) const { return begin <= i && i < end; }
};

// The units that each rank has of `units`: 2^k, those of the last may be fewer, so that what it joins of them is a
// subtree of the tree that joins all (units.h). Later ranks may have none.
int64_t units_of_rank(int64_t units, int ranks);
// Samples of this rank, of `samples` in units of unit_samples(seqlen).
Range share_of_rank(int64_t samples, int64_t seqlen, int rank, int ranks);
Range own_share(int64_t samples, int64_t seqlen);
// The rank in whose share the sample is.
int rank_of(int64_t sample, int64_t samples, int64_t seqlen);

// What the ranks have joined of their units, joined; on every rank. `part` is undefined where a rank had nothing.
at::Tensor joined_over_ranks(const at::Tensor& part, const UnitTree::Join& join = sum_of);

// Gives the ranks work of any size in turn, each about as much.
class Balance {
 public:
  // The rank that gets the next piece.
  int next(int64_t work);

 private:
  std::vector<int64_t> given_;  // to each rank
};

// Between two ranks; both have to know that it comes. An undefined tensor arrives as one.
void post(int to, const at::Tensor& tensor);
at::Tensor receive(int from);  // on the CPU
void post(int to, const Tensor& tensor);

// Whether the first rank can decode what another one has encoded: else it does the layer itself.
bool can_be_sent(const LayerPlan& layer, const Catalogue& catalogue);

// A layer that another rank has encoded, on the first: as take_encoded() gives it there. encoding: as that rank's quantizer
// declares it. REQUIRES: can_be_sent().
EncodedLayer receive_layer(int from, const LayerPlan& layer, const rh_encoding& encoding, Tensor bias,
                           Catalogue& catalogue);

// Every rank's numbers, in the ranks' order, on every rank.
std::vector<std::vector<double>> of_all_ranks(const std::vector<double>& own);

// The rows of a store that lies in shares on the ranks, for this rank's share of an iteration's `samples`: numbers in all of
// them, the same on every rank. Every rank calls it.
at::Tensor exchange_rows(const HiddenStates& own, int64_t all_samples, const std::vector<int64_t>& samples,
                         int64_t seqlen);

}  // namespace roundhouse

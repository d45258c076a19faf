// SPDX-License-Identifier: Apache-2.0
#include "host/tuning/shares.h"

#include <array>
#include <cassert>
#include <cstring>
#include <memory>
#include <utility>

#include "host/base/error.h"
#include "host/model/torch_tensor.h"
#include "host/ranks/ranks.h"
#include "host/tuning/device_quantizer.h"

namespace roundhouse {
namespace {

// What goes before a tensor's bytes.
struct Header {
  int64_t defined = 0, type = 0, dimensions = 0;
  std::array<int64_t, RH_MAX_DIMS> shape{};
};

int64_t units_in(int64_t samples, int64_t seqlen) {
  const int64_t unit = unit_samples(seqlen);
  return (samples + unit - 1) / unit;
}

// Contiguous, on the CPU.
at::Tensor for_sending(const at::Tensor& tensor) { return tensor.detach().cpu().contiguous(); }

void post_bytes(int to, const at::Tensor& tensor) {
  ranks()->post(to, tensor.const_data_ptr(), tensor.nbytes(), std::make_shared<const at::Tensor>(tensor));
}

}  // namespace

int64_t units_of_rank(int64_t units, int ranks) {
  int64_t each = 1;
  while (each * ranks < units) each *= 2;
  return each;
}

Range share_of_rank(int64_t samples, int64_t seqlen, int rank, int ranks) {
  const int64_t each = units_of_rank(units_in(samples, seqlen), ranks) * unit_samples(seqlen);
  return {std::min(samples, rank * each), std::min(samples, (rank + 1) * each)};
}

Range own_share(int64_t samples, int64_t seqlen) { return share_of_rank(samples, seqlen, this_rank(), rank_count()); }

int rank_of(int64_t sample, int64_t samples, int64_t seqlen) {
  return static_cast<int>(sample / (units_of_rank(units_in(samples, seqlen), rank_count()) * unit_samples(seqlen)));
}

at::Tensor joined_over_ranks(const at::Tensor& part, const UnitTree::Join& join) {
  if (rank_count() == 1) return part;
  UnitTree tree(join);
  for (int other = 0; other < rank_count(); ++other)
    if (other != this_rank()) post(other, part);
  const at::Tensor own = part.defined() ? part.clone() : part;  // a join may write into it while it is sent
  for (int rank = 0; rank < rank_count(); ++rank) {
    at::Tensor value = rank == this_rank() ? own : receive(rank);
    tree.add(own.defined() && value.defined() ? value.to(own.device()) : std::move(value));
  }
  ranks()->flush();
  return tree.take();
}

int Balance::next(int64_t work) {
  given_.resize(static_cast<size_t>(rank_count()));
  const auto least = std::min_element(given_.begin(), given_.end());
  *least += work;
  return static_cast<int>(least - given_.begin());
}

void post(int to, const at::Tensor& tensor) {
  const auto header = std::make_shared<Header>();
  const at::Tensor bytes = tensor.defined() ? for_sending(tensor) : tensor;
  if (tensor.defined()) {
    if (tensor.dim() > static_cast<int64_t>(header->shape.size()))
      throw Error(cat("a tensor of ", tensor.dim(), " dimensions cannot be sent to another process"));
    *header = {1, static_cast<int64_t>(tensor.scalar_type()), tensor.dim(), {}};
    std::copy(tensor.sizes().begin(), tensor.sizes().end(), header->shape.begin());
  }
  ranks()->post(to, header.get(), sizeof *header, header);
  if (tensor.defined()) post_bytes(to, bytes);
}

at::Tensor receive(int from) {
  Header header;
  ranks()->receive(from, &header, sizeof header);
  if (!header.defined) return {};
  at::Tensor tensor = at::empty(at::IntArrayRef(header.shape.data(), static_cast<size_t>(header.dimensions)),
                                static_cast<at::ScalarType>(header.type));
  ranks()->receive(from, tensor.mutable_data_ptr(), tensor.nbytes());
  return tensor;
}

void post(int to, const Tensor& tensor) {
  ranks()->post(to, tensor.data(), tensor.bytes(), std::make_shared<const Tensor>(tensor));
}

bool can_be_sent(const LayerPlan& layer, const Catalogue& catalogue) {
  return catalogue.find_dtype(layer.scheme.weight->dtype)->supports & RH_SUPPORTS_ENCODED;
}

EncodedLayer receive_layer(int from, const LayerPlan& layer, const rh_encoding& declared, Tensor bias,
                           Catalogue& catalogue) {
  const auto copy = std::make_shared<EncodingCopy>(declared);
  const rh_encoding& encoding = copy->get();
  const TensorSet received(encoding.tensors, encoding.tensor_count);
  for (const Tensor& tensor : received.tensors()) ranks()->receive(from, tensor.data(), tensor.bytes());
  DeviceQuantizer quantizer(catalogue.dtype(layer.scheme.weight->dtype), encoding,
                            {layer.info.name, layer.info.role, layer.info.out_features, layer.info.in_features,
                             layer.dtype, RH_TARGET_WEIGHT, layer.info.stack},
                            at::kCPU);
  quantizer.prepare(received);
  const std::vector<size_t> order = quantizer.plugin().order_of(received);
  const auto decode = [copy, order, decoder = std::make_shared<Quantizer>(quantizer.take_plugin())](
                          const rh_tensor* const* tensors, rh_tensor& output) {
    std::vector<const rh_tensor*> declared;
    for (const size_t i : order) declared.push_back(tensors[i]);
    decoder->decode(Exec(), declared.data(), output);
  };
  EncodedLayer encoded{layer, encoding, received.tensors(), std::move(bias), decode};
  if (layer.activation_encoding) encoded.activation_encoding = &layer.activation_encoding->get();
  return encoded;
}

std::vector<std::vector<double>> of_all_ranks(const std::vector<double>& own) {
  if (rank_count() == 1) return {own};
  std::vector<std::vector<double>> all;
  for (const std::string& bytes :
       ranks()->from_all({reinterpret_cast<const char*>(own.data()), own.size() * sizeof own.front()})) {
    std::vector<double>& numbers = all.emplace_back(bytes.size() / sizeof(double));
    std::memcpy(numbers.data(), bytes.data(), bytes.size());
  }
  return all;
}

at::Tensor exchange_rows(const HiddenStates& own, int64_t all_samples, const std::vector<int64_t>& samples,
                         int64_t seqlen) {
  const Range held = own_share(all_samples, seqlen);
  const auto count = static_cast<int64_t>(samples.size());
  const Range wanted = own_share(count, seqlen);
  const auto row_of = [&](int64_t sample) {
    return for_sending(own.rows(sample - held.begin, sample - held.begin + 1));
  };
  std::vector<int64_t> shape = own.sample_shape().vec();
  shape.insert(shape.begin(), wanted.size());
  const at::Tensor rows = at::empty(shape, own.type());
  for (int64_t at = 0; at < count; ++at)
    if (held.contains(samples[at]) && !wanted.contains(at)) post_bytes(rank_of(at, count, seqlen), row_of(samples[at]));
  for (int64_t at = wanted.begin; at < wanted.end; ++at) {
    const at::Tensor row = rows.slice(0, at - wanted.begin, at - wanted.begin + 1);
    if (held.contains(samples[at]))
      row.copy_(row_of(samples[at]));
    else
      ranks()->receive(rank_of(samples[at], all_samples, seqlen), row.mutable_data_ptr(), row.nbytes());
  }
  ranks()->flush();
  return rows.to(own.device());
}

}  // namespace roundhouse

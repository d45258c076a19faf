// SPDX-License-Identifier: Apache-2.0
#include "host/model/rows.h"

#include <ATen/ATen.h>

#include <cassert>

namespace roundhouse {

at::Tensor Rows::take() const {
  if (!index.defined()) return base;
  const at::Tensor rows = base.index_select(0, index);
  return scales.defined() ? (rows * scales).to(base.scalar_type()) : rows;
}

void GatheredRows::add(const at::Tensor& gathered, const Rows& rows) {
  assert(gathered.is_contiguous());
  entries_.push_back({gathered.detach(), rows});
}

Rows GatheredRows::of(const at::Tensor& x) const {
  for (const Entry& entry : entries_) {
    if (!x.is_alias_of(entry.gathered) || !x.is_contiguous() || x.size(1) != entry.gathered.size(1)) continue;
    const int64_t first = (x.storage_offset() - entry.gathered.storage_offset()) / x.size(1);
    const auto part = [&](const at::Tensor& of) { return of.defined() ? of.narrow(0, first, x.size(0)) : of; };
    return {entry.rows.base, part(entry.rows.index), part(entry.rows.scales)};
  }
  return {x, {}, {}};
}

}  // namespace roundhouse

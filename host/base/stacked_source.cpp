// SPDX-License-Identifier: Apache-2.0
#include "host/base/stacked_source.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <utility>

#include "host/base/error.h"
#include "host/base/parallel.h"

namespace roundhouse {
namespace {

template <typename Element>
void transpose(const Tensor& from, const Tensor& to) {
  constexpr int64_t kTile = 32;  // square tiles, so that neither side runs through all of memory
  const int64_t rows = to.dim(0), cols = to.dim(1);
  const Element* const source = from.as<Element>();
  Element* const target = to.as<Element>();
  parallel_for((rows + kTile - 1) / kTile, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile)
      for (int64_t first = 0; first < cols; first += kTile)
        for (int64_t r = tile * kTile; r < std::min(rows, (tile + 1) * kTile); ++r)
          for (int64_t c = first; c < std::min(cols, first + kTile); ++c) target[r * cols + c] = source[c * rows + r];
  });
}

Tensor transposed(const Tensor& matrix) {
  const Tensor out(matrix.dtype(), {matrix.dim(1), matrix.dim(0)});
  switch (size_of(matrix.dtype())) {
    case 1:
      transpose<uint8_t>(matrix, out);
      break;
    case 2:
      transpose<uint16_t>(matrix, out);
      break;
    case 4:
      transpose<uint32_t>(matrix, out);
      break;
    case 8:
      transpose<uint64_t>(matrix, out);
      break;
    default:
      assert(false);
  }
  return out;
}

// Shares the storage.
Tensor row(const Tensor& matrix, int64_t index) {
  const size_t bytes = matrix.bytes() / static_cast<size_t>(matrix.dim(0));
  return Tensor(matrix.dtype(), {matrix.dim(1)}, matrix.as<char>() + static_cast<size_t>(index) * bytes,
                matrix.storage());
}

std::string numbered(std::string name, int64_t matrix) {
  const size_t at = name.find("{}");
  return at == std::string::npos ? name : name.replace(at, 2, std::to_string(matrix));
}

StackedPart place_of(const StackedTensor& stack, int64_t matrix, int64_t count, int64_t part) {
  return {stack.name,        matrix,    count, part, static_cast<int64_t>(stack.parts.size()), stack.transposed,
          stack.interleaved, stack.only};
}

}  // namespace

StackedSource::StackedSource(std::unique_ptr<TensorSource> inner, const std::vector<StackedTensor>& stacks)
    : inner_(std::move(inner)) {
  std::unordered_map<std::string, const StackedTensor*> by_name;
  std::unordered_map<std::string, std::pair<const StackedTensor*, int64_t>> by_matrix;
  for (const StackedTensor& stack : stacks) {
    if (stack.count == 0) by_name[stack.name] = &stack;
    for (int64_t i = 0; i < stack.count; ++i) {
      if (!stack.matrices.empty()) {
        by_matrix[numbered(stack.matrices, i)] = {&stack, i};
        continue;
      }
      for (size_t part = 0; part < stack.parts.size(); ++part) {
        const std::string weight = numbered(stack.parts[part], i);
        parts_[weight] = {place_of(stack, i, stack.count, static_cast<int64_t>(part)), weight};
      }
    }
  }
  for (const std::string& name : inner_->names()) {
    if (const auto found = by_name.find(name); found != by_name.end() && found->second->parts[0] == name) {
      add(*found->second, 0, 0, "");
    } else if (found != by_name.end()) {
      const int64_t count = inner_->info(name).shape.at(0);
      for (int64_t matrix = 0; matrix < count; ++matrix) add(*found->second, matrix, count, "");
    } else if (const auto one = by_matrix.find(name); one != by_matrix.end()) {
      add(*one->second.first, one->second.second, one->second.first->count, name);
    } else {
      names_.push_back(name);
    }
  }
}

void StackedSource::add(const StackedTensor& stack, int64_t matrix, int64_t count, const std::string& stored) {
  for (size_t part = 0; part < stack.parts.size(); ++part) {
    const std::string weight = numbered(stack.parts[part], matrix);
    const Part added{place_of(stack, matrix, count, static_cast<int64_t>(part)), stored};
    if ((inner_->contains(weight) && count > 0) || !parts_.emplace(weight, added).second)
      throw Error(cat(location(), ": ", weight, ", a matrix of ", stack.name, ", is also there by itself"));
    names_.push_back(weight);
  }
}

bool StackedSource::contains(const std::string& name) const {
  const auto found = parts_.find(name);
  return found == parts_.end() || found->second.stored == name ? inner_->contains(name) : true;
}

std::optional<StackedPart> StackedSource::part(const std::string& name) const {
  const auto found = parts_.find(name);
  return found == parts_.end() ? std::nullopt : std::optional(found->second.place);
}

std::optional<StackedPart> part_of(const TensorSource& source, const std::string& name) {
  const auto* const stacked = dynamic_cast<const StackedSource*>(&source);
  return stacked ? stacked->part(name) : std::nullopt;
}

TensorInfo StackedSource::info(const std::string& name) {
  const auto found = parts_.find(name);
  if (found == parts_.end() || found->second.stored == name) return inner_->info(name);
  const auto& [place, stored] = found->second;
  TensorInfo info = inner_->info(stored.empty() ? place.tensor : stored);
  if (stored.empty()) {
    if (place.count > 0) info.shape.erase(info.shape.begin());
    if (place.transposed) std::swap(info.shape[0], info.shape[1]);
  }
  info.shape[0] /= place.parts;
  return info;
}

Tensor StackedSource::load(const std::string& name) {
  const auto found = parts_.find(name);
  if (found == parts_.end() || found->second.stored == name) return inner_->load(name);
  const auto& [part, stored] = found->second;
  Tensor matrix;
  if (!stored.empty()) {
    matrix = inner_->load(stored);
  } else {
    matrix = part.count == 0                               ? inner_->load(part.tensor)
             : inner_->info(part.tensor).shape.size() == 3 ? inner_->load_matrix(part.tensor, part.index)
                                                           : row(inner_->load(part.tensor), part.index);
    if (part.transposed) matrix = transposed(matrix);
  }
  if (part.parts == 1) return matrix;
  std::vector<int64_t> shape = matrix.shape();
  shape[0] /= part.parts;
  const size_t bytes = matrix.bytes() / static_cast<size_t>(part.parts), at = static_cast<size_t>(part.part);
  if (!part.interleaved) return Tensor(matrix.dtype(), shape, matrix.as<char>() + at * bytes, matrix.storage());
  const Tensor rows(matrix.dtype(), shape);
  const size_t count = static_cast<size_t>(shape[0]), row_bytes = bytes / count;
  for (size_t i = 0; i < count; ++i)
    std::memcpy(rows.as<char>() + i * row_bytes,
                matrix.as<char>() + (i * static_cast<size_t>(part.parts) + at) * row_bytes, row_bytes);
  return rows;
}

}  // namespace roundhouse

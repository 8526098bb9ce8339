// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/view.h"

#include <algorithm>
#include <utility>

namespace slalom::importer {
namespace {

std::vector<Factor> flat(const View& view) {
  std::vector<Factor> all;
  for (const auto& dim : view) all.insert(all.end(), dim.begin(), dim.end());
  return all;
}

// take cuts `wanted` elements off the front of `left` into `dim`; false if a factor would have to
// be cut at a point that does not divide it.
bool take(std::int64_t wanted, std::vector<Factor>& left, std::vector<Factor>& dim) {
  while (wanted > 1) {
    if (left.empty()) return false;
    Factor& front = left.front();
    if (wanted % front.size == 0) {
      wanted /= front.size;
      dim.push_back(front);
      left.erase(left.begin());
    } else if (front.size % wanted == 0) {
      const std::int64_t rest = front.size / wanted;
      dim.push_back({wanted, front.stride * rest});
      front.size = rest;
      wanted = 1;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

std::int64_t dim_size(const std::vector<Factor>& dim) noexcept {
  std::int64_t size = 1;
  for (const Factor& factor : dim) size *= factor.size;
  return size;
}

Shape view_shape(const View& view) {
  Shape shape;
  for (const auto& dim : view) shape.push_back(dim_size(dim));
  return shape;
}

View contiguous_view(const Shape& shape, const Groups& groups) {
  View view(shape.size());
  std::int64_t stride = 1;
  for (std::size_t axis = 3; axis-- > 0;) {
    for (std::size_t i = groups[axis].size(); i-- > 0;) {
      const std::size_t dim = groups[axis][i];
      if (shape[dim] == 1) continue;
      view[dim] = {{shape[dim], stride}};
      stride *= shape[dim];
    }
  }
  return view;
}

Groups natural_groups(std::size_t rank) {
  Groups groups;
  for (std::size_t dim = 0; dim < rank; ++dim) {
    const std::size_t from_end = rank - 1 - dim;
    groups[from_end >= 2 ? 0 : 2 - from_end].push_back(dim);
  }
  return groups;
}

Groups image_groups(std::size_t rank) {
  if (rank == 3) return {{{0}, {2}, {1}}};
  return {{{0, 2}, {3}, {1}}};
}

std::vector<Factor> merged(std::span<const Factor> factors) {
  std::vector<Factor> result;
  for (const Factor& factor : factors) {
    if (factor.size == 1) continue;
    if (!result.empty() && result.back().stride == factor.size * factor.stride) {
      result.back() = {result.back().size * factor.size, factor.stride};
    } else {
      result.push_back(factor);
    }
  }
  return result;
}

std::vector<Factor> in_order(const View& view, const Groups& groups) {
  std::vector<Factor> factors;
  for (const auto& group : groups) {
    for (const std::size_t dim : group) {
      factors.insert(factors.end(), view[dim].begin(), view[dim].end());
    }
  }
  return merged(factors);
}

bool is_contiguous(const View& view, const Groups& groups) {
  const std::vector<Factor> factors = in_order(view, groups);
  return factors.empty() || (factors.size() == 1 && factors[0].stride == 1);
}

std::optional<Groups> groups_of(const View& view, const model::Shape& shape) {
  // Dimensions from the outermost in memory to the innermost.
  std::vector<std::size_t> order;
  for (std::size_t dim = 0; dim < view.size(); ++dim) {
    if (dim_size(view[dim]) > 1) order.push_back(dim);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return view[a].front().stride > view[b].front().stride;
  });
  Groups groups;
  std::size_t next = 0;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::array<std::int64_t, 3> lengths = {shape.h, shape.w, shape.c};
    std::int64_t left = lengths[axis];
    while (left > 1) {
      if (next == order.size()) return std::nullopt;
      const std::int64_t size = dim_size(view[order[next]]);
      if (left % size != 0) return std::nullopt;
      left /= size;
      groups[axis].push_back(order[next++]);
    }
  }
  if (next != order.size() || !is_contiguous(view, groups)) return std::nullopt;
  return groups;
}

std::optional<View> reshaped(const View& view, const Shape& shape) {
  std::vector<Factor> left = merged(flat(view));
  View result;
  for (const std::int64_t size : shape) {
    std::vector<Factor> dim;
    if (!take(size, left, dim)) return std::nullopt;
    result.push_back(std::move(dim));
  }
  return left.empty() ? std::optional(result) : std::nullopt;
}

void for_each_element(const View& view, const std::function<void(std::size_t)>& f) {
  const std::vector<Factor> factors = merged(flat(view));
  if (factors.empty()) return f(0);
  // An odometer over all factors but the last, which is the inner loop.
  std::vector<std::int64_t> index(factors.size() - 1, 0);
  const Factor inner = factors.back();
  std::int64_t base = 0;
  while (true) {
    for (std::int64_t i = 0; i < inner.size; ++i) {
      f(static_cast<std::size_t>(base + i * inner.stride));
    }
    std::size_t digit = index.size();
    while (digit-- > 0) {
      base += factors[digit].stride;
      if (++index[digit] < factors[digit].size) break;
      base -= factors[digit].stride * factors[digit].size;
      index[digit] = 0;
    }
    if (digit == static_cast<std::size_t>(-1)) return;
  }
}

std::vector<std::uint32_t> memory_order(const View& view) {
  std::vector<std::uint32_t> positions;
  for_each_element(view,
                   [&](std::size_t at) { positions.push_back(static_cast<std::uint32_t>(at)); });
  return positions;
}

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
// View says where the elements of a graph value lie in a tensor of a plan. ONNX orders an image
// [N,C,H,W], a plan channels-last; a view keeps the two apart, so that Transpose, Reshape, Flatten,
// Squeeze and Unsqueeze only change the view, and codes move only where an operator needs another
// order in memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "importer/graph.h"
#include "model/plan.h"

namespace slalom::importer {

// Factor is a part of a dimension: `size` steps of `stride` elements in memory.
struct Factor {
  std::int64_t size = 1;
  std::int64_t stride = 1;
  friend bool operator==(const Factor&, const Factor&) = default;
};

// View holds the factors of every dimension of a value at batch 1, outermost first; a dimension of
// length 1 has none. The factors of all dimensions together cover a contiguous tensor exactly once.
using View = std::vector<std::vector<Factor>>;

// Groups distributes the dimensions of a value over the axes (h, w, c) of a plan's shape: each
// axis runs over its dimensions in the order given, outermost first. Dimensions of length 1 may be
// left out.
using Groups = std::array<std::vector<std::size_t>, 3>;

std::int64_t dim_size(const std::vector<Factor>& dim) noexcept;
Shape view_shape(const View& view);

// contiguous_view is the view of a tensor whose memory order is groups[0], groups[1], groups[2].
// REQUIRES: every dimension longer than 1 is in exactly one group.
View contiguous_view(const Shape& shape, const Groups& groups);

// natural_groups keeps the order of the dimensions: the last is c, the one before w, all others h.
Groups natural_groups(std::size_t rank);
// image_groups is channels-last of [N,C,H,W] or [N,C,W]. REQUIRES: rank 3 or 4.
Groups image_groups(std::size_t rank);

// merged joins neighbouring factors that are one run of memory.
std::vector<Factor> merged(std::span<const Factor> factors);
// in_order lists the factors in the order of the groups, merged.
std::vector<Factor> in_order(const View& view, const Groups& groups);
// is_contiguous: memory already has the order of the groups.
bool is_contiguous(const View& view, const Groups& groups);

// groups_of finds groups under which the view is contiguous in the given shape, if there are any.
// A dimension then lies within one axis.
std::optional<Groups> groups_of(const View& view, const model::Shape& shape);

// reshaped is the same memory seen as another shape; nothing if a dimension of the new shape would
// straddle factors that are not neighbours in memory.
std::optional<View> reshaped(const View& view, const Shape& shape);

// for_each_element calls f(position in memory) for every element in the value's own order.
void for_each_element(const View& view, const std::function<void(std::size_t)>& f);
// memory_order lists for_each_element's positions.
std::vector<std::uint32_t> memory_order(const View& view);

}  // namespace slalom::importer

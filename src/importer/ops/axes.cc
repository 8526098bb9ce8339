// SPDX-License-Identifier: Apache-2.0
#include "importer/ops/axes.h"

#include <algorithm>
#include <string>

namespace slalom::importer {

std::size_t normalise_axis(std::int64_t axis, std::size_t rank) {
  const auto limit = static_cast<std::int64_t>(rank);
  if (axis < -limit || axis >= limit) {
    fail("the axis " + std::to_string(axis) + " does not exist in a tensor of rank " +
         std::to_string(rank));
  }
  return static_cast<std::size_t>(axis < 0 ? axis + limit : axis);
}

std::vector<std::size_t> normalise_axes(const std::vector<std::int64_t>& axes, std::size_t rank) {
  std::vector<std::size_t> result;
  result.reserve(axes.size());
  for (const std::int64_t axis : axes) result.push_back(normalise_axis(axis, rank));
  std::sort(result.begin(), result.end());
  if (std::adjacent_find(result.begin(), result.end()) != result.end()) {
    fail("an axis is given twice");
  }
  return result;
}

std::optional<std::vector<std::int64_t>> axes_operand(const InferContext& context, std::size_t i,
                                                      std::int64_t input_since) {
  const auto* attribute = context.node().attribute<std::vector<std::int64_t>>("axes");
  if (context.node().opset >= input_since) {
    if (attribute != nullptr) fail("the axes are an input in this operator set, not an attribute");
    if (!context.has(i)) return std::nullopt;
    return context.ints(i);
  }
  if (context.has(i)) fail("the axes are an attribute in this operator set, not an input");
  if (attribute == nullptr) return std::nullopt;
  return *attribute;
}

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
// Operators that move elements. Most only change the view.
#include <algorithm>
#include <cstddef>
#include <utility>

#include "importer/ops/op.h"
#include "importer/quant/lower.h"

namespace slalom::importer {

std::size_t axis_of(std::int64_t axis, std::size_t rank) {
  if (axis < 0) axis += static_cast<std::int64_t>(rank);
  if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) fail("an axis is out of range");
  return static_cast<std::size_t>(axis);
}

Groups single_axis_groups(const Lowerer& lowerer, const Placed& placed,
                          const std::vector<std::size_t>& dims) {
  const auto alone = [&](const Groups& groups) {
    return std::all_of(dims.begin(), dims.end(), [&](std::size_t dim) {
      for (const auto& group : groups) {
        if (std::count(group.begin(), group.end(), dim) == 0) continue;
        return std::all_of(group.begin(), group.end(), [&](std::size_t other) {
          return other == dim || dim_size(placed.view[other]) == 1;
        });
      }
      return false;  // of length 1 and left out
    });
  };
  if (auto groups = groups_of(placed.view, lowerer.tensor_shape(placed.tensor))) {
    // Dimensions of length 1 belong to an axis as well if they are about to grow.
    for (const std::size_t dim : dims) {
      if (dim_size(placed.view[dim]) != 1) continue;
      const auto empty = std::find_if(groups->begin(), groups->end(),
                                      [](const auto& group) { return group.empty(); });
      if (empty != groups->end()) empty->push_back(dim);
    }
    if (alone(*groups)) return *groups;
  }
  const std::size_t rank = placed.view.size();
  for (const Groups& groups :
       {rank == 4 || rank == 3 ? image_groups(rank) : natural_groups(rank), natural_groups(rank)}) {
    if (alone(groups)) return groups;
  }
  if (dims.size() == 1) {
    Groups groups;
    for (std::size_t dim = 0; dim < rank; ++dim) {
      groups[dim < dims[0] ? 0 : (dim == dims[0] ? 1 : 2)].push_back(dim);
    }
    return groups;
  }
  fail("it works along more dimensions than a plan has");
}

std::size_t axis_with(const Groups& groups, std::size_t dim) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (std::count(groups[axis].begin(), groups[axis].end(), dim) != 0) return axis;
  }
  fail("a dimension has no axis");
}

namespace {

// lower_reshape serves every operator that keeps the order of the elements.
void lower_reshape(Lowerer& lowerer, const Node& node) {
  const Placed placed = lowerer.place_of(node.input(0));
  const ValueId result = node.outputs.at(0);
  const Shape& shape = lowerer.shape(result);
  if (const auto view = reshaped(placed.view, shape)) {
    return lowerer.alias(node, result, {placed.tensor, *view});
  }
  // Bring memory to the value's own order; then every shape is possible.
  const Groups groups = natural_groups(placed.view.size());
  const TensorIndex in = lowerer.in_memory_order(placed, groups);
  const auto view = reshaped(contiguous_view(view_shape(placed.view), groups), shape);
  if (!view) fail("its shapes hold different numbers of elements");
  lowerer.alias(node, result, {in, *view});
}

void lower_transpose(Lowerer& lowerer, const Node& node) {
  const Placed placed = lowerer.place_of(node.input(0));
  const std::size_t rank = placed.view.size();
  std::vector<std::int64_t> perm = node.ints_or("perm", {});
  if (perm.empty()) {
    for (std::size_t i = rank; i-- > 0;) perm.push_back(static_cast<std::int64_t>(i));
  }
  if (perm.size() != rank) fail("its permutation does not fit its input");
  View view;
  for (const std::int64_t axis : perm) view.push_back(placed.view[axis_of(axis, rank)]);
  lowerer.alias(node, node.outputs.at(0), {placed.tensor, std::move(view)});
}

void lower_concat(Lowerer& lowerer, const Node& node) {
  const ValueId result = node.outputs.at(0);
  const std::size_t dim = axis_of(node.int_or("axis", 0), lowerer.shape(result).size());
  std::vector<Placed> operands;
  for (const ValueId id : node.inputs) operands.push_back(lowerer.place_of(id));
  // The largest operand keeps its order in memory.
  const auto largest =
      std::max_element(operands.begin(), operands.end(), [&](const Placed& a, const Placed& b) {
        return lowerer.tensor_shape(a.tensor).elements() <
               lowerer.tensor_shape(b.tensor).elements();
      });
  const Groups groups = single_axis_groups(lowerer, *largest, {dim});
  std::vector<TensorIndex> inputs;
  inputs.reserve(operands.size());
  for (const Placed& placed : operands) inputs.push_back(lowerer.in_memory_order(placed, groups));
  lowerer.append(node, std::move(inputs),
                 NetConcat{static_cast<std::uint8_t>(axis_with(groups, dim))},
                 Lowerer::shape_of(lowerer.shape(result), groups), result, groups);
}

// Range is what a Slice keeps of one dimension; backwards: the last of it first.
struct Range {
  std::size_t dim;
  std::int64_t begin, step;
  bool backwards = false;
};

// reversed turns an axis round: a plan has no steps below 1, so each index is a slice of its own.
TensorIndex reversed(Lowerer& lowerer, const Node& node, TensorIndex in, std::size_t axis) {
  constexpr std::uint32_t kMostParts = 1024;
  const model::Shape whole = lowerer.tensor_shape(in);
  model::Shape part = whole;
  std::uint32_t& length = axis == 0 ? part.h : (axis == 1 ? part.w : part.c);
  const std::uint32_t count = length;
  if (count > kMostParts)
    fail("a step below 0 along a dimension of more than 1024 is not supported");
  length = 1;
  std::vector<TensorIndex> parts;
  for (std::uint32_t i = count; i-- > 0;) {
    NetSlice slice;
    slice.begin[axis] = i;
    parts.push_back(lowerer.append_unnamed(node, "part", {in}, slice, part));
  }
  return lowerer.append_unnamed(node, "reversed", std::move(parts),
                                NetConcat{static_cast<std::uint8_t>(axis)}, whole);
}

void lower_ranges(Lowerer& lowerer, const Node& node, ValueId result,
                  const std::vector<Range>& ranges) {
  const Placed placed = lowerer.place_of(node.input(0));
  const Shape& from = lowerer.shape(node.input(0));
  const Shape& to = lowerer.shape(result);
  const auto changes = [&](const Range& range) {
    return from[range.dim] != to[range.dim] || range.backwards;
  };
  std::vector<std::size_t> dims;
  for (const Range& range : ranges) {
    if (changes(range)) dims.push_back(range.dim);
  }
  if (dims.empty()) return lowerer.alias(node, result, placed);
  const Groups groups = single_axis_groups(lowerer, placed, dims);
  NetSlice slice;
  for (const Range& range : ranges) {
    if (!changes(range)) continue;
    const std::size_t axis = axis_with(groups, range.dim);
    slice.begin[axis] = u32(range.begin, "a start");
    slice.step[axis] = u32(range.step, "a step");
  }
  TensorIndex out = lowerer.append_unnamed(node, "slice", {lowerer.in_memory_order(placed, groups)},
                                           slice, Lowerer::shape_of(to, groups));
  for (const Range& range : ranges) {
    if (range.backwards) out = reversed(lowerer, node, out, axis_with(groups, range.dim));
  }
  lowerer.place_result(result, out, contiguous_view(to, groups));
}

void lower_slice(Lowerer& lowerer, const Node& node) {
  const Shape& from = lowerer.shape(node.input(0));
  const std::vector<std::int64_t> starts = lowerer.ints_input(node, 1);
  std::vector<std::int64_t> axes;
  std::vector<std::int64_t> steps(starts.size(), 1);
  if (node.input(3) != kNoValue) axes = lowerer.ints_input(node, 3);
  if (node.input(4) != kNoValue) steps = lowerer.ints_input(node, 4);
  std::vector<Range> ranges;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t dim =
        axis_of(axes.empty() ? static_cast<std::int64_t>(i) : axes.at(i), from.size());
    const std::int64_t step = steps.at(i);
    const std::int64_t size = from[dim];
    const std::int64_t count = lowerer.shape(node.outputs.at(0))[dim];  // says where it ends
    std::int64_t begin = starts[i] < 0 ? starts[i] + size : starts[i];
    begin = std::clamp<std::int64_t>(begin, 0, step < 0 ? size - 1 : size);
    if (step < 0) begin += (count - 1) * step;  // the last element is the first in memory
    const bool one = count == 1;                // a step over a single element is 1
    ranges.push_back({dim, begin, one ? 1 : (step < 0 ? -step : step), step < 0 && !one});
  }
  lower_ranges(lowerer, node, node.outputs.at(0), ranges);
}

void lower_split(Lowerer& lowerer, const Node& node) {
  const Shape& from = lowerer.shape(node.input(0));
  const std::size_t dim = axis_of(node.int_or("axis", 0), from.size());
  std::int64_t begin = 0;
  for (const ValueId result : node.outputs) {
    if (result == kNoValue) fail("a part of the split has no name");
    lower_ranges(lowerer, node, result, {{dim, begin, 1}});
    begin += lowerer.shape(result)[dim];
  }
}

}  // namespace

bool lower_movement(Lowerer& lowerer, const Node& node) {
  if (node.op == "Reshape" || node.op == "Flatten" || node.op == "Squeeze" ||
      node.op == "Unsqueeze") {
    lower_reshape(lowerer, node);
  } else if (node.op == "Transpose") {
    lower_transpose(lowerer, node);
  } else if (node.op == "Concat") {
    lower_concat(lowerer, node);
  } else if (node.op == "Pad") {
    lower_pad(lowerer, node);
  } else if (node.op == "Slice") {
    lower_slice(lowerer, node);
  } else if (node.op == "Split") {
    lower_split(lowerer, node);
  } else {
    return false;
  }
  return true;
}

}  // namespace slalom::importer

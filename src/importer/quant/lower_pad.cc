// SPDX-License-Identifier: Apache-2.0
// Pad: a constant around is an operator of the plan; what is cropped away is a slice; values of the
// tensor itself around it (reflect, edge, wrap) are slices put together again.
#include "importer/ops/pad.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "importer/ops/op.h"
#include "importer/quant/lower.h"

namespace slalom::importer {
namespace {

// Padding is what a Pad node adds to one dimension (or, below 0, takes away).
struct Padding {
  std::size_t dim;
  PadAmount amount;
};

std::vector<Padding> paddings_of(const Lowerer& lowerer, const Node& node, std::size_t rank) {
  const std::vector<std::int64_t> pads = lowerer.ints_input(node, 1);
  std::vector<std::int64_t> axes;
  if (node.input(3) != kNoValue) {
    axes = lowerer.ints_input(node, 3);
  } else {
    for (std::size_t i = 0; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
  }
  if (pads.size() != 2 * axes.size()) fail("its pads do not fit its axes");
  std::vector<Padding> out;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const PadAmount amount{.begin = pads[i], .end = pads[axes.size() + i]};
    if (amount.begin != 0 || amount.end != 0) out.push_back({axis_of(axes[i], rank), amount});
  }
  return out;
}

std::uint32_t& along(model::Shape& shape, std::size_t axis) {
  return axis == 0 ? shape.h : (axis == 1 ? shape.w : shape.c);
}

// part takes `length` places of an axis, from `begin` on.
TensorIndex part(Lowerer& lowerer, const Node& node, TensorIndex in, std::size_t axis,
                 std::int64_t begin, std::int64_t length) {
  model::Shape shape = lowerer.tensor_shape(in);
  if (length <= 0) fail("it leaves nothing of a dimension");
  along(shape, axis) = u32(length, "a length");
  NetSlice slice;
  slice.begin[axis] = u32(begin, "a start");
  return lowerer.append_unnamed(node, "part", {in}, slice, shape);
}

// repeated puts places of an axis together in the order of `sources`.
TensorIndex repeated(Lowerer& lowerer, const Node& node, TensorIndex in, std::size_t axis,
                     const std::vector<std::int64_t>& sources) {
  constexpr std::size_t kMostParts = 1024;
  std::vector<TensorIndex> parts;
  for (std::size_t i = 0; i < sources.size();) {
    std::size_t end = i + 1;
    while (end < sources.size() && sources[end] == sources[end - 1] + 1) ++end;
    if (parts.size() == kMostParts) fail("it repeats more than 1024 rows of a dimension");
    parts.push_back(part(lowerer, node, in, axis, sources[i], static_cast<std::int64_t>(end - i)));
    i = end;
  }
  model::Shape shape = lowerer.tensor_shape(in);
  along(shape, axis) = u32(std::ssize(sources), "a length");
  return lowerer.append_unnamed(node, "padded", std::move(parts),
                                NetConcat{static_cast<std::uint8_t>(axis)}, shape);
}

double value_of(const Lowerer& lowerer, const Node& node) {
  if (node.input(2) == kNoValue) return 0.0;
  const Tensor& value = lowerer.constant_input(node, 2);
  if (value.dtype() != DType::kFloat32 || value.size() != 1) fail("its value is not one number");
  return value.view<float>()[0];
}

}  // namespace

void lower_pad(Lowerer& lowerer, const Node& node) {
  const Placed placed = lowerer.place_of(node.input(0));
  const std::vector<Padding> paddings = paddings_of(lowerer, node, placed.view.size());
  const ValueId result = node.outputs.at(0);
  if (paddings.empty()) return lowerer.alias(node, result, placed);
  std::vector<std::size_t> dims;
  dims.reserve(paddings.size());
  for (const Padding& p : paddings) dims.push_back(p.dim);
  const Groups groups = single_axis_groups(lowerer, placed, dims);
  TensorIndex now = lowerer.in_memory_order(placed, groups);
  NetPad pad;
  bool pads = false;
  for (const auto& [dim, amount] : paddings) {
    const std::size_t axis = axis_with(groups, dim);
    const std::int64_t length = lowerer.shape(node.input(0))[dim];
    if (copies_inside(node)) {
      now = repeated(lowerer, node, now, axis, pad_sources(node, length, amount));
      continue;
    }
    const std::int64_t cut = std::max<std::int64_t>(0, -amount.begin);
    const std::int64_t left = length - cut - std::max<std::int64_t>(0, -amount.end);
    if (left != length) now = part(lowerer, node, now, axis, cut, left);
    pad.before[axis] = u32(std::max<std::int64_t>(0, amount.begin), "a padding");
    pad.after[axis] = u32(std::max<std::int64_t>(0, amount.end), "a padding");
    pads = pads || pad.before[axis] + pad.after[axis] > 0;
  }
  if (!pads)
    return lowerer.place_result(result, now, contiguous_view(lowerer.shape(result), groups));
  pad.value = value_of(lowerer, node);
  lowerer.append(node, {now}, pad, Lowerer::shape_of(lowerer.shape(result), groups), result,
                 groups);
}

}  // namespace slalom::importer

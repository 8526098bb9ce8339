// SPDX-License-Identifier: Apache-2.0
// Operators that copy elements to other places.
#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "importer/ops/axes.h"
#include "importer/ops/broadcast.h"
#include "importer/ops/op.h"
#include "importer/ops/pad.h"

namespace slalom::importer {
namespace {

constexpr std::int64_t kFar = std::int64_t{1} << 40;  // beyond every dimension

// copy_strided fills `out` in order from the elements at `start` plus the strides, all counted
// in elements.
template <std::size_t kBytes>
void copy_strided(const Tensor& in, std::int64_t start, const std::vector<std::int64_t>& strides,
                  Tensor& out) {
  const std::byte* src = in.bytes().data() + start * static_cast<std::int64_t>(kBytes);
  std::byte* dst = out.bytes().data();
  const std::int64_t length = out.shape().empty() ? 1 : out.shape().back();
  const std::int64_t step =
      static_cast<std::int64_t>(kBytes) * (strides.empty() ? 0 : strides.back());
  walk_rows<1>(out.shape(), std::array{strides}, [&](std::int64_t at, const auto& offsets) {
    const std::byte* from = src + offsets[0] * static_cast<std::int64_t>(kBytes);
    std::byte* to = dst + at * static_cast<std::int64_t>(kBytes);
    for (std::int64_t i = 0; i < length; ++i) {
      std::memcpy(to + i * static_cast<std::int64_t>(kBytes), from + i * step, kBytes);
    }
  });
}

void copy_strided(const Tensor& in, std::int64_t start, const std::vector<std::int64_t>& strides,
                  Tensor& out) {
  if (out.size() == 0) return;
  switch (element_bytes(in.dtype())) {
    case 1:
      return copy_strided<1>(in, start, strides, out);
    case 4:
      return copy_strided<4>(in, start, strides, out);
    default:
      return copy_strided<8>(in, start, strides, out);
  }
}

// --- Transpose, Expand --------------------------------------------------------------------

std::vector<std::size_t> permutation(const Node& node, std::size_t rank) {
  std::vector<std::int64_t> reversed(rank);
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  const std::vector<std::int64_t> given = node.ints_or("perm", reversed);
  if (given.size() != rank || normalise_axes(given, rank).size() != rank) {
    fail("perm is not a permutation of the axes");
  }
  std::vector<std::size_t> perm;
  perm.reserve(rank);
  for (const std::int64_t axis : given) perm.push_back(normalise_axis(axis, rank));
  return perm;
}

std::vector<TensorType> infer_transpose(const InferContext& context) {
  TensorType type{.dtype = context.dtype(0), .shape = {}};
  for (const std::size_t axis : permutation(context.node(), context.rank(0))) {
    type.shape.push_back(context.shape(0)[axis]);
  }
  return {type};
}

void transpose(const EvalContext& context) {
  const auto own = strides_of(context.in(0).shape());
  std::vector<std::int64_t> strides;
  for (const std::size_t axis : permutation(context.node(), own.size())) {
    strides.push_back(own[axis]);
  }
  copy_strided(context.in(0), 0, strides, context.out());
}

std::vector<TensorType> infer_expand(const InferContext& context) {
  Shape target = context.ints(1);
  if (element_count(target) < 0) fail("the target is " + shape_text(target));
  return {{.dtype = context.dtype(0), .shape = broadcast_shapes(context.shape(0), target)}};
}

void expand(const EvalContext& context) {
  copy_strided(context.in(0), 0, broadcast_strides(context.in(0).shape(), context.out().shape()),
               context.out());
}

// --- Slice, Split -------------------------------------------------------------------------

struct SliceAxis {
  std::int64_t start = 0;
  std::int64_t step = 1;
  std::int64_t count = 0;
};

SliceAxis slice_axis(std::int64_t dim, std::int64_t start, std::int64_t end, std::int64_t step) {
  if (step == 0) fail("a step is zero");
  step = std::clamp(step, -kFar, kFar);
  if (start < 0) start += dim;
  if (end < 0) end += dim;
  if (step > 0) {
    start = std::clamp<std::int64_t>(start, 0, dim);
    end = std::clamp<std::int64_t>(end, 0, dim);
    return {.start = start,
            .step = step,
            .count = std::max<std::int64_t>(0, (end - start + step - 1) / step)};
  }
  start = std::clamp<std::int64_t>(start, -1, dim - 1);
  end = std::clamp<std::int64_t>(end, -1, dim - 1);
  return {.start = start,
          .step = step,
          .count = std::max<std::int64_t>(0, (start - end - step - 1) / -step)};
}

// slice_axes resolves the inputs of Slice-10 and later for every dimension.
std::vector<SliceAxis> slice_axes(const InferContext& context) {
  const Shape& in = context.shape(0);
  const auto starts = context.ints(1);
  const auto ends = context.ints(2);
  std::vector<std::int64_t> axes(starts.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (context.has(3)) axes = context.ints(3);
  std::vector<std::int64_t> steps(starts.size(), 1);
  if (context.has(4)) steps = context.ints(4);
  if (ends.size() != starts.size() || axes.size() != starts.size() ||
      steps.size() != starts.size()) {
    fail("starts, ends, axes and steps have different lengths");
  }
  (void)normalise_axes(axes, in.size());  // no axis twice
  std::vector<SliceAxis> result;
  result.reserve(in.size());
  for (const std::int64_t dim : in) result.push_back({.start = 0, .step = 1, .count = dim});
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t d = normalise_axis(axes[i], in.size());
    result[d] = slice_axis(in[d], starts[i], ends[i], steps[i]);
  }
  return result;
}

std::vector<TensorType> infer_slice(const InferContext& context) {
  TensorType type{.dtype = context.dtype(0), .shape = {}};
  for (const SliceAxis& axis : slice_axes(context)) type.shape.push_back(axis.count);
  return {type};
}

void slice(const EvalContext& context) {
  const auto inputs = known_inputs(context.inputs());
  const auto axes = slice_axes(InferContext(context.node(), inputs));
  std::vector<std::int64_t> strides = strides_of(context.in(0).shape());
  std::int64_t start = 0;
  for (std::size_t d = 0; d < axes.size(); ++d) {
    start += axes[d].start * strides[d];
    // The step matters only between two elements; a huge one must not overflow.
    strides[d] = axes[d].count > 1 ? strides[d] * axes[d].step : 0;
  }
  copy_strided(context.in(0), start, strides, context.out());
}

std::vector<std::int64_t> equal_parts(std::int64_t dim, std::int64_t parts, bool uneven) {
  if (parts < 1 || (!uneven && dim % parts != 0)) {
    fail("the dimension " + std::to_string(dim) + " cannot be split into " + std::to_string(parts) +
         " equal parts");
  }
  const std::int64_t part = (dim + parts - 1) / parts;
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(parts), part);
  sizes.back() = dim - part * (parts - 1);
  return sizes;
}

// split_sizes: Split-11 has an attribute, Split-13 an input, Split-18 num_outputs besides.
std::vector<std::int64_t> split_sizes(const InferContext& context, std::int64_t dim) {
  const Node& node = context.node();
  const auto outputs = static_cast<std::int64_t>(node.outputs.size());
  const auto* attribute = node.attribute<std::vector<std::int64_t>>("split");
  const auto* count = node.attribute<std::int64_t>("num_outputs");
  if (attribute != nullptr && node.opset >= 13) fail("the sizes are an input in this operator set");
  if (count != nullptr && (node.opset < 18 || *count != outputs)) fail("num_outputs does not fit");
  if (attribute != nullptr) return *attribute;
  if (context.has(1)) return context.ints(1);
  return equal_parts(dim, outputs, count != nullptr);
}

std::vector<TensorType> infer_split(const InferContext& context) {
  const std::size_t axis = normalise_axis(context.node().int_or("axis", 0), context.rank(0));
  const std::int64_t dim = context.shape(0)[axis];
  const auto sizes = split_sizes(context, dim);
  std::int64_t left = dim;
  std::vector<TensorType> types;
  for (const std::int64_t size : sizes) {
    if (size < 0 || size > left) fail("the parts do not add up to " + std::to_string(dim));
    left -= size;
    types.push_back(context.type(0));
    types.back().shape[axis] = size;
  }
  if (left != 0) fail("the parts do not add up to " + std::to_string(dim));
  if (types.size() != context.node().outputs.size()) fail("each part needs an output");
  return types;
}

void split(const EvalContext& context) {
  const Tensor& in = context.in(0);
  const std::size_t axis = normalise_axis(context.node().int_or("axis", 0), in.rank());
  const auto strides = strides_of(in.shape());
  std::int64_t start = 0;
  for (std::size_t i = 0; i < context.output_count(); ++i) {
    copy_strided(in, start * strides[axis], strides, context.out(i));
    start += context.out(i).shape()[axis];
  }
}

// --- Concat -------------------------------------------------------------------------------

std::vector<TensorType> infer_concat(const InferContext& context) {
  const auto* given = context.node().attribute<std::int64_t>("axis");
  if (given == nullptr) fail("the attribute axis is missing");
  const std::size_t axis = normalise_axis(*given, context.rank(0));
  TensorType type = context.type(0);
  for (std::size_t i = 1; i < context.input_count(); ++i) {
    context.want_dtype(i, {type.dtype});
    Shape other = context.shape(i);
    if (other.size() != type.shape.size()) fail("the inputs have different ranks");
    type.shape[axis] += other[axis];
    other[axis] = type.shape[axis];
    if (other != type.shape) {
      fail("the shapes " + shape_text(context.shape(0)) + " and " + shape_text(context.shape(i)) +
           " differ beside the axis");
    }
    if (element_count(type.shape) < 0) fail("the result is too large");
  }
  return {type};
}

void concat(const EvalContext& context) {
  const Shape& shape = context.out().shape();
  const std::size_t axis = normalise_axis(context.node().int_or("axis", 0), shape.size());
  const auto outer = static_cast<std::size_t>(
      element_count(Shape(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(axis))));
  std::byte* dst = context.out().bytes().data();
  if (context.out().size() == 0) return;
  for (std::size_t o = 0; o < outer; ++o) {
    for (std::size_t i = 0; i < context.input_count(); ++i) {
      const auto bytes = context.in(i).bytes();
      const std::size_t part = bytes.size() / outer;
      if (part == 0) continue;
      std::memcpy(dst, bytes.data() + o * part, part);
      dst += part;
    }
  }
}

// --- Gather -------------------------------------------------------------------------------

std::vector<TensorType> infer_gather(const InferContext& context) {
  context.want_dtype(1, {DType::kInt64, DType::kInt32});
  const Shape& in = context.shape(0);
  const auto axis =
      static_cast<std::ptrdiff_t>(normalise_axis(context.node().int_or("axis", 0), in.size()));
  Shape out(in.begin(), in.begin() + axis);
  out.insert(out.end(), context.shape(1).begin(), context.shape(1).end());
  out.insert(out.end(), in.begin() + axis + 1, in.end());
  return {{.dtype = context.dtype(0), .shape = std::move(out)}};
}

void gather(const EvalContext& context) {
  const Tensor& in = context.in(0);
  const std::size_t axis = normalise_axis(context.node().int_or("axis", 0), in.rank());
  const std::int64_t dim = in.shape()[axis];
  std::vector<std::size_t> indices;
  const auto add = [&](std::int64_t index) {
    if (index < -dim || index >= dim) {
      fail("the index " + std::to_string(index) + " does not exist in a dimension of " +
           std::to_string(dim));
    }
    indices.push_back(static_cast<std::size_t>(index < 0 ? index + dim : index));
  };
  if (context.in(1).dtype() == DType::kInt64) {
    std::ranges::for_each(context.in(1).view<std::int64_t>(), add);
  } else {
    std::ranges::for_each(context.in(1).view<std::int32_t>(), add);
  }
  if (context.out().size() == 0) return;
  std::size_t outer = 1;
  for (std::size_t d = 0; d < axis; ++d) outer *= static_cast<std::size_t>(in.shape()[d]);
  const std::size_t slab = in.bytes().size() / outer;
  const std::size_t part = slab / static_cast<std::size_t>(dim);
  std::byte* dst = context.out().bytes().data();
  for (std::size_t o = 0; o < outer; ++o) {
    for (const std::size_t index : indices) {
      std::memcpy(dst, in.bytes().data() + o * slab + index * part, part);
      dst += part;
    }
  }
}

OpDef row(std::string_view name, std::int64_t min_opset, std::size_t min_inputs,
          std::size_t max_inputs, std::vector<AttributeDef> attributes,
          std::vector<TensorType> (*infer)(const InferContext&), void (*eval)(const EvalContext&)) {
  return op_row(name, min_opset, {min_inputs, max_inputs}, FoldRule::kCheap, std::move(attributes),
                infer, eval);
}

}  // namespace

std::vector<OpDef> movement_ops() {
  const AttributeDef axis{.name = "axis", .kind = AttributeKind::kInt};
  OpDef split_def = row("Split", 2, 1, 2,
                        {axis,
                         {.name = "split", .kind = AttributeKind::kInts},
                         {.name = "num_outputs", .kind = AttributeKind::kInt}},
                        infer_split, split);
  split_def.max_outputs = kVariadic;
  return {row("Transpose", 1, 1, 1, {{.name = "perm", .kind = AttributeKind::kInts}},
              infer_transpose, transpose),
          row("Expand", 8, 2, 2, {}, infer_expand, expand),
          row("Slice", 10, 3, 5, {}, infer_slice, slice),
          std::move(split_def),
          row("Concat", 4, 1, kVariadic, {axis}, infer_concat, concat),
          pad_op(),
          row("Gather", 1, 2, 2, {axis}, infer_gather, gather)};
}

}  // namespace slalom::importer

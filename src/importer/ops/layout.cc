// SPDX-License-Identifier: Apache-2.0
// Operators that keep the elements and their order: only the shape changes.
#include <algorithm>
#include <cstring>

#include "importer/ops/axes.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

void copy_bytes(const EvalContext& context) {
  const auto from = context.in(0).bytes();
  if (!from.empty()) std::memcpy(context.out().bytes().data(), from.data(), from.size());
}

std::vector<TensorType> infer_identity(const InferContext& context) { return {context.type(0)}; }

std::vector<TensorType> infer_dropout(const InferContext& context) {
  context.want_float(0);
  if (context.has(2)) {
    context.want_dtype(2, {DType::kBool});
    const auto training = context.data(2).view<bool>();
    if (std::find(training.begin(), training.end(), true) != training.end()) {
      fail("training mode is not supported");
    }
  }
  std::vector<TensorType> types = {context.type(0)};
  if (context.node().outputs.size() > 1) {
    types.push_back({.dtype = DType::kBool, .shape = context.shape(0)});
  }
  return types;
}

void dropout(const EvalContext& context) {
  copy_bytes(context);
  if (context.output_count() > 1) std::ranges::fill(context.out(1).view<bool>(), true);
}

std::vector<TensorType> infer_flatten(const InferContext& context) {
  const auto rank = static_cast<std::int64_t>(context.rank(0));
  std::int64_t axis = context.node().int_or("axis", 1);
  if (axis < -rank || axis > rank) fail("the axis " + std::to_string(axis) + " does not exist");
  if (axis < 0) axis += rank;
  const Shape& in = context.shape(0);
  const auto middle = in.begin() + static_cast<std::ptrdiff_t>(axis);
  return {{.dtype = context.dtype(0),
           .shape = {element_count(Shape(in.begin(), middle)),
                     element_count(Shape(middle, in.end()))}}};
}

// resolve_reshape replaces 0 (copy, unless allowzero) and -1 (what is left) in a target.
Shape resolve_reshape(const Shape& in, Shape target, bool allow_zero) {
  std::size_t open = target.size();
  for (std::size_t d = 0; d < target.size(); ++d) {
    if (target[d] == 0 && !allow_zero) {
      if (d >= in.size()) fail("the target copies a dimension that the input does not have");
      target[d] = in[d];
    } else if (target[d] == -1) {
      if (open != target.size()) fail("the target has more than one -1");
      open = d;
    } else if (target[d] < 0) {
      fail("the target holds " + std::to_string(target[d]));
    }
  }
  const std::int64_t count = element_count(in);
  if (open != target.size()) {
    target[open] = 1;
    const std::int64_t rest = element_count(target);
    if (rest <= 0 || count % rest != 0) {
      fail("the shape " + shape_text(in) + " does not fit the target");
    }
    target[open] = count / rest;
  }
  if (element_count(target) != count) {
    fail("the shape " + shape_text(in) + " cannot become " + shape_text(target));
  }
  return target;
}

std::vector<TensorType> infer_reshape(const InferContext& context) {
  return {{.dtype = context.dtype(0),
           .shape = resolve_reshape(context.shape(0), context.ints(1),
                                    context.node().int_or("allowzero", 0) != 0)}};
}

std::vector<TensorType> infer_squeeze(const InferContext& context) {
  const Shape& in = context.shape(0);
  const auto given = axes_operand(context, 1, 13);
  Shape out;
  if (!given) {
    std::copy_if(in.begin(), in.end(), std::back_inserter(out),
                 [](std::int64_t dim) { return dim != 1; });
    return {{.dtype = context.dtype(0), .shape = std::move(out)}};
  }
  const auto axes = normalise_axes(*given, in.size());
  for (std::size_t d = 0; d < in.size(); ++d) {
    if (!std::binary_search(axes.begin(), axes.end(), d)) {
      out.push_back(in[d]);
    } else if (in[d] != 1) {
      fail("the dimension to squeeze is " + std::to_string(in[d]) + ", not 1");
    }
  }
  return {{.dtype = context.dtype(0), .shape = std::move(out)}};
}

std::vector<TensorType> infer_unsqueeze(const InferContext& context) {
  const Shape& in = context.shape(0);
  const auto given = axes_operand(context, 1, 13);
  if (!given) fail("the axes are missing");
  const auto axes = normalise_axes(*given, in.size() + given->size());
  Shape out;
  std::size_t next = 0;
  for (std::size_t d = 0; d < in.size() + axes.size(); ++d) {
    out.push_back(std::binary_search(axes.begin(), axes.end(), d) ? 1 : in[next++]);
  }
  return {{.dtype = context.dtype(0), .shape = std::move(out)}};
}

OpDef row(std::string_view name, std::int64_t min_opset, std::size_t min_inputs,
          std::size_t max_inputs, std::vector<AttributeDef> attributes,
          std::vector<TensorType> (*infer)(const InferContext&),
          void (*eval)(const EvalContext&) = copy_bytes) {
  return op_row(name, min_opset, {min_inputs, max_inputs}, FoldRule::kCheap, std::move(attributes),
                infer, eval);
}

}  // namespace

std::vector<OpDef> layout_ops() {
  const AttributeDef axes{.name = "axes", .kind = AttributeKind::kInts};
  OpDef dropout_def = row("Dropout", 7, 1, 3,
                          {{.name = "ratio", .kind = AttributeKind::kFloat},
                           {.name = "seed", .kind = AttributeKind::kInt}},
                          infer_dropout, dropout);
  dropout_def.max_outputs = 2;
  return {
      row("Identity", 1, 1, 1, {}, infer_identity),
      std::move(dropout_def),
      row("Flatten", 9, 1, 1, {{.name = "axis", .kind = AttributeKind::kInt}}, infer_flatten),
      row("Reshape", 5, 2, 2, {{.name = "allowzero", .kind = AttributeKind::kInt}}, infer_reshape),
      row("Squeeze", 1, 1, 2, {axes}, infer_squeeze),
      row("Unsqueeze", 1, 1, 2, {axes}, infer_unsqueeze)};
}

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
// Constants and what is known of a tensor from its type alone.
#include "importer/ops/constant.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "importer/ops/op.h"
#include "importer/ops/types.h"

namespace slalom::importer {
namespace {

// constant_value builds the tensor of a Constant node.
Tensor constant_value(const Node& node) {
  if (node.attributes.size() != 1) fail("exactly one attribute must hold the value");
  const auto& [key, attribute] = *node.attributes.begin();
  if (key == "value") return std::get<Tensor>(attribute);
  if (key == "value_int") return Tensor::scalar(std::get<std::int64_t>(attribute));
  if (key == "value_float") return Tensor::scalar(std::get<float>(attribute));
  if (key == "value_ints") {
    const auto& values = std::get<std::vector<std::int64_t>>(attribute);
    return Tensor::of(Shape{static_cast<std::int64_t>(values.size())}, values);
  }
  const auto& values = std::get<std::vector<float>>(attribute);
  return Tensor::of(Shape{static_cast<std::int64_t>(values.size())}, values);
}

std::vector<TensorType> infer_constant(const InferContext& context) {
  const Tensor value = constant_value(context.node());
  return {{.dtype = value.dtype(), .shape = value.shape()}};
}

void constant(const EvalContext& context) { context.out() = constant_value(context.node()); }

// fill_value is the one-element tensor of ConstantOfShape; null stands for float32 zero.
const Tensor* fill_value(const Node& node) {
  const auto* value = node.attribute<Tensor>("value");
  if (value != nullptr && value->size() != 1) fail("the value has more than one element");
  return value;
}

std::vector<TensorType> infer_constant_of_shape(const InferContext& context) {
  const Tensor* value = fill_value(context.node());
  return {{.dtype = value == nullptr ? DType::kFloat32 : value->dtype(), .shape = context.ints(0)}};
}

void constant_of_shape(const EvalContext& context) {
  const Tensor* value = fill_value(context.node());
  if (value == nullptr) return;  // zeros already
  with_type(value->dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    std::ranges::fill(context.out().view<T>(), value->view<T>()[0]);
  });
}

// range_count is max(ceil((limit - start) / delta), 0) (Range-11).
std::int64_t range_count(const InferContext& context) {
  std::int64_t count = 0;
  with_type(context.dtype(0), [&](auto type) {
    using T = typename decltype(type)::type;
    const auto at = [&](std::size_t i) {
      return static_cast<double>(context.data(i).view<T>()[0]);
    };
    if (at(2) == 0.0) fail("the step is zero");
    const double wanted = std::ceil((at(1) - at(0)) / at(2));
    count = truncate<std::int64_t>(std::max(wanted, 0.0));
  });
  return count;
}

std::vector<TensorType> infer_range(const InferContext& context) {
  context.want_dtype(0, {DType::kFloat32, DType::kInt32, DType::kInt64});
  for (std::size_t i = 0; i < 3; ++i) {
    context.want_dtype(i, {context.dtype(0)});
    if (element_count(context.shape(i)) != 1) fail("start, limit and delta must be scalars");
  }
  return {{.dtype = context.dtype(0), .shape = {range_count(context)}}};
}

void range(const EvalContext& context) {
  with_type(context.out().dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    const T start = context.in(0).view<T>()[0];
    const T delta = context.in(2).view<T>()[0];
    const auto out = context.out().view<T>();
    for (std::size_t i = 0; i < out.size(); ++i) {
      if constexpr (std::is_same_v<T, float>) {
        out[i] = start + static_cast<float>(i) * delta;
      } else {
        out[i] = static_cast<T>(static_cast<std::uint64_t>(start) +
                                i * static_cast<std::uint64_t>(delta));
      }
    }
  });
}

// shape_slice resolves start and end of Shape-15.
std::pair<std::size_t, std::size_t> shape_slice(const Node& node, std::size_t rank) {
  const auto limit = static_cast<std::int64_t>(rank);
  const auto resolve = [limit](std::int64_t axis) {
    return std::clamp<std::int64_t>(axis < 0 ? std::max(axis, -limit) + limit : axis, 0, limit);
  };
  const std::int64_t start = resolve(node.int_or("start", 0));
  const std::int64_t end = resolve(node.int_or("end", limit));
  return {static_cast<std::size_t>(start), static_cast<std::size_t>(std::max(start, end))};
}

std::vector<TensorType> infer_shape(const InferContext& context) {
  const auto [start, end] = shape_slice(context.node(), context.rank(0));
  return {{.dtype = DType::kInt64, .shape = {static_cast<std::int64_t>(end - start)}}};
}

std::vector<TensorType> infer_size(const InferContext& context) {
  (void)context.type(0);
  return {{.dtype = DType::kInt64, .shape = {}}};
}

void shape_or_size(const EvalContext& context) {
  context.out() = *value_of_shape(context.node(), context.in(0).shape());
}

OpDef row(std::string_view name, std::int64_t min_opset, std::size_t inputs,
          std::vector<AttributeDef> attributes,
          std::vector<TensorType> (*infer)(const InferContext&), void (*eval)(const EvalContext&)) {
  return op_row(name, min_opset, {inputs, inputs}, FoldRule::kCheap, std::move(attributes), infer,
                eval);
}

}  // namespace

std::optional<Tensor> value_of_shape(const Node& node, const Shape& shape) {
  if (node.op == "Size") return Tensor::scalar(element_count(shape));
  if (node.op != "Shape") return std::nullopt;
  const auto [start, end] = shape_slice(node, shape.size());
  const std::vector<std::int64_t> dims(shape.begin() + static_cast<std::ptrdiff_t>(start),
                                       shape.begin() + static_cast<std::ptrdiff_t>(end));
  return Tensor::of(Shape{static_cast<std::int64_t>(dims.size())}, dims);
}

std::vector<OpDef> constant_ops() {
  return {row("Constant", 1, 0,
              {{.name = "value", .kind = AttributeKind::kTensor},
               {.name = "value_int", .kind = AttributeKind::kInt},
               {.name = "value_ints", .kind = AttributeKind::kInts},
               {.name = "value_float", .kind = AttributeKind::kFloat},
               {.name = "value_floats", .kind = AttributeKind::kFloats}},
              infer_constant, constant),
          row("ConstantOfShape", 9, 1, {{.name = "value", .kind = AttributeKind::kTensor}},
              infer_constant_of_shape, constant_of_shape),
          row("Range", 11, 3, {}, infer_range, range),
          row("Shape", 1, 1,
              {{.name = "start", .kind = AttributeKind::kInt},
               {.name = "end", .kind = AttributeKind::kInt}},
              infer_shape, shape_or_size),
          row("Size", 1, 1, {}, infer_size, shape_or_size)};
}

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
// Add, Sub, Mul, Div (and Min, Max with a constant) with broadcasting.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "importer/ops/op.h"
#include "importer/quant/lower.h"

namespace slalom::importer {
namespace {

enum class Kind { kAdd, kSub, kMul, kDiv, kMin, kMax };

std::optional<Kind> kind_of(std::string_view op) {
  if (op == "Add" || op == "Sum") return Kind::kAdd;
  if (op == "Sub") return Kind::kSub;
  if (op == "Mul") return Kind::kMul;
  if (op == "Div") return Kind::kDiv;
  if (op == "Min") return Kind::kMin;
  if (op == "Max") return Kind::kMax;
  return std::nullopt;
}

// with_scalar is the function x -> x op c, or c op x if the constant comes first.
Unary with_scalar(Kind kind, double c, bool constant_first) {
  const auto make = [](std::function<double(double)> f) {
    return Unary{.clamp = false, .f = std::move(f)};
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  switch (kind) {
    case Kind::kAdd:
      return make([c](double x) { return x + c; });
    case Kind::kSub:
      if (constant_first) return make([c](double x) { return c - x; });
      return make([c](double x) { return x - c; });
    case Kind::kMul:
      return make([c](double x) { return x * c; });
    case Kind::kDiv:
      if (constant_first) return make([c](double x) { return c / x; });
      return make([c](double x) { return x / c; });
    case Kind::kMin:
      return {.clamp = true, .lo = -kInfinity, .hi = c, .f = nullptr};
    case Kind::kMax:
      return {.clamp = true, .lo = c, .hi = kInfinity, .f = nullptr};
  }
  fail("an unknown operator");
}

// aligned gives a view the rank of the result: dimensions are added in front.
View aligned(View view, std::size_t rank) {
  view.insert(view.begin(), rank - view.size(), {});
  return view;
}
Shape aligned(Shape shape, std::size_t rank) {
  shape.insert(shape.begin(), rank - shape.size(), 1);
  return shape;
}

// broadcast_groups are the groups under which an operand of smaller shape broadcasts along whole
// axes; fails if it would broadcast along a part of an axis.
void want_whole_axes(const Shape& operand, const Shape& result, const Groups& groups) {
  for (const auto& group : groups) {
    bool full = true;
    bool single = true;
    for (const std::size_t dim : group) {
      full = full && operand[dim] == result[dim];
      single = single && operand[dim] == 1;
    }
    if (!full && !single) {
      fail("operands of the shapes " + shape_text(operand) + " and " + shape_text(result) +
           " broadcast in a way that a plan has not");
    }
  }
}

// Pair is what lower_binary knows of its operands, brought to the rank of the result.
struct Pair {
  ValueId result;
  Shape shape;
  Groups groups;  // of the result's memory
};

// groups_for chooses the result's memory order: that of an operand of full size, else the order of
// an image.
Groups groups_for(const Lowerer& lowerer, const Shape& shape, std::span<const Placed> operands) {
  for (const Placed& placed : operands) {
    const View view = aligned(placed.view, shape.size());
    if (view_shape(view) != shape) continue;
    if (auto groups = groups_of(view, lowerer.tensor_shape(placed.tensor))) return *groups;
  }
  const std::size_t rank = shape.size();
  return rank == 4 ? image_groups(rank) : natural_groups(rank);
}

NetOp binary_op(Kind kind) {
  switch (kind) {
    case Kind::kAdd:
      return NetAdd{};
    case Kind::kSub:
      return NetAdd{.sign_b = -1.0F, .post = {}};
    case Kind::kMul:
      return NetMul{};
    case Kind::kDiv:
      fail("a division by something that is not constant is not supported");
    case Kind::kMin:
    case Kind::kMax:
      fail("only one tensor and one constant number are supported");
  }
  fail("an unknown operator");
}

TensorIndex combine(Lowerer& lowerer, const Node& node, Kind kind, const Shape& shape,
                    const Placed& a, const Placed& b, Groups& groups, std::string_view what) {
  const std::array<Placed, 2> operands = {a, b};
  groups = groups_for(lowerer, shape, operands);
  std::vector<TensorIndex> inputs;
  for (const Placed& placed : operands) {
    const View view = aligned(placed.view, shape.size());
    want_whole_axes(view_shape(view), shape, groups);
    inputs.push_back(lowerer.in_memory_order({placed.tensor, view}, groups));
  }
  return lowerer.append_unnamed(node, what, std::move(inputs), binary_op(kind),
                                Lowerer::shape_of(shape, groups));
}

// per_channel returns the constant as one number for each channel of the tensor's memory, if it
// varies along no other axis.
std::optional<std::vector<float>> per_channel(const Tensor& constant, const Shape& shape,
                                              const Groups& groups) {
  const Shape own = aligned(constant.shape(), shape.size());
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    const bool channel = std::count(groups[2].begin(), groups[2].end(), dim) != 0;
    if (own[dim] != (channel ? shape[dim] : 1)) return std::nullopt;
  }
  // The channel's dimensions in the order of memory, from the constant in its own order.
  const View source = contiguous_view(own, natural_groups(own.size()));
  const View target = contiguous_view(own, groups);
  const auto from = memory_order(source);
  const auto to = memory_order(target);
  std::vector<float> values(constant.size());
  for (std::size_t i = 0; i < from.size(); ++i) values[to[i]] = constant.view<float>()[from[i]];
  return values;
}

// scale_and_shift is a depthwise 1x1 convolution: x * factor + offset, channel by channel.
NetLinear scale_and_shift(const model::Shape& shape, std::vector<float> factor,
                          std::vector<float> offset) {
  NetLinear linear;
  linear.stages.push_back({.conv = {shape, shape, {}, shape.c},
                           .weights = [factor = std::move(factor)] { return factor; },
                           .bias = std::move(offset)});
  return linear;
}

bool lower_per_channel(Lowerer& lowerer, const Node& node, Kind kind, const Placed& placed,
                       const Tensor& constant, bool constant_first) {
  const ValueId result = node.outputs.at(0);
  const Shape& shape = lowerer.shape(result);
  const View view = aligned(placed.view, shape.size());
  if (view_shape(view) != shape || (kind == Kind::kDiv && constant_first)) return false;
  const auto groups = groups_of(view, lowerer.tensor_shape(placed.tensor));
  if (!groups) return false;
  auto values = per_channel(constant, shape, *groups);
  if (!values) return false;
  std::vector<float> factor(values->size(), 1.0F);
  std::vector<float> offset;
  if (kind == Kind::kAdd || kind == Kind::kSub) {
    offset = std::move(*values);
    if (kind == Kind::kSub && !constant_first) {
      for (float& v : offset) v = -v;
    }
    if (kind == Kind::kSub && constant_first) std::fill(factor.begin(), factor.end(), -1.0F);
  } else {
    factor = std::move(*values);
    if (kind == Kind::kDiv) {
      for (float& v : factor) v = 1.0F / v;
    }
    if (!std::all_of(factor.begin(), factor.end(), [](float v) { return std::isfinite(v); })) {
      fail("a division by zero");
    }
  }
  NetLinear linear =
      scale_and_shift(lowerer.tensor_shape(placed.tensor), std::move(factor), std::move(offset));
  linear.before_post = result;
  lowerer.append(node, {placed.tensor}, std::move(linear), lowerer.tensor_shape(placed.tensor),
                 result, *groups);
  return true;
}

// reciprocal_constant places 1/c where a tensor is divided by a constant tensor.
Placed reciprocal_constant(Lowerer& lowerer, const Node& node, const Tensor& constant) {
  std::vector<float> values;
  for (const float v : constant.view<float>()) values.push_back(1.0F / v);
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
    fail("a division by zero");
  }
  const Groups groups = natural_groups(constant.rank());
  return {lowerer.add_constant(node, node.name + "/reciprocal",
                               Lowerer::shape_of(constant.shape(), groups), std::move(values)),
          contiguous_view(constant.shape(), groups)};
}

void lower_pair(Lowerer& lowerer, const Node& node, Kind kind) {
  const Tensor* a = lowerer.constant(node.input(0));
  const Tensor* b = lowerer.constant(node.input(1));
  const Tensor* constant = a != nullptr ? a : b;
  const ValueId result = node.outputs.at(0);
  const Shape& shape = lowerer.shape(result);
  if (constant != nullptr && constant->dtype() != DType::kFloat32) fail("a constant is not float");
  if (constant != nullptr) {
    const bool first = a != nullptr;
    const Placed placed = lowerer.place_of(node.input(first ? 1 : 0));
    if (constant->size() == 1 && view_shape(placed.view).size() == shape.size()) {
      const TensorIndex out =
          lowerer.append_unnamed(node, "function", {placed.tensor},
                                 NetUnary{with_scalar(kind, constant->view<float>()[0], first)},
                                 lowerer.tensor_shape(placed.tensor));
      return lowerer.place_result(node.outputs.at(0), out, placed.view);
    }
    if (kind != Kind::kMin && kind != Kind::kMax &&
        lower_per_channel(lowerer, node, kind, placed, *constant, first)) {
      return;
    }
  }
  const Placed left = lowerer.place_of(node.input(0));
  const bool divides = kind == Kind::kDiv && b != nullptr;
  const Placed right =
      divides ? reciprocal_constant(lowerer, node, *b) : lowerer.place_of(node.input(1));
  Groups groups;
  const TensorIndex out =
      combine(lowerer, node, divides ? Kind::kMul : kind, shape, left, right, groups, "sum");
  lowerer.place_result(node.outputs.at(0), out, contiguous_view(shape, groups));
}

}  // namespace

bool lower_binary(Lowerer& lowerer, const Node& node) {
  const auto kind = kind_of(node.op);
  if (!kind) return false;
  if (node.inputs.size() == 2) {
    lower_pair(lowerer, node, *kind);
    return true;
  }
  fail("only two operands are supported");
}

}  // namespace slalom::importer

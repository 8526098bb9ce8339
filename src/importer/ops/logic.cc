// SPDX-License-Identifier: Apache-2.0
// Comparisons, boolean operators and selection: what shape arithmetic is made of.
#include <functional>
#include <type_traits>

#include "importer/ops/broadcast.h"
#include "importer/ops/op.h"
#include "importer/ops/types.h"

namespace slalom::importer {
namespace {

std::vector<TensorType> infer_compare(const InferContext& context) {
  context.want_dtype(1, {context.dtype(0)});
  return {{.dtype = DType::kBool, .shape = broadcast_shapes(context.shape(0), context.shape(1))}};
}

template <class F>
void compare(const EvalContext& context) {
  with_type(context.in(0).dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    apply_binary<T, bool>(context.in(0), context.in(1), context.out(), F{});
  });
}

std::vector<TensorType> infer_boolean(const InferContext& context) {
  context.want_dtype(0, {DType::kBool});
  return infer_compare(context);
}

template <class F>
void boolean(const EvalContext& context) {
  apply_binary<bool, bool>(context.in(0), context.in(1), context.out(), F{});
}

std::vector<TensorType> infer_not(const InferContext& context) {
  context.want_dtype(0, {DType::kBool});
  return {context.type(0)};
}

void not_op(const EvalContext& context) {
  const auto in = context.in(0).view<bool>();
  const auto out = context.out().view<bool>();
  for (std::size_t i = 0; i < in.size(); ++i) out[i] = !in[i];
}

std::vector<TensorType> infer_where(const InferContext& context) {
  context.want_dtype(0, {DType::kBool});
  context.want_dtype(2, {context.dtype(1)});
  return {{.dtype = context.dtype(1),
           .shape = broadcast_shapes(context.shape(0),
                                     broadcast_shapes(context.shape(1), context.shape(2)))}};
}

void where(const EvalContext& context) {
  with_type(context.out().dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    const Shape& shape = context.out().shape();
    const std::array<std::vector<std::int64_t>, 3> strides = {
        broadcast_strides(context.in(0).shape(), shape),
        broadcast_strides(context.in(1).shape(), shape),
        broadcast_strides(context.in(2).shape(), shape)};
    const auto chosen = context.in(0).view<bool>();
    const auto yes = context.in(1).view<T>();
    const auto no = context.in(2).view<T>();
    const auto out = context.out().view<T>();
    const auto step = [&](std::size_t i) {
      return strides.at(i).empty() ? std::size_t{0}
                                   : static_cast<std::size_t>(strides.at(i).back());
    };
    const std::size_t length = shape.empty() ? 1 : static_cast<std::size_t>(shape.back());
    walk_rows<3>(shape, strides, [&](std::int64_t at, const auto& offsets) {
      for (std::size_t i = 0; i < length; ++i) {
        const bool take = chosen[static_cast<std::size_t>(offsets[0]) + i * step(0)];
        out[static_cast<std::size_t>(at) + i] =
            take ? yes[static_cast<std::size_t>(offsets[1]) + i * step(1)]
                 : no[static_cast<std::size_t>(offsets[2]) + i * step(2)];
      }
    });
  });
}

OpDef row(std::string_view name, std::int64_t min_opset, std::size_t inputs,
          std::vector<TensorType> (*infer)(const InferContext&), void (*eval)(const EvalContext&)) {
  return op_row(name, min_opset, {inputs, inputs}, FoldRule::kCheap, {}, infer, eval);
}

}  // namespace

std::vector<OpDef> logic_ops() {
  return {row("Equal", 7, 2, infer_compare, compare<std::equal_to<>>),
          row("Greater", 7, 2, infer_compare, compare<std::greater<>>),
          row("GreaterOrEqual", 12, 2, infer_compare, compare<std::greater_equal<>>),
          row("Less", 7, 2, infer_compare, compare<std::less<>>),
          row("LessOrEqual", 12, 2, infer_compare, compare<std::less_equal<>>),
          row("And", 7, 2, infer_boolean, boolean<std::logical_and<>>),
          row("Or", 7, 2, infer_boolean, boolean<std::logical_or<>>),
          row("Not", 1, 1, infer_not, not_op),
          row("Where", 9, 3, infer_where, where)};
}

}  // namespace slalom::importer

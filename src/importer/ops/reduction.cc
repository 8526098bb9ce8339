// SPDX-License-Identifier: Apache-2.0
// Reductions over axes, Softmax and LogSoftmax.
#include <algorithm>
#include <array>
#include <type_traits>
#include <vector>

#include "importer/ops/axes.h"
#include "importer/ops/broadcast.h"
#include "importer/ops/math.h"
#include "importer/ops/op.h"
#include "importer/ops/parallel.h"
#include "importer/ops/types.h"

namespace slalom::importer {
namespace {

// --- ReduceMean and its kind --------------------------------------------------------------

// The axes became an input with operator set 13 for ReduceSum, with 18 for the others.
std::vector<std::size_t> reduced_axes(const InferContext& context) {
  const std::int64_t since = context.node().op == "ReduceSum" ? 13 : 18;
  const auto given = axes_operand(context, 1, since);
  if (given && !given->empty()) return normalise_axes(*given, context.rank(0));
  std::vector<std::size_t> all;
  if (context.node().int_or("noop_with_empty_axes", 0) != 0) return all;
  for (std::size_t d = 0; d < context.rank(0); ++d) all.push_back(d);
  return all;
}

// kept is the input's shape with 1 for every reduced dimension.
Shape kept(const Shape& in, const std::vector<std::size_t>& axes) {
  Shape shape = in;
  for (const std::size_t axis : axes) shape[axis] = 1;
  return shape;
}

std::vector<TensorType> infer_reduce(const InferContext& context) {
  if (context.node().op == "ReduceMean") {
    context.want_float(0);
  } else {
    context.want_dtype(0, {DType::kFloat32, DType::kInt32, DType::kInt64});
  }
  const auto axes = reduced_axes(context);
  if (context.node().int_or("keepdims", 1) != 0) {
    return {{.dtype = context.dtype(0), .shape = kept(context.shape(0), axes)}};
  }
  TensorType type{.dtype = context.dtype(0), .shape = {}};
  for (std::size_t d = 0; d < context.rank(0); ++d) {
    if (!std::binary_search(axes.begin(), axes.end(), d)) type.shape.push_back(context.shape(0)[d]);
  }
  return {type};
}

// reduce combines the elements in their order, in double or in integers that wrap around, from
// `start`; finish(total) gives the result.
template <class T, class Step, class Finish>
void reduce(const EvalContext& context, T start, Step step, Finish finish) {
  using Wide = std::conditional_t<std::is_same_v<T, float>, double, std::uint64_t>;
  const auto known = known_inputs(context.inputs());
  const auto axes = reduced_axes(InferContext(context.node(), known));
  const Tensor& in = context.in(0);
  const Shape shape = kept(in.shape(), axes);
  std::vector<Wide> totals(context.out().size(), static_cast<Wide>(start));
  const auto strides = broadcast_strides(shape, in.shape());
  const std::int64_t step_in_row = strides.empty() ? 0 : strides.back();
  const std::int64_t length = in.shape().empty() ? 1 : in.shape().back();
  const T* x = in.view<T>().data();
  walk_rows<1>(in.shape(), std::array{strides}, [&](std::int64_t at, const auto& offsets) {
    Wide* total = totals.data() + offsets[0];
    for (std::int64_t i = 0; i < length; ++i) {
      Wide& into = total[i * step_in_row];
      into = step(into, static_cast<Wide>(x[at + i]));
    }
  });
  const auto y = context.out().view<T>();
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<T>(finish(totals[i]));
}

void reduce_mean(const EvalContext& context) {
  const auto count = static_cast<double>(context.in(0).size()) /
                     static_cast<double>(std::max<std::size_t>(1, context.out().size()));
  reduce<float>(
      context, 0.0F, [](double a, double b) { return a + b; },
      [count](double total) { return total / count; });
}

template <class Step>
void reduce_any(const EvalContext& context, int start, Step step) {
  const auto same = [](auto total) { return total; };
  switch (context.out().dtype()) {
    case DType::kInt32:
      return reduce<std::int32_t>(context, start, step, same);
    case DType::kInt64:
      return reduce<std::int64_t>(context, start, step, same);
    default:
      return reduce<float>(context, static_cast<float>(start), step, same);
  }
}

void reduce_sum(const EvalContext& context) {
  reduce_any(context, 0, [](auto a, auto b) { return a + b; });
}

void reduce_prod(const EvalContext& context) {
  reduce_any(context, 1, [](auto a, auto b) { return a * b; });
}

// --- Softmax ------------------------------------------------------------------------------

// Before operator set 13 the input is seen as a matrix, cut before `axis` (default 1), and rows
// are normalised; since then one axis is (default the last).
struct SoftmaxLayout {
  std::size_t outer = 1;
  std::size_t count = 1;  // elements that are normalised together
  std::size_t inner = 1;  // their distance
};

SoftmaxLayout softmax_layout(const Node& node, const Shape& shape) {
  const bool matrix = node.opset < 13;
  const std::size_t axis = normalise_axis(node.int_or("axis", matrix ? 1 : -1), shape.size());
  SoftmaxLayout layout;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const auto dim = static_cast<std::size_t>(shape[d]);
    if (d < axis) {
      layout.outer *= dim;
    } else if (d == axis || matrix) {
      layout.count *= dim;
    } else {
      layout.inner *= dim;
    }
  }
  return layout;
}

std::vector<TensorType> infer_softmax(const InferContext& context) {
  context.want_float(0);
  (void)softmax_layout(context.node(), context.shape(0));
  return {context.type(0)};
}

// softmax subtracts the largest element first, so that nothing overflows.
template <bool kLog>
void softmax(const EvalContext& context) {
  const SoftmaxLayout layout = softmax_layout(context.node(), context.in(0).shape());
  const auto x = context.in(0).view<float>();
  const auto y = context.out().view<float>();
  if (x.empty()) return;
  parallel_for(context.threads(), layout.outer, [&](std::size_t o) {
    for (std::size_t i = 0; i < layout.inner; ++i) {
      const std::size_t first = o * layout.count * layout.inner + i;
      const std::size_t last = first + layout.count * layout.inner;
      float largest = x[first];
      for (std::size_t at = first; at < last; at += layout.inner) {
        largest = std::max(largest, x[at]);
      }
      double sum = 0.0;
      for (std::size_t at = first; at < last; at += layout.inner) {
        sum += exp_double(static_cast<double>(x[at]) - static_cast<double>(largest));
      }
      const double log_sum = kLog ? log_double(sum) : 0.0;
      for (std::size_t at = first; at < last; at += layout.inner) {
        const double shifted = static_cast<double>(x[at]) - static_cast<double>(largest);
        y[at] = static_cast<float>(kLog ? shifted - log_sum : exp_double(shifted) / sum);
      }
    }
  });
}

OpDef row(std::string_view name, std::size_t max_inputs, FoldRule fold,
          std::vector<AttributeDef> attributes,
          std::vector<TensorType> (*infer)(const InferContext&), void (*eval)(const EvalContext&)) {
  return op_row(name, 1, {1, max_inputs}, fold, std::move(attributes), infer, eval);
}

}  // namespace

std::vector<OpDef> reduction_ops() {
  const AttributeDef axis{.name = "axis", .kind = AttributeKind::kInt};
  const std::vector<AttributeDef> reduce_attributes = {
      {.name = "axes", .kind = AttributeKind::kInts},
      {.name = "keepdims", .kind = AttributeKind::kInt},
      {.name = "noop_with_empty_axes", .kind = AttributeKind::kInt}};
  return {row("ReduceMean", 2, FoldRule::kCheap, reduce_attributes, infer_reduce, reduce_mean),
          row("ReduceSum", 2, FoldRule::kCheap, reduce_attributes, infer_reduce, reduce_sum),
          row("ReduceProd", 2, FoldRule::kCheap, reduce_attributes, infer_reduce, reduce_prod),
          row("Softmax", 1, FoldRule::kNever, {axis}, infer_softmax, softmax<false>),
          row("LogSoftmax", 1, FoldRule::kNever, {axis}, infer_softmax, softmax<true>)};
}

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
// Element by element functions with one tensor operand.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "importer/ops/broadcast.h"
#include "importer/ops/math.h"
#include "importer/ops/op.h"
#include "importer/ops/parallel.h"
#include "importer/ops/types.h"

namespace slalom::importer {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 15;

std::vector<TensorType> infer_float(const InferContext& context) {
  context.want_float(0);
  return {context.type(0)};
}

// map computes out[i] = f(in[i]).
template <class F>
void map(const EvalContext& context, F f) {
  const auto in = context.in(0).view<float>();
  const auto out = context.out().view<float>();
  parallel_for(context.threads(), (in.size() + kChunk - 1) / kChunk, [&](std::size_t c) {
    const std::size_t end = std::min(in.size(), (c + 1) * kChunk);
    for (std::size_t i = c * kChunk; i < end; ++i) out[i] = f(in[i]);
  });
}

void relu(const EvalContext& context) {
  map(context, [](float x) { return x < 0.0F ? 0.0F : x; });
}

void leaky_relu(const EvalContext& context) {
  const float alpha = context.node().float_or("alpha", 0.01F);
  map(context, [alpha](float x) { return x < 0.0F ? alpha * x : x; });
}

void sigmoid(const EvalContext& context) { map(context, sigmoid_float); }

void tanh_op(const EvalContext& context) { map(context, tanh_float); }

void swish(const EvalContext& context) {
  map(context, [](float x) {
    const double wide = x;
    return static_cast<float>(wide / (1.0 + exp_double(-wide)));
  });
}

float hard_sigmoid_at(float x, float alpha, float beta) {
  return std::max(0.0F, std::min(1.0F, alpha * x + beta));
}

void hard_sigmoid(const EvalContext& context) {
  const float alpha = context.node().float_or("alpha", 0.2F);
  const float beta = context.node().float_or("beta", 0.5F);
  map(context, [=](float x) { return hard_sigmoid_at(x, alpha, beta); });
}

void hard_swish(const EvalContext& context) {
  map(context, [](float x) { return x * hard_sigmoid_at(x, 1.0F / 6.0F, 0.5F); });
}

void elu(const EvalContext& context) {
  const float alpha = context.node().float_or("alpha", 1.0F);
  map(context,
      [alpha](float x) { return x < 0.0F ? static_cast<float>(alpha * expm1_double(x)) : x; });
}

// The slope is broadcast to the input, never the other way (PRelu-9).
std::vector<TensorType> infer_prelu(const InferContext& context) {
  context.want_float(0);
  context.want_float(1);
  if (broadcast_shapes(context.shape(0), context.shape(1)) != context.shape(0)) {
    fail("the slope's shape " + shape_text(context.shape(1)) + " does not broadcast to " +
         shape_text(context.shape(0)));
  }
  return {context.type(0)};
}

void prelu(const EvalContext& context) {
  apply_binary<float, float>(context.in(0), context.in(1), context.out(),
                             [](float x, float slope) { return x < 0.0F ? slope * x : x; });
}

std::vector<TensorType> infer_clip(const InferContext& context) {
  context.want_dtype(0,
                     {DType::kFloat32, DType::kInt8, DType::kUint8, DType::kInt32, DType::kInt64});
  for (std::size_t i = 1; i <= 2; ++i) {
    if (!context.has(i)) continue;
    if (element_count(context.shape(i)) != 1) fail("a bound is not a scalar");
    context.want_dtype(i, {context.dtype(0)});
  }
  return {context.type(0)};
}

void clip(const EvalContext& context) {
  with_type(context.in(0).dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    T low = std::numeric_limits<T>::lowest();
    T high = std::numeric_limits<T>::max();
    if (context.has(1)) low = context.in(1).view<T>()[0];
    if (context.has(2)) high = context.in(2).view<T>()[0];
    const auto in = context.in(0).view<T>();
    const auto out = context.out().view<T>();
    // As numpy.clip: if the bounds cross, the upper one wins.
    for (std::size_t i = 0; i < in.size(); ++i) out[i] = std::min(std::max(in[i], low), high);
  });
}

template <class F>
void map_numeric(const EvalContext& context, F f) {
  with_type(context.in(0).dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    const auto in = context.in(0).view<T>();
    const auto out = context.out().view<T>();
    for (std::size_t i = 0; i < in.size(); ++i) out[i] = f(in[i]);
  });
}

std::vector<TensorType> infer_numeric(const InferContext& context) {
  context.want_dtype(0, {DType::kFloat32, DType::kInt8, DType::kInt32, DType::kInt64});
  return {context.type(0)};
}

void neg(const EvalContext& context) {
  map_numeric(context, []<class T>(T x) {
    if constexpr (std::is_same_v<T, float>) {
      return -x;
    } else {
      return static_cast<T>(0U - static_cast<std::uint64_t>(x));  // wraps at the lowest integer
    }
  });
}

void abs_op(const EvalContext& context) {
  map_numeric(context, []<class T>(T x) {
    if constexpr (std::is_same_v<T, float>) {
      return std::fabs(x);
    } else if constexpr (std::is_unsigned_v<T>) {
      return x;
    } else {
      return x < 0 ? static_cast<T>(0U - static_cast<std::uint64_t>(x)) : x;
    }
  });
}

void floor_op(const EvalContext& context) {
  map(context, [](float x) { return std::floor(x); });
}

void ceil_op(const EvalContext& context) {
  map(context, [](float x) { return std::ceil(x); });
}

void sqrt_op(const EvalContext& context) {
  map(context, [](float x) { return std::sqrt(x); });
}

void reciprocal(const EvalContext& context) {
  map(context, [](float x) { return 1.0F / x; });
}

OpDef unary(std::string_view name, std::int64_t min_opset, std::vector<AttributeDef> attributes,
            void (*eval)(const EvalContext&),
            std::vector<TensorType> (*infer)(const InferContext&) = infer_float) {
  return op_row(name, min_opset, {1, 1}, FoldRule::kCheap, std::move(attributes), infer, eval);
}

}  // namespace

std::vector<OpDef> activation_ops() {
  const AttributeDef alpha{.name = "alpha", .kind = AttributeKind::kFloat};
  const AttributeDef beta{.name = "beta", .kind = AttributeKind::kFloat};
  OpDef clip_def = unary("Clip", 11, {}, clip, infer_clip);
  clip_def.max_inputs = 3;
  OpDef prelu_def = unary("PRelu", 9, {}, prelu, infer_prelu);
  prelu_def.min_inputs = 2;
  prelu_def.max_inputs = 2;
  OpDef swish_def = unary("Swish", 0, {}, swish);
  return {unary("Relu", 6, {}, relu),
          unary("LeakyRelu", 6, {alpha}, leaky_relu),
          unary("Sigmoid", 6, {}, sigmoid),
          unary("HardSigmoid", 6, {alpha, beta}, hard_sigmoid),
          unary("HardSwish", 14, {}, hard_swish),
          unary("Tanh", 6, {}, tanh_op),
          unary("Elu", 6, {alpha}, elu),
          unary("Neg", 6, {}, neg, infer_numeric),
          unary("Abs", 6, {}, abs_op, infer_numeric),
          unary("Floor", 6, {}, floor_op),
          unary("Ceil", 6, {}, ceil_op),
          unary("Sqrt", 6, {}, sqrt_op),
          unary("Reciprocal", 6, {}, reciprocal),
          std::move(clip_def),
          std::move(prelu_def),
          std::move(swish_def)};
}

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
// Gemm (Gemm-11, Gemm-13) and MatMul (MatMul-13), and the family's list.
#include <algorithm>
#include <array>

#include "importer/ops/broadcast.h"
#include "importer/ops/conv.h"
#include "importer/ops/gemm.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

std::size_t to_size(std::int64_t value) { return static_cast<std::size_t>(value); }

struct GemmSizes {
  std::int64_t m;
  std::int64_t n;
  std::int64_t k;
};

GemmSizes gemm_sizes(const Node& node, const Shape& a, const Shape& b) {
  const bool flip_a = node.int_or("transA", 0) != 0;
  const bool flip_b = node.int_or("transB", 0) != 0;
  const GemmSizes sizes{.m = a[flip_a ? 1 : 0], .n = b[flip_b ? 0 : 1], .k = a[flip_a ? 0 : 1]};
  if (b[flip_b ? 1 : 0] != sizes.k) {
    fail("the matrices of shape " + shape_text(a) + " and " + shape_text(b) + " do not fit");
  }
  return sizes;
}

std::vector<TensorType> infer_gemm(const InferContext& context) {
  for (std::size_t i = 0; i < 2; ++i) {
    context.want_float(i);
    context.want_rank(i, 2, 2);
  }
  const GemmSizes sizes = gemm_sizes(context.node(), context.shape(0), context.shape(1));
  const Shape out = {sizes.m, sizes.n};
  if (context.has(2)) {
    context.want_float(2);
    if (broadcast_shapes(out, context.shape(2)) != out) {
      fail("the addend of shape " + shape_text(context.shape(2)) + " does not broadcast to " +
           shape_text(out));
    }
  }
  return {{.dtype = DType::kFloat32, .shape = out}};
}

MatrixView view_of(const Tensor& matrix, bool flip) {
  const std::ptrdiff_t columns = matrix.shape()[1];
  return {.data = matrix.view<float>().data(),
          .row_step = flip ? 1 : columns,
          .col_step = flip ? columns : 1};
}

void gemm_op(const EvalContext& context) {
  const Node& node = context.node();
  const Tensor& a = context.in(0);
  const Tensor& b = context.in(1);
  const GemmSizes sizes = gemm_sizes(node, a.shape(), b.shape());
  Tensor& out = context.out();
  const PackedA packed(best_gemm_kernel(), to_size(sizes.m), to_size(sizes.k),
                       view_of(a, node.int_or("transA", 0) != 0));
  gemm(packed, to_size(sizes.n), view_of(b, node.int_or("transB", 0) != 0),
       out.view<float>().data(), to_size(sizes.n), context.threads());
  const float alpha = node.float_or("alpha", 1.0F);
  const float beta = node.float_or("beta", 1.0F);
  if (alpha != 1.0F) {
    for (float& y : out.view<float>()) y *= alpha;
  }
  if (context.has(2)) {
    apply_binary<float, float>(out, context.in(2), out,
                               [beta](float y, float c) { return y + beta * c; });
  }
}

// MatMulShape follows numpy.matmul: vectors become matrices, leading dimensions broadcast.
struct MatMulShape {
  Shape a;      // at least rank 2
  Shape b;      // at least rank 2
  Shape batch;  // broadcast leading dimensions
  Shape out;    // as the node returns it
};

MatMulShape matmul_shape(Shape a, Shape b) {
  if (a.empty() || b.empty()) fail("a scalar has no product of matrices");
  const bool vector_a = a.size() == 1;
  const bool vector_b = b.size() == 1;
  if (vector_a) a.insert(a.begin(), 1);
  if (vector_b) b.push_back(1);
  if (a.back() != b[b.size() - 2]) {
    fail("the matrices of shape " + shape_text(a) + " and " + shape_text(b) + " do not fit");
  }
  MatMulShape shape{.a = a, .b = b, .batch = {}, .out = {}};
  shape.batch = broadcast_shapes(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  shape.out = shape.batch;
  if (!vector_a) shape.out.push_back(a[a.size() - 2]);
  if (!vector_b) shape.out.push_back(b.back());
  return shape;
}

std::vector<TensorType> infer_matmul(const InferContext& context) {
  context.want_float(0);
  context.want_float(1);
  return {
      {.dtype = DType::kFloat32, .shape = matmul_shape(context.shape(0), context.shape(1)).out}};
}

void matmul(const EvalContext& context) {
  MatMulShape shape = matmul_shape(context.in(0).shape(), context.in(1).shape());
  const std::int64_t m = shape.a[shape.a.size() - 2];
  const std::int64_t k = shape.a.back();
  const std::int64_t n = shape.b.back();
  if (context.out().size() == 0) return;
  const float* a = context.in(0).view<float>().data();
  const float* b = context.in(1).view<float>().data();
  float* y = context.out().view<float>().data();
  const auto strides = [&shape](const Shape& from, std::int64_t matrix) {
    auto steps = broadcast_strides(Shape(from.begin(), from.end() - 2), shape.batch);
    for (std::int64_t& step : steps) step *= matrix;
    steps.push_back(0);
    return steps;
  };
  // One row of walk_rows for each product: a last dimension of one is added for it.
  const std::array steps = {strides(shape.a, m * k), strides(shape.b, k * n)};
  shape.batch.push_back(1);
  walk_rows<2>(shape.batch, steps, [&](std::int64_t at, const auto& offsets) {
    const PackedA packed(best_gemm_kernel(), to_size(m), to_size(k),
                         {.data = a + offsets[0], .row_step = k, .col_step = 1});
    gemm(packed, to_size(n), {.data = b + offsets[1], .row_step = n, .col_step = 1}, y + at * m * n,
         to_size(n), context.threads());
  });
}

}  // namespace

std::vector<OpDef> linear_ops() {
  return {conv_op(),
          conv_transpose_op(),
          qlinear_conv_op(),
          {.name = "Gemm",
           .min_opset = 7,
           .max_opset = 21,
           .min_inputs = 2,
           .max_inputs = 3,
           .max_outputs = 1,
           .fold = FoldRule::kNever,
           .attributes = {{.name = "alpha", .kind = AttributeKind::kFloat},
                          {.name = "beta", .kind = AttributeKind::kFloat},
                          {.name = "transA", .kind = AttributeKind::kInt},
                          {.name = "transB", .kind = AttributeKind::kInt}},
           .infer = infer_gemm,
           .eval = gemm_op},
          {.name = "MatMul",
           .min_opset = 1,
           .max_opset = 21,
           .min_inputs = 2,
           .max_inputs = 2,
           .max_outputs = 1,
           .fold = FoldRule::kNever,
           .attributes = {},
           .infer = infer_matmul,
           .eval = matmul}};
}

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
// BatchNormalization in inference form (BatchNormalization-15) and LRN (LRN-13).
#include <algorithm>
#include <cmath>
#include <vector>

#include "importer/ops/math.h"
#include "importer/ops/normalisation.h"
#include "importer/ops/op.h"
#include "importer/ops/parallel.h"

namespace slalom::importer {
namespace {

std::vector<TensorType> infer_batch_norm(const InferContext& context) {
  if (context.node().int_or("training_mode", 0) != 0) fail("training mode is not supported");
  context.want_float(0);
  context.want_rank(0, 2, kMaxRank);
  const Shape channels = {context.shape(0)[1]};
  for (std::size_t i = 1; i < 5; ++i) {
    context.want_float(i);
    if (context.shape(i) != channels) {
      fail("a parameter has the shape " + shape_text(context.shape(i)) + ", not " +
           shape_text(channels));
    }
  }
  return {context.type(0)};
}

void batch_norm(const EvalContext& context) {
  const auto affine =
      channel_affine(context.node(), context.in(1), context.in(2), context.in(3), context.in(4));
  const auto x = context.in(0).view<float>();
  const auto y = context.out().view<float>();
  if (x.empty()) return;
  const std::size_t planes = static_cast<std::size_t>(context.in(0).shape()[0]) * affine.size();
  const std::size_t plane = x.size() / planes;
  parallel_for(context.threads(), planes, [&](std::size_t i) {
    const ChannelAffine& c = affine[i % affine.size()];
    for (std::size_t p = i * plane; p < (i + 1) * plane; ++p) {
      y[p] = static_cast<float>(c.scale * static_cast<double>(x[p]) + c.shift);
    }
  });
}

std::vector<TensorType> infer_lrn(const InferContext& context) {
  context.want_float(0);
  context.want_rank(0, 2, kMaxRank);
  if (context.node().int_or("size", 0) < 1) fail("the attribute size is missing or not positive");
  return {context.type(0)};
}

// y = x / (bias + alpha / size * sum of x^2 over the nearest `size` channels)^beta.
void lrn(const EvalContext& context) {
  const Node& node = context.node();
  const Shape& shape = context.in(0).shape();
  const std::int64_t channels = shape[1];
  const std::int64_t size = std::min(node.int_or("size", 1), 2 * channels + 2);
  const double factor = static_cast<double>(node.float_or("alpha", 1e-4F)) /
                        static_cast<double>(node.int_or("size", 1));
  const double beta = node.float_or("beta", 0.75F);
  const double bias = node.float_or("bias", 1.0F);
  if (context.in(0).size() == 0) return;
  const auto plane = static_cast<std::int64_t>(context.in(0).size()) / (shape[0] * channels);
  parallel_for(context.threads(), static_cast<std::size_t>(shape[0] * channels),
               [&](std::size_t i) {
                 const auto index = static_cast<std::int64_t>(i);
                 const std::int64_t c = index % channels;
                 const std::int64_t low = std::max<std::int64_t>(0, c - (size - 1) / 2);
                 const std::int64_t high = std::min(channels - 1, c + size / 2);
                 const float* image = context.in(0).view<float>().data() + (index - c) * plane;
                 float* y = context.out().view<float>().data() + index * plane;
                 for (std::int64_t p = 0; p < plane; ++p) {
                   double sum = 0.0;
                   for (std::int64_t j = low; j <= high; ++j) {
                     const double x = image[j * plane + p];
                     sum += x * x;
                   }
                   const double power = exp_double(-beta * log_double(bias + factor * sum));
                   y[p] = static_cast<float>(static_cast<double>(image[c * plane + p]) * power);
                 }
               });
}

OpDef row(std::string_view name, std::size_t inputs, std::vector<AttributeDef> attributes,
          std::vector<TensorType> (*infer)(const InferContext&), void (*eval)(const EvalContext&)) {
  return op_row(name, 1, {inputs, inputs}, FoldRule::kNever, std::move(attributes), infer, eval);
}

}  // namespace

std::vector<ChannelAffine> channel_affine(const Node& node, const Tensor& scale, const Tensor& bias,
                                          const Tensor& mean, const Tensor& variance) {
  const double epsilon = node.float_or("epsilon", 1e-5F);
  std::vector<ChannelAffine> affine(scale.size());
  for (std::size_t c = 0; c < affine.size(); ++c) {
    const double spread = std::sqrt(static_cast<double>(variance.view<float>()[c]) + epsilon);
    affine[c].scale = static_cast<double>(scale.view<float>()[c]) / spread;
    affine[c].shift = static_cast<double>(bias.view<float>()[c]) -
                      static_cast<double>(mean.view<float>()[c]) * affine[c].scale;
  }
  return affine;
}

std::vector<OpDef> normalisation_ops() {
  return {row("BatchNormalization", 5,
              {{.name = "epsilon", .kind = AttributeKind::kFloat},
               {.name = "momentum", .kind = AttributeKind::kFloat},
               {.name = "training_mode", .kind = AttributeKind::kInt}},
              infer_batch_norm, batch_norm),
          row("LRN", 1,
              {{.name = "alpha", .kind = AttributeKind::kFloat},
               {.name = "beta", .kind = AttributeKind::kFloat},
               {.name = "bias", .kind = AttributeKind::kFloat},
               {.name = "size", .kind = AttributeKind::kInt}},
              infer_lrn, lrn)};
}

}  // namespace slalom::importer

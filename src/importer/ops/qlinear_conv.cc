// SPDX-License-Identifier: Apache-2.0
// QLinearConv (QLinearConv-10): an exact integer convolution, requantised.
#include <algorithm>
#include <cmath>
#include <vector>

#include "importer/ops/conv.h"
#include "importer/ops/gemm.h"
#include "importer/ops/parallel.h"
#include "importer/ops/types.h"

namespace slalom::importer {
namespace {

// The integer sums come from the float product in slices of this depth: 256 products of at most
// 255 * 255 stay below 2^24, where float arithmetic is exact. The slices are added as integers.
constexpr std::int64_t kExactDepth = 256;
static_assert(kExactDepth * 255 * 255 < (1 << 24));

// Positions of the inputs.
enum Input : std::uint8_t { kX, kXScale, kXZero, kW, kWScale, kWZero, kYScale, kYZero, kBias };

std::size_t to_size(std::int64_t value) { return static_cast<std::size_t>(value); }

std::vector<TensorType> infer(const InferContext& context) {
  for (const std::size_t i : {kX, kXZero, kW, kWZero, kYZero}) {
    context.want_dtype(i, {DType::kUint8, DType::kInt8});
  }
  context.want_dtype(kXZero, {context.dtype(kX)});
  context.want_dtype(kWZero, {context.dtype(kW)});
  for (const std::size_t i : {kXScale, kWScale, kYScale}) context.want_float(i);
  const ConvGeometry g = conv_geometry(context.node(), context.shape(kX), context.shape(kW));
  for (const std::size_t i : {kXScale, kXZero, kYScale, kYZero}) {
    if (element_count(context.shape(i)) != 1) fail("a scale or zero point is not a scalar");
  }
  for (const std::size_t i : {kWScale, kWZero}) {
    if (element_count(context.shape(i)) != 1 && context.shape(i) != Shape{g.out_channels()}) {
      fail("the scale or zero point of the weights has the shape " + shape_text(context.shape(i)));
    }
  }
  if (context.has(kBias)) {
    context.want_dtype(kBias, {DType::kInt32});
    if (context.shape(kBias) != Shape{g.out_channels()}) fail("the bias has the wrong shape");
  }
  TensorType type{.dtype = context.dtype(kYZero), .shape = {g.batch, g.out_channels()}};
  const auto spatial = g.window.spatial(g.window.out);
  type.shape.insert(type.shape.end(), spatial.begin(), spatial.end());
  return {type};
}

// centred returns the elements minus their zero point as floats; zero point j belongs to the
// elements of slice j.
std::vector<float> centred(const Tensor& codes, const Tensor& zeros) {
  std::vector<float> values(codes.size());
  with_type(codes.dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    const auto from = codes.view<T>();
    const auto zero = zeros.view<T>();
    const std::size_t slice = std::max<std::size_t>(1, from.size() / zero.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      values[i] = static_cast<float>(static_cast<int>(from[i]) - static_cast<int>(zero[i / slice]));
    }
  });
  return values;
}

// accumulate returns the sums of one group of one image, [group_out, positions].
std::vector<std::int64_t> accumulate(const ConvGeometry& g, const float* image,
                                     const float* weights) {
  const std::int64_t positions = g.window.out_size();
  std::vector<std::int64_t> sums(to_size(g.group_out * positions), 0);
  std::vector<float> part(sums.size());
  const GemmKernel& kernel = best_gemm_kernel();
  for (std::int64_t k0 = 0; k0 < g.depth(); k0 += kExactDepth) {
    const std::int64_t kc = std::min(kExactDepth, g.depth() - k0);
    const PackedA packed(kernel, to_size(g.group_out), to_size(kc),
                         {.data = weights + k0, .row_step = g.depth(), .col_step = 1});
    const FillRow columns = [&](std::size_t k, std::size_t p0, std::size_t count, float* dst) {
      fill_columns(g.window, image, k0 + static_cast<std::int64_t>(k),
                   static_cast<std::int64_t>(p0), static_cast<std::int64_t>(count), dst);
    };
    for (const GemmBlock& block : split_gemm(kernel, to_size(g.group_out), to_size(positions), 1)) {
      gemm_block(packed, columns, block, part.data(), to_size(positions));
    }
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += static_cast<std::int64_t>(part[i]);
  }
  return sums;
}

template <class T>
void requantise(const EvalContext& context, const ConvGeometry& g, std::int64_t image_and_group,
                const std::vector<std::int64_t>& sums) {
  const auto w_scale = context.in(kWScale).view<float>();
  const float x_scale = context.in(kXScale).view<float>()[0];
  const float y_scale = context.in(kYScale).view<float>()[0];
  const std::int64_t zero = context.in(kYZero).view<T>()[0];
  const std::int64_t positions = g.window.out_size();
  T* y = context.out().view<T>().data() + image_and_group * g.group_out * positions;
  for (std::int64_t m = 0; m < g.group_out; ++m) {
    const std::size_t channel = to_size(image_and_group % g.groups * g.group_out + m);
    const std::int64_t bias =
        context.has(kBias) ? context.in(kBias).view<std::int32_t>()[channel] : 0;
    const float scale = x_scale * w_scale[w_scale.size() == 1 ? 0 : channel] / y_scale;
    for (std::int64_t p = 0; p < positions; ++p) {
      const auto sum = static_cast<float>(sums[to_size(m * positions + p)] + bias);
      const float rounded = std::nearbyint(sum * scale);
      y[m * positions + p] = saturate<T>(truncate<std::int32_t>(rounded) + zero);
    }
  }
}

void eval(const EvalContext& context) {
  const ConvGeometry g =
      conv_geometry(context.node(), context.in(kX).shape(), context.in(kW).shape());
  const auto x = centred(context.in(kX), context.in(kXZero));
  const auto w = centred(context.in(kW), context.in(kWZero));
  parallel_for(context.threads(), to_size(g.batch * g.groups), [&](std::size_t i) {
    const auto index = static_cast<std::int64_t>(i);
    const auto sums = accumulate(g, x.data() + index * g.group_in * g.window.in_size(),
                                 w.data() + index % g.groups * g.group_out * g.depth());
    if (context.out().dtype() == DType::kUint8) {
      requantise<std::uint8_t>(context, g, index, sums);
    } else {
      requantise<std::int8_t>(context, g, index, sums);
    }
  });
}

}  // namespace

OpDef qlinear_conv_op() {
  OpDef op = conv_op();
  op.name = "QLinearConv";
  op.min_opset = 10;
  op.min_inputs = 8;
  op.max_inputs = 9;
  op.infer = infer;
  op.eval = eval;
  return op;
}

}  // namespace slalom::importer

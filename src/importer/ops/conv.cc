// SPDX-License-Identifier: Apache-2.0
// Conv (Conv-11) and ConvTranspose (ConvTranspose-11) in float32.
#include "importer/ops/conv.h"

#include <algorithm>
#include <vector>

#include "importer/ops/gemm.h"
#include "importer/ops/parallel.h"

namespace slalom::importer {
namespace {

// With fewer output channels a group than this, a product of matrices would mostly multiply
// zeros: depthwise convolutions are summed directly.
constexpr std::int64_t kFewChannels = 4;

std::size_t to_size(std::int64_t value) { return static_cast<std::size_t>(value); }

TensorType output_type(const ConvGeometry& g, bool transposed) {
  TensorType type{.dtype = DType::kFloat32, .shape = {g.batch, g.out_channels()}};
  const auto spatial = g.window.spatial(transposed ? g.window.in : g.window.out);
  type.shape.insert(type.shape.end(), spatial.begin(), spatial.end());
  return type;
}

void check_operands(const InferContext& context, std::int64_t channels) {
  for (std::size_t i = 0; i < 2; ++i) context.want_float(i);
  if (!context.has(2)) return;
  context.want_float(2);
  if (context.shape(2) != Shape{channels}) {
    fail("the bias has the shape " + shape_text(context.shape(2)) + ", not [" +
         std::to_string(channels) + "]");
  }
}

std::vector<TensorType> infer_conv(const InferContext& context) {
  const ConvGeometry g = conv_geometry(context.node(), context.shape(0), context.shape(1));
  check_operands(context, g.out_channels());
  return {output_type(g, false)};
}

std::vector<TensorType> infer_conv_transpose(const InferContext& context) {
  const ConvGeometry g =
      conv_transpose_geometry(context.node(), context.shape(0), context.shape(1));
  check_operands(context, g.out_channels());
  return {output_type(g, true)};
}

void add_bias(const EvalContext& context, const ConvGeometry& g, std::int64_t plane) {
  if (!context.has(2)) return;
  const auto bias = context.in(2).view<float>();
  float* y = context.out().view<float>().data();
  parallel_for(context.threads(), to_size(g.batch * g.out_channels()), [&](std::size_t i) {
    const float add = bias[i % bias.size()];
    float* at = y + static_cast<std::int64_t>(i) * plane;
    for (std::int64_t p = 0; p < plane; ++p) at[p] += add;
  });
}

// conv_direct sums tap by tap: for each output channel of each image.
void conv_direct(const EvalContext& context, const ConvGeometry& g) {
  const float* x = context.in(0).view<float>().data();
  const float* weights = context.in(1).view<float>().data();
  float* y = context.out().view<float>().data();
  const Window& w = g.window;
  parallel_for(context.threads(), to_size(g.batch * g.out_channels()), [&](std::size_t i) {
    const auto index = static_cast<std::int64_t>(i);
    const std::int64_t channel = index % g.out_channels();
    const std::int64_t first = channel / g.group_out * g.group_in;
    float* to = y + index * w.out_size();
    for (std::int64_t c = 0; c < g.group_in; ++c) {
      const float* from =
          x + (index / g.out_channels() * g.in_channels() + first + c) * w.in_size();
      const float* kernel = weights + (channel * g.group_in + c) * w.taps();
      for_each_tap(w, [&](std::int64_t tap, std::int64_t out, std::int64_t in, std::int64_t n) {
        const float factor = kernel[tap];
        float* __restrict dst = to + out;
        const float* __restrict src = from + in;
        if (w.stride[2] == 1) {
          for (std::int64_t j = 0; j < n; ++j) dst[j] += factor * src[j];
        } else {
          for (std::int64_t j = 0; j < n; ++j) dst[j] += factor * src[j * w.stride[2]];
        }
      });
    }
  });
}

// conv_gemm multiplies the weights of each group with the im2col matrix, which is made row by
// row when it is packed.
void conv_gemm(const EvalContext& context, const ConvGeometry& g) {
  const float* x = context.in(0).view<float>().data();
  const float* weights = context.in(1).view<float>().data();
  float* y = context.out().view<float>().data();
  const Window& w = g.window;
  const std::int64_t depth = g.depth();
  const std::int64_t positions = w.out_size();
  const GemmKernel& kernel = best_gemm_kernel();
  const std::size_t images = to_size(g.batch * g.groups);
  const auto blocks =
      split_gemm(kernel, to_size(g.group_out), to_size(positions),
                 images >= context.threads()
                     ? 1
                     : (context.threads() + images - 1) / std::max<std::size_t>(images, 1));
  std::vector<PackedA> packed;
  for (std::int64_t group = 0; group < g.groups; ++group) {
    packed.emplace_back(
        kernel, to_size(g.group_out), to_size(depth),
        MatrixView{
            .data = weights + group * g.group_out * depth, .row_step = depth, .col_step = 1});
  }
  parallel_for(context.threads(), images * blocks.size(), [&](std::size_t i) {
    const auto image = static_cast<std::int64_t>(i / blocks.size());  // and group
    const float* from = x + image * g.group_in * w.in_size();
    const FillRow columns = [&w, from](std::size_t k, std::size_t p0, std::size_t count,
                                       float* dst) {
      fill_columns(w, from, static_cast<std::int64_t>(k), static_cast<std::int64_t>(p0),
                   static_cast<std::int64_t>(count), dst);
    };
    gemm_block(packed[to_size(image % g.groups)], columns, blocks[i % blocks.size()],
               y + image * g.group_out * positions, to_size(positions));
  });
}

void conv(const EvalContext& context) {
  const ConvGeometry g =
      conv_geometry(context.node(), context.in(0).shape(), context.in(1).shape());
  if (g.group_out < kFewChannels) {
    conv_direct(context, g);
  } else {
    conv_gemm(context, g);
  }
  add_bias(context, g, g.window.out_size());
}

// conv_transpose: for each output channel, the product of its kernel (taps x inputs) with the
// image gives what every input position adds at every tap; the sums follow in order of taps.
void conv_transpose(const EvalContext& context) {
  const ConvGeometry g =
      conv_transpose_geometry(context.node(), context.in(0).shape(), context.in(1).shape());
  const float* x = context.in(0).view<float>().data();
  const float* weights = context.in(1).view<float>().data();
  float* y = context.out().view<float>().data();
  const Window& w = g.window;
  const std::int64_t taps = w.taps();
  const std::int64_t positions = w.out_size();  // of x: the window is the transposed one's
  parallel_for(context.threads(), to_size(g.batch * g.out_channels()), [&](std::size_t i) {
    const auto index = static_cast<std::int64_t>(i);
    const std::int64_t image = index / g.out_channels();
    const std::int64_t group = index % g.out_channels() / g.group_out;
    const std::int64_t channel = index % g.group_out;
    const float* from = x + (image * g.in_channels() + group * g.group_in) * positions;
    const float* kernel = weights + (group * g.group_in * g.group_out + channel) * taps;
    const PackedA packed(best_gemm_kernel(), to_size(taps), to_size(g.group_in),
                         {.data = kernel, .row_step = 1, .col_step = g.group_out * taps});
    std::vector<float> added(to_size(taps * positions));
    gemm(packed, to_size(positions), {.data = from, .row_step = positions, .col_step = 1},
         added.data(), to_size(positions), 1);
    float* to = y + index * w.in_size();
    for_each_tap(w, [&](std::int64_t tap, std::int64_t out, std::int64_t in, std::int64_t n) {
      const float* src = added.data() + tap * positions + out;
      for (std::int64_t j = 0; j < n; ++j) to[in + j * w.stride[2]] += src[j];
    });
  });
  add_bias(context, g, w.in_size());
}

std::vector<AttributeDef> window_attributes() {
  return {{.name = "auto_pad", .kind = AttributeKind::kString},
          {.name = "dilations", .kind = AttributeKind::kInts},
          {.name = "group", .kind = AttributeKind::kInt},
          {.name = "kernel_shape", .kind = AttributeKind::kInts},
          {.name = "pads", .kind = AttributeKind::kInts},
          {.name = "strides", .kind = AttributeKind::kInts}};
}

}  // namespace

OpDef conv_op() {
  return {.name = "Conv",
          .min_opset = 1,
          .max_opset = 21,
          .min_inputs = 2,
          .max_inputs = 3,
          .max_outputs = 1,
          .fold = FoldRule::kNever,
          .attributes = window_attributes(),
          .infer = infer_conv,
          .eval = conv};
}

OpDef conv_transpose_op() {
  OpDef op = conv_op();
  op.name = "ConvTranspose";
  op.attributes.push_back({.name = "output_padding", .kind = AttributeKind::kInts});
  op.attributes.push_back({.name = "output_shape", .kind = AttributeKind::kInts});
  op.infer = infer_conv_transpose;
  op.eval = conv_transpose;
  return op;
}

}  // namespace slalom::importer

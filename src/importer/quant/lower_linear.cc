// SPDX-License-Identifier: Apache-2.0
// Conv, Gemm, MatMul and ConvTranspose with constant weights.
#include <algorithm>
#include <cstddef>
#include <functional>
#include <utility>

#include "importer/ops/op.h"
#include "importer/quant/lower.h"

namespace slalom::importer {
namespace {

// WeightSource says where the plan's weight (output o, term k) is in the file's constant.
struct WeightSource {
  const Tensor* tensor;
  std::size_t outputs, terms;
  std::function<std::size_t(std::size_t o, std::size_t k)> index;

  template <class T, class F>
  [[nodiscard]] std::vector<T> collect(F&& at) const {
    std::vector<T> ordered;
    ordered.reserve(outputs * terms);
    for (std::size_t o = 0; o < outputs; ++o) {
      for (std::size_t k = 0; k < terms; ++k) ordered.push_back(at(index(o, k)));
    }
    return ordered;
  }
};

// fixed_weights are the integers behind constant weights, if the file has them; output_axis is the
// dimension of the constant that runs over the output channels.
std::optional<FixedWeights> fixed_weights(const Lowerer& lowerer, ValueId weights, ValueId bias,
                                          std::size_t output_axis, const WeightSource& source) {
  const auto note = lowerer.notes().constants.find(weights);
  if (note == lowerer.notes().constants.end()) return std::nullopt;
  const ConstantCodes& codes = note->second;
  FixedWeights fixed;
  fixed.scales = codes.scales;
  if (fixed.scales.size() > 1 && codes.axis != output_axis) {
    fail("its weights have scales along another axis than the output channels");
  }
  fixed.weights = source.collect<std::int8_t>([&](std::size_t index) {
    const std::int32_t code = codes.codes[index];
    if (code < -128 || code > 127) {
      fail(
          "a quantised weight minus its zero point is outside -127..127: asymmetric weights are "
          "not supported");
    }
    if (code == -128) ++fixed.saturated;
    return static_cast<std::int8_t>(std::max(code, -127));
  });
  const auto bias_note = lowerer.notes().constants.find(bias);
  if (bias != kNoValue && bias_note != lowerer.notes().constants.end()) {
    fixed.bias = bias_note->second.codes;
    fixed.bias_scales = bias_note->second.scales;
    if (fixed.bias.size() != source.outputs) {
      fail("its bias is not one number for each output channel");
    }
  }
  return fixed;
}

FloatStage stage_of(const model::Conv& conv, const WeightSource& source, std::vector<float> bias) {
  return {.conv = conv,
          .weights =
              [source] {
                const auto values = source.tensor->view<float>();
                return source.collect<float>([&](std::size_t index) { return values[index]; });
              },
          .bias = std::move(bias)};
}

std::vector<float> bias_of(const Lowerer& lowerer, ValueId id, std::size_t outputs, float factor) {
  if (id == kNoValue) return {};
  const Tensor* tensor = lowerer.constant(id);
  if (tensor == nullptr) fail("its bias must be a constant");
  const auto values = tensor->view<float>();
  if (values.size() != outputs && values.size() != 1) {
    fail("its bias is not one number for each output channel");
  }
  std::vector<float> bias(outputs);
  for (std::size_t o = 0; o < outputs; ++o) bias[o] = factor * values[values.size() == 1 ? 0 : o];
  return bias;
}

void lower_conv(Lowerer& lowerer, const Node& node) {
  const Tensor& weights = lowerer.constant_input(node, 1);
  const std::size_t rank = weights.rank();
  if (rank < 3) fail("its weights have the shape " + shape_text(weights.shape()));
  model::Window window = window_of(node, rank - 2);
  const Groups groups = image_groups(rank);
  TensorIndex in = lowerer.in_memory_order(lowerer.place_of(node.input(0)), groups);
  in = split_padding(lowerer, node, in, window);
  const ValueId result = node.outputs.at(0);
  const model::Conv conv{lowerer.tensor_shape(in), Lowerer::shape_of(lowerer.shape(result), groups),
                         window, u32(node.int_or("group", 1), "the number of groups")};
  const std::size_t taps = conv.taps();
  const std::size_t inner = conv.group_in();
  if (weights.size() != conv.weights()) fail("its weights do not fit its input");
  const WeightSource source{
      .tensor = &weights,
      .outputs = conv.out.c,
      .terms = conv.terms(),
      .index = [taps, inner](std::size_t o, std::size_t k) {  // [O][taps][I] from [O][I][taps]
        return (o * inner + k % inner) * taps + k / inner;
      }};
  NetLinear linear;
  linear.fixed = fixed_weights(lowerer, node.input(1), node.input(2), 0, source);
  linear.stages.push_back(
      stage_of(conv, source, bias_of(lowerer, node.input(2), conv.out.c, 1.0F)));
  linear.before_post = result;
  lowerer.append(node, {in}, std::move(linear), conv.out, result, groups);
}

// Matrix describes the constant operand of Gemm or MatMul: element (k, o) is at k * step_k +
// o * step_o.
struct Matrix {
  const Tensor* tensor;
  std::size_t inner, outputs;
  std::size_t step_k, step_o;
};

Matrix matrix_of(const Lowerer& lowerer, const Node& node, bool transposed) {
  const Tensor& weights = lowerer.constant_input(node, 1);
  if (weights.rank() != 2) fail("its weights have the shape " + shape_text(weights.shape()));
  const auto rows = static_cast<std::size_t>(weights.shape()[0]);
  const auto columns = static_cast<std::size_t>(weights.shape()[1]);
  return transposed ? Matrix{&weights, columns, rows, 1, columns}
                    : Matrix{&weights, rows, columns, columns, 1};
}

// lower_matrix makes a 1x1 convolution of a product with a constant matrix over the last
// dimension. If there is a single row, the order of its features in memory does not matter: the
// weights are brought to it, so that Flatten costs nothing.
void lower_matrix(Lowerer& lowerer, const Node& node, const Matrix& matrix, ValueId bias,
                  float alpha, float beta) {
  const Placed placed = lowerer.place_of(node.input(0));
  const std::size_t rank = placed.view.size();
  const Shape& in_shape = lowerer.shape(node.input(0));
  if (rank == 0 || in_shape.back() != static_cast<std::int64_t>(matrix.inner)) {
    fail("its weights do not fit its input");
  }
  Groups groups;
  for (std::size_t dim = 0; dim + 1 < rank; ++dim) groups[1].push_back(dim);
  groups[2] = {rank - 1};
  const bool one_row = element_count(in_shape) == static_cast<std::int64_t>(matrix.inner);
  TensorIndex in = 0;
  std::vector<std::size_t> feature(matrix.inner);  // by position in memory
  for (std::size_t k = 0; k < matrix.inner; ++k) feature[k] = k;
  if (one_row) {
    const std::vector<std::uint32_t> order = memory_order(placed.view);
    for (std::size_t k = 0; k < order.size(); ++k) feature[order[k]] = k;
    const View row = {{{static_cast<std::int64_t>(matrix.inner), 1}}};
    const Groups only_channels = {{{}, {}, {0}}};
    in =
        lowerer.in_memory_order({placed.tensor, matrix.inner == 1 ? View{{}} : row}, only_channels);
  } else {
    in = lowerer.in_memory_order(placed, groups);
  }
  const ValueId result = node.outputs.at(0);
  const model::Shape in_plan = lowerer.tensor_shape(in);
  const model::Conv conv{
      in_plan, {in_plan.h, in_plan.w, u32(std::int64_t(matrix.outputs), "its output")}, {}, 1};
  const WeightSource source{
      .tensor = matrix.tensor,
      .outputs = matrix.outputs,
      .terms = matrix.inner,
      .index = [matrix, feature = std::move(feature)](std::size_t o, std::size_t k) {
        return feature[k] * matrix.step_k + o * matrix.step_o;
      }};
  NetLinear linear;
  linear.fixed = fixed_weights(lowerer, node.input(1), bias, matrix.step_o == 1 ? 1 : 0, source);
  FloatStage stage = stage_of(conv, source, bias_of(lowerer, bias, matrix.outputs, beta));
  if (alpha != 1.0F) {
    if (linear.fixed) fail("a factor alpha with quantised weights is not supported");
    stage.weights = [alpha, inner = std::move(stage.weights)] {
      std::vector<float> values = inner();
      for (float& value : values) value *= alpha;
      return values;
    };
  }
  linear.stages.push_back(std::move(stage));
  linear.before_post = result;
  lowerer.append(node, {in}, std::move(linear), conv.out, result, groups);
}

void lower_gemm(Lowerer& lowerer, const Node& node) {
  if (node.int_or("transA", 0) != 0) fail("a transposed first input is not supported");
  lower_matrix(lowerer, node, matrix_of(lowerer, node, node.int_or("transB", 0) != 0),
               node.input(2), node.float_or("alpha", 1.0F), node.float_or("beta", 1.0F));
}

void lower_matmul(Lowerer& lowerer, const Node& node) {
  if (lowerer.constant(node.input(0)) != nullptr || lowerer.constant(node.input(1)) == nullptr) {
    fail("only products with a constant second matrix are supported");
  }
  lower_matrix(lowerer, node, matrix_of(lowerer, node, false), kNoValue, 1.0F, 1.0F);
}

// A transposed convolution whose windows do not overlap (stride = kernel, no padding, one group) is
// a 1x1 convolution with an output channel for each tap; the taps are put beside each other by the
// view.
void lower_conv_transpose(Lowerer& lowerer, const Node& node) {
  const Tensor& weights = lowerer.constant_input(node, 1);  // [C][O][kh][kw]
  if (weights.rank() != 4) fail("only two spatial dimensions are supported");
  const model::Window window = window_of(node, 2);
  const auto no_padding = node.ints_or("output_padding", {0, 0});
  if (window.stride_h != window.kernel_h || window.stride_w != window.kernel_w ||
      window.dilation_h != 1 || window.dilation_w != 1 ||
      window.pad_top + window.pad_left + window.pad_bottom + window.pad_right != 0 ||
      node.int_or("group", 1) != 1 ||
      std::any_of(no_padding.begin(), no_padding.end(), [](auto n) { return n != 0; })) {
    fail("only windows that neither overlap nor are padded (stride = kernel) are supported");
  }
  if (lowerer.notes().constants.count(node.input(1)) != 0) {
    fail("quantised weights are not supported here");
  }
  const Groups groups = image_groups(4);
  const TensorIndex in = lowerer.in_memory_order(lowerer.place_of(node.input(0)), groups);
  const model::Shape in_shape = lowerer.tensor_shape(in);
  const auto channels = static_cast<std::size_t>(weights.shape()[1]);
  const std::size_t taps = std::size_t{window.kernel_h} * window.kernel_w;
  const model::Conv conv{
      in_shape, {in_shape.h, in_shape.w, u32(std::int64_t(taps * channels), "its output")}, {}, 1};
  const WeightSource source{.tensor = &weights,
                            .outputs = taps * channels,
                            .terms = in_shape.c,
                            .index = [taps, channels](std::size_t o, std::size_t c) {
                              return (c * channels + o % channels) * taps + o / channels;
                            }};
  std::vector<float> bias;
  const std::vector<float> one_tap = bias_of(lowerer, node.input(2), channels, 1.0F);
  for (std::size_t tap = 0; tap < taps && !one_tap.empty(); ++tap) {
    bias.insert(bias.end(), one_tap.begin(), one_tap.end());
  }
  NetLinear linear;
  linear.stages.push_back(stage_of(conv, source, std::move(bias)));
  const TensorIndex out = lowerer.append_unnamed(node, "taps", {in}, std::move(linear), conv.out);
  // Memory is [h][w][kernel_h][kernel_w][channel].
  const auto c = static_cast<std::int64_t>(channels);
  const std::int64_t kw = window.kernel_w;
  const std::int64_t kh = window.kernel_h;
  const std::int64_t row = in_shape.w * kh * kw * c;
  lowerer.place_result(
      node.outputs.at(0), out,
      {{}, {{c, 1}}, {{in_shape.h, row}, {kh, kw * c}}, {{in_shape.w, kh * kw * c}, {kw, c}}});
}

}  // namespace

std::uint32_t u32(std::int64_t value, const char* what) {
  if (value < 0 || value > (std::int64_t{1} << 20)) fail(std::string(what) + " is out of range");
  return static_cast<std::uint32_t>(value);
}

model::Window window_of(const Node& node, std::size_t dims) {
  if (dims != 1 && dims != 2) fail("only one and two spatial dimensions are supported");
  const auto kernel = node.ints_or("kernel_shape", {});
  const auto strides = node.ints_or("strides", std::vector<std::int64_t>(dims, 1));
  const auto dilations = node.ints_or("dilations", std::vector<std::int64_t>(dims, 1));
  const auto pads = node.ints_or("pads", std::vector<std::int64_t>(2 * dims, 0));
  if (kernel.size() != dims || strides.size() != dims || dilations.size() != dims ||
      pads.size() != 2 * dims) {
    fail("its kernel, strides, dilations and pads do not fit together");
  }
  const std::size_t w = dims - 1;
  model::Window window;
  window.kernel_w = u32(kernel[w], "the kernel");
  window.stride_w = u32(strides[w], "a stride");
  window.dilation_w = u32(dilations[w], "a dilation");
  window.pad_left = u32(pads[w], "a padding");
  window.pad_right = u32(pads[dims + w], "a padding");
  if (dims == 2) {
    window.kernel_h = u32(kernel[0], "the kernel");
    window.stride_h = u32(strides[0], "a stride");
    window.dilation_h = u32(dilations[0], "a dilation");
    window.pad_top = u32(pads[0], "a padding");
    window.pad_bottom = u32(pads[2], "a padding");
  }
  return window;
}

TensorIndex split_padding(Lowerer& lowerer, const Node& node, TensorIndex in,
                          model::Window& window) {
  const std::uint32_t reach_h = (window.kernel_h - 1) * window.dilation_h;
  const std::uint32_t reach_w = (window.kernel_w - 1) * window.dilation_w;
  if (std::max(window.pad_top, window.pad_bottom) <= reach_h &&
      std::max(window.pad_left, window.pad_right) <= reach_w) {
    return in;
  }
  NetPad pad{.before = {window.pad_top, window.pad_left, 0},
             .after = {window.pad_bottom, window.pad_right, 0},
             .value = 0.0};
  model::Shape shape = lowerer.tensor_shape(in);
  shape.h += window.pad_top + window.pad_bottom;
  shape.w += window.pad_left + window.pad_right;
  window.pad_top = window.pad_bottom = window.pad_left = window.pad_right = 0;
  return lowerer.append_unnamed(node, "padded", {in}, pad, shape);
}

bool lower_linear(Lowerer& lowerer, const Node& node) {
  if (node.op == "Conv") {
    lower_conv(lowerer, node);
  } else if (node.op == "Gemm") {
    lower_gemm(lowerer, node);
  } else if (node.op == "MatMul") {
    lower_matmul(lowerer, node);
  } else if (node.op == "ConvTranspose") {
    lower_conv_transpose(lowerer, node);
  } else {
    return false;
  }
  return true;
}

}  // namespace slalom::importer

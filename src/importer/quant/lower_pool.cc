// SPDX-License-Identifier: Apache-2.0
// Pooling, means, softmax and local response normalisation.
#include <algorithm>
#include <cstddef>
#include <utility>

#include "importer/ops/op.h"
#include "importer/quant/lower.h"

namespace slalom::importer {
namespace {

// widen_for_ceil makes the padding behind an axis large enough for `out` windows (ceil_mode).
void widen_for_ceil(std::uint32_t in, std::uint32_t out, std::uint32_t kernel, std::uint32_t stride,
                    std::uint32_t dilation, std::uint32_t before, std::uint32_t& after) {
  const std::uint64_t needed =
      std::uint64_t{out - 1} * stride + std::uint64_t{kernel - 1} * dilation + 1;
  const std::uint64_t present = std::uint64_t{in} + before + after;
  if (needed > present) after += static_cast<std::uint32_t>(needed - present);
}
void widen_for_ceil(const model::Shape& in, const model::Shape& out, model::Window& w) {
  widen_for_ceil(in.h, out.h, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, w.pad_bottom);
  widen_for_ceil(in.w, out.w, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, w.pad_right);
}

void lower_window_pool(Lowerer& lowerer, const Node& node) {
  const bool average = node.op == "AveragePool";
  if (node.outputs.size() > 1 && node.outputs[1] != kNoValue) {
    fail("the indices of a MaxPool are not supported");
  }
  const ValueId result = node.outputs.at(0);
  const std::size_t rank = lowerer.shape(result).size();
  if (rank != 3 && rank != 4) fail("only one and two spatial dimensions are supported");
  model::Window window = window_of(node, rank - 2);
  const Groups groups = image_groups(rank);
  TensorIndex in = lowerer.in_memory_order(lowerer.place_of(node.input(0)), groups);
  const model::Shape out = Lowerer::shape_of(lowerer.shape(result), groups);
  if (!average) {
    widen_for_ceil(lowerer.tensor_shape(in), out, window);
    lowerer.append(node, {in}, NetMaxPool{window}, out, result, groups);
    return;
  }
  const bool padded = window.pad_top + window.pad_left + window.pad_bottom + window.pad_right != 0;
  const bool count_padding = padded && node.int_or("count_include_pad", 0) != 0;
  model::Window widened = window;
  widen_for_ceil(lowerer.tensor_shape(in), out, widened);
  if (count_padding && widened != window) {
    // The file's padding counts, what rounding up the size adds does not: pad first, then pool.
    NetPad pad{.before = {window.pad_top, window.pad_left, 0},
               .after = {window.pad_bottom, window.pad_right, 0},
               .value = 0.0};
    model::Shape shape = lowerer.tensor_shape(in);
    shape.h += window.pad_top + window.pad_bottom;
    shape.w += window.pad_left + window.pad_right;
    in = lowerer.append_unnamed(node, "padded", {in}, pad, shape);
    widened.pad_top = widened.pad_left = 0;
    widened.pad_bottom -= window.pad_bottom;
    widened.pad_right -= window.pad_right;
  }
  const bool counts = count_padding && widened == window;
  lowerer.append(node, {in}, NetAveragePool{.window = widened, .count_padding = counts, .post = {}},
                 out, result, groups);
}

// reduce_over pools a value over some of its dimensions, all of them at once.
void reduce_over(Lowerer& lowerer, const Node& node, const std::vector<bool>& reduced,
                 bool average) {
  const Placed placed = lowerer.place_of(node.input(0));
  const std::size_t rank = placed.view.size();
  Groups groups;
  const auto fits = [&](const Groups& g) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      for (const std::size_t dim : g[axis]) {
        if (dim_size(placed.view[dim]) > 1 && reduced[dim] != (axis < 2)) return false;
      }
    }
    return true;
  };
  const auto present = groups_of(placed.view, lowerer.tensor_shape(placed.tensor));
  if (present && fits(*present)) {
    groups = *present;
  } else {
    for (std::size_t dim = 0; dim < rank; ++dim) groups[reduced[dim] ? 1 : 2].push_back(dim);
  }
  const TensorIndex in = lowerer.in_memory_order(placed, groups);
  const model::Shape shape = lowerer.tensor_shape(in);
  model::Window window;
  window.kernel_h = shape.h;
  window.kernel_w = shape.w;
  const model::Shape out{1, 1, shape.c};
  NetOp op = NetMaxPool{window};
  if (average) op = NetAveragePool{.window = window, .count_padding = false, .post = {}};
  const TensorIndex tensor = lowerer.append_unnamed(node, "pooled", {in}, std::move(op), out);
  // The kept dimensions, in the order of memory, are all that is left.
  Shape kept = view_shape(placed.view);
  for (std::size_t dim = 0; dim < rank; ++dim) {
    if (reduced[dim]) kept[dim] = 1;
  }
  Groups channels;
  channels[2] = groups[2];
  View view = contiguous_view(kept, channels);
  const Shape& result = lowerer.shape(node.outputs.at(0));
  if (result.size() != rank) {
    // Reduced dimensions are gone.
    View without;
    for (std::size_t dim = 0; dim < rank; ++dim) {
      if (!reduced[dim]) without.push_back(view[dim]);
    }
    view = std::move(without);
  }
  lowerer.place_result(node.outputs.at(0), tensor, std::move(view));
}

void lower_reduce_mean(Lowerer& lowerer, const Node& node) {
  const std::size_t rank = lowerer.shape(node.input(0)).size();
  std::vector<std::int64_t> axes = node.ints_or("axes", {});
  if (axes.empty() && node.input(1) != kNoValue) axes = lowerer.ints_input(node, 1);
  std::vector<bool> reduced(rank, axes.empty());
  if (axes.empty() && node.int_or("noop_with_empty_axes", 0) != 0) {
    return lowerer.alias(node, node.outputs.at(0), lowerer.place_of(node.input(0)));
  }
  for (std::int64_t axis : axes) {
    if (axis < 0) axis += static_cast<std::int64_t>(rank);
    if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) fail("an axis is out of range");
    reduced[static_cast<std::size_t>(axis)] = true;
  }
  reduce_over(lowerer, node, reduced, true);
}

void lower_global_pool(Lowerer& lowerer, const Node& node) {
  const std::size_t rank = lowerer.shape(node.input(0)).size();
  std::vector<bool> reduced(rank, true);
  reduced[0] = false;
  if (rank > 1) reduced[1] = false;
  reduce_over(lowerer, node, reduced, node.op == "GlobalAveragePool");
}

void lower_softmax(Lowerer& lowerer, const Node& node) {
  const Placed placed = lowerer.place_of(node.input(0));
  const std::size_t rank = placed.view.size();
  std::int64_t axis = node.int_or("axis", node.opset >= 13 ? -1 : 1);
  if (axis < 0) axis += static_cast<std::int64_t>(rank);
  const auto first = static_cast<std::size_t>(axis);
  Groups groups;
  for (std::size_t dim = 0; dim < rank; ++dim) {
    // Before opset 13 the function runs over all dimensions from the axis on.
    const bool over = node.opset >= 13 ? dim == first : dim >= first;
    groups[over ? 2 : 1].push_back(dim);
  }
  const TensorIndex in = lowerer.in_memory_order(placed, groups);
  lowerer.append(node, {in}, NetSoftmax{}, lowerer.tensor_shape(in), node.outputs.at(0), groups);
}

void lower_lrn(Lowerer& lowerer, const Node& node) {
  const std::size_t rank = lowerer.shape(node.input(0)).size();
  if (rank != 4) fail("only images are supported");
  const Groups groups = image_groups(rank);
  const TensorIndex in = lowerer.in_memory_order(lowerer.place_of(node.input(0)), groups);
  NetLrn lrn;
  const std::int64_t size = node.int_or("size", 1);
  if (size < 1 || size > 16'383 || size % 2 == 0) fail("its size is not odd and below 16384");
  lrn.size = static_cast<std::uint32_t>(size);
  lrn.alpha = node.float_or("alpha", 0.0001F);
  lrn.beta = node.float_or("beta", 0.75F);
  lrn.bias = node.float_or("bias", 1.0F);
  if (lrn.beta != 0.5F && lrn.beta != 0.75F && lrn.beta != 1.0F) {
    fail("its exponent beta is not 0.5, 0.75 or 1");
  }
  if (!(lrn.bias > 0.0F) || !(lrn.alpha >= 0.0F)) fail("its bias or alpha is not positive");
  lowerer.append(node, {in}, lrn, lowerer.tensor_shape(in), node.outputs.at(0), groups);
}

}  // namespace

bool lower_pool(Lowerer& lowerer, const Node& node) {
  if (node.op == "MaxPool" || node.op == "AveragePool") {
    lower_window_pool(lowerer, node);
  } else if (node.op == "GlobalAveragePool" || node.op == "GlobalMaxPool") {
    lower_global_pool(lowerer, node);
  } else if (node.op == "ReduceMean") {
    lower_reduce_mean(lowerer, node);
  } else if (node.op == "Softmax") {
    lower_softmax(lowerer, node);
  } else if (node.op == "LRN") {
    lower_lrn(lowerer, node);
  } else {
    return false;
  }
  return true;
}

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
// fold turns the graph of a file into the graph that the quantiser works on: all types and shapes
// known, all shape arithmetic done, fewer kinds of node.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "importer/error.h"
#include "importer/graph.h"

namespace slalom::importer {

struct FoldOptions {
  // Shapes of inputs (by name) whose file leaves dimensions open besides the batch. The first
  // dimension given here is not used when the batch is lifted.
  std::map<std::string, Shape> input_shapes;
  // True: the first dimension of every graph input becomes the batch (see Value::batch_axis),
  // also where the file fixes it at 1. False: shapes are taken as declared, batch_axis stays -1.
  bool lift_batch = true;
  // Bytes that the evaluation of constants may produce in total; bounds its time as well.
  std::int64_t max_folded_bytes = std::int64_t{4} << 30;
};

// fold returns an equivalent graph in which
// - every value has its type, its shape and its batch axis;
// - nodes with constant inputs only are evaluated, except QuantizeLinear and DequantizeLinear
//   (quantised weights stay as they are) and the linear layers;
// - Identity, Dropout and nodes whose result nobody reads are gone;
// - x * sigmoid(x) is "Swish", x * HardSigmoid(x, 1/6, 1/2) and x * clip(x + 3, 0, 6) / 6 are
//   "HardSwish";
// - a / b is a * Reciprocal(b) unless b is constant or a is a single constant number;
// - BatchNormalization, and multiplication or addition of a constant per channel, is folded into
//   the Conv, ConvTranspose, Gemm or constant MatMul before it if nothing else reads that result;
//   any other BatchNormalization is a depthwise 1x1 Conv (rank 3 and up) or Mul and Add;
// - MatMul of a rank 2 value with a constant matrix is Gemm (transB = 0);
// - convolutions and pools have the attributes kernel_shape, strides, dilations and pads (and
//   group), and no auto_pad, output_shape or ceil_mode; only an AveragePool with
//   count_include_pad whose last window reaches beyond the padding keeps ceil_mode;
// - a zero Pad of spatial dimensions is merged into the Conv or AveragePool that alone reads it,
//   where the result is the same bit for bit;
// - the target of Reshape is a constant with 0 or -1 for what depends on the batch.
// Float results may differ from the original's by rounding where weights were rescaled.
// Errors name the node; a network whose batch cannot be lifted, or that mixes the images of a
// batch, is refused.
ImportResult<Graph> fold(Graph graph, const FoldOptions& options = {});

}  // namespace slalom::importer

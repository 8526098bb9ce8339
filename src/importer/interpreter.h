// SPDX-License-Identifier: Apache-2.0
// A float32 reference interpreter: it calibrates the quantiser, gives the float answers that
// integer ones are compared with, and runs the ONNX node tests.
//
// Results are the same bits on every x86-64 CPU and for every number of threads: all sums run in
// one stated order, nothing is contracted into fused multiply-adds, and vector width only decides
// how many outputs are computed side by side. exp, tanh and log come from libm and are the same
// for the same C library. So one network and one set of samples give one plan.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "importer/error.h"
#include "importer/graph.h"

namespace slalom::importer {

// Observer is called with every value as soon as it is known: first the graph inputs, then the
// outputs of each node in the order of Graph::nodes; constants are not shown. The tensor is valid
// during the call only. Calls come from the thread that called run().
using Observer = std::function<void(ValueId id, const Tensor& tensor)>;

struct RunOptions {
  unsigned threads = 0;  // 0: as many as the machine has
  Observer observer;
  // A single tensor larger than this is refused.
  std::int64_t max_tensor_bytes = std::int64_t{16} << 30;
};

// run evaluates the graph, folded or as read. `inputs` are given in the order of Graph::inputs;
// type and rank must fit, and so must every dimension that the graph knows; the batch dimension
// may have any size >= 1. Returns the tensors of Graph::outputs, in order. A tensor is freed
// after its last use, so memory is bounded by what is alive at one time.
// Thread safe: the graph is only read.
ImportResult<std::vector<Tensor>> run(const Graph& graph, std::span<const Tensor> inputs,
                                      const RunOptions& options = {});

}  // namespace slalom::importer

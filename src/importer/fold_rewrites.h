// SPDX-License-Identifier: Apache-2.0
// The rewrites of fold(), each a pass over a graph whose values all have types. They keep what the
// network computes; types of values that they add are filled in by the caller afterwards. All
// throw Failure.
#pragma once

#include "importer/graph.h"

namespace slalom::importer {

// remove_no_ops drops nodes that return their input, and turns Sum into Add. A node stays if it
// is all that stands between an input or constant and an output of the network.
void remove_no_ops(Graph& graph);

// recognise_activations finds Swish, HardSwish and HardSigmoid in the nodes they are exported as.
void recognise_activations(Graph& graph);

// divisions_to_products makes a * (1 / b) of a / b where b is not constant, and a no single number.
void divisions_to_products(Graph& graph);

// fold_affine makes Gemm of MatMul with a constant matrix, and folds what scales or shifts channels
// into the linear layer before it; see fold.h.
void fold_affine(Graph& graph);

// resolve_windows makes the attributes of convolutions and pools explicit (auto_pad, ceil_mode
// and the defaults disappear).
void resolve_windows(Graph& graph);

// merge_pads moves zero padding into the convolution or average pool that reads it.
// REQUIRES: resolve_windows.
void merge_pads(Graph& graph);

}  // namespace slalom::importer

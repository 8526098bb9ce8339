// SPDX-License-Identifier: Apache-2.0
// Types, shapes and constants of a whole graph.
//
// How shapes that depend on the batch are found: the graph is walked for two batch sizes, with all
// shape arithmetic done in plain numbers, and the two results are compared. A dimension that is
// the same in both does not depend on the batch; one that is k times the batch in both is a batch
// dimension; anything else is refused. So no symbolic arithmetic is needed, and whatever an
// exporter computes from the batch is understood if only the shapes come out proportional.
#pragma once

#include <cstdint>

#include "importer/graph.h"

namespace slalom::importer {

// FoldBudget is what may still be spent on constants; see FoldOptions::max_folded_bytes.
struct FoldBudget {
  std::int64_t bytes_left = 0;
};

// fold_constants replaces by initialisers what can be computed from constants and fixed shapes,
// for a graph whose input shapes are all known (batch_axis -1), and sets the types of all values.
// Throws Failure.
void fold_constants(Graph& graph, FoldBudget& budget);

// fold_constants_batched does the same for a graph whose inputs have batch_axis 0: every value
// gets its shape at batch 1 and its batch axis, targets of Reshape become constants with 0 or -1
// for what depends on the batch, those of Expand constants with 1 there, and Squeeze without axes
// becomes Reshape. Fails where something else depends on the size of the batch.
//
// Where the file fixes the batch, `declared_batch` is its size, else 0. A fixed batch appears in
// the targets of Reshape too: a target that begins with it, for a tensor that begins with it,
// keeps the batch.
void fold_constants_batched(Graph& graph, std::int64_t declared_batch, FoldBudget& budget);

// check_images_apart fails if a node makes something of several images of a batch, as a reduction
// over the batch does. REQUIRES: fold_constants_batched.
void check_images_apart(const Graph& graph);

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "importer/ops/op.h"

namespace slalom::importer {

// PadAmount is what Pad adds at both ends of a dimension; negative amounts crop.
struct PadAmount {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// pad_amounts reads the inputs of a Pad node: one entry for each dimension.
std::vector<PadAmount> pad_amounts(const InferContext& context);

// copies_inside: the mode is reflect, edge or wrap, so every output is an element of the input.
bool copies_inside(const Node& node);

// pad_sources lists for each output index along a dimension of length `dim` the input index that it
// copies, in such a mode.
std::vector<std::int64_t> pad_sources(const Node& node, std::int64_t dim, PadAmount amount);

OpDef pad_op();

}  // namespace slalom::importer

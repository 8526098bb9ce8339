// SPDX-License-Identifier: Apache-2.0
// Axes as ONNX writes them: counted from the end where negative, given by an attribute in older
// operator sets and by an input in newer ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "importer/ops/op.h"

namespace slalom::importer {

// normalise_axis maps [-rank, rank) to [0, rank); fails outside.
std::size_t normalise_axis(std::int64_t axis, std::size_t rank);

// normalise_axes does so for a list, sorts it, and fails if an axis appears twice.
std::vector<std::size_t> normalise_axes(const std::vector<std::int64_t>& axes, std::size_t rank);

// axes_operand returns the attribute "axes" before `input_since`, from then on input `i` (an
// attribute in a newer operator set or an input in an older one is refused); nullopt if neither
// is given.
std::optional<std::vector<std::int64_t>> axes_operand(const InferContext& context, std::size_t i,
                                                      std::int64_t input_since);

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "importer/graph.h"

namespace slalom::importer {

// value_of_shape computes a Shape or Size node from its input's shape alone; nullopt for any
// other operator.
std::optional<Tensor> value_of_shape(const Node& node, const Shape& shape);

}  // namespace slalom::importer

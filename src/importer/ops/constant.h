// SPDX-License-Identifier: Apache-2.0
#ifndef SLALOM_SRC_IMPORTER_OPS_CONSTANT_H_
#define SLALOM_SRC_IMPORTER_OPS_CONSTANT_H_

#include <optional>

#include "importer/graph.h"

namespace slalom::importer {

// value_of_shape computes a Shape or Size node from its input's shape alone; nullopt for any
// other operator.
std::optional<Tensor> value_of_shape(const Node& node, const Shape& shape);

}  // namespace slalom::importer

#endif  // SLALOM_SRC_IMPORTER_OPS_CONSTANT_H_

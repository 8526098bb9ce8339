// SPDX-License-Identifier: Apache-2.0
// emit turns a Net with scales into a plan.
#pragma once

#include <map>
#include <vector>

#include "importer/quant/calibrate.h"
#include "importer/quant/net.h"
#include "importer/quant/ranges.h"
#include "importer/quant/weights.h"
#include "importer/quantise.h"
#include "importer/report.h"
#include "model/plan.h"

namespace slalom::importer {

struct Emitted {
  model::Plan plan;  // valid
  Report report;     // all but the comparison with the float network
  // By plan tensor: the tensor of the Net.
  std::vector<TensorIndex> source;
};

// split_unprovable takes a separable pair apart again if its range does not fit p31 even with two
// bits less: the depthwise half becomes a layer of its own, without a field. Returns how many were
// taken apart; quantisations then have to be chosen again.
std::size_t split_unprovable(Net& net, const Quants& quants);

// emit quantises all layers, chooses fields, and builds and validates the plan. Throws Failure,
// naming the node.
Emitted emit(const Net& net, const Quants& quants, const Statistics& statistics,
             const QuantiseOptions& options);

}  // namespace slalom::importer

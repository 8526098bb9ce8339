// SPDX-License-Identifier: Apache-2.0
// ranges gives every tensor of a Net its scale and zero point.
#pragma once

#include <map>
#include <vector>

#include "importer/quant/calibrate.h"
#include "importer/quant/net.h"
#include "importer/quantise.h"

namespace slalom::importer {

struct Quants {
  std::vector<Quant> tensors;                 // by TensorIndex
  std::vector<bool> integers;                 // by TensorIndex: an i32 tensor of scores
  std::map<std::size_t, Quant> before_table;  // by node: of the codes that go into its table
};

// quant_of is the u8 quantisation of a range; 0 is represented exactly. An empty range gives
// scale 1.
Quant quant_of(const RealRange& range);

// Sharing says which tensors have one quantisation: those that a node only moves codes between, and
// the operands of a Concat that nobody else reads. It is by TensorIndex the index of the group.
std::vector<TensorIndex> shared_groups(const Net& net);

// wanted_values are the graph values whose distribution choose_quants needs, and wanted_means those
// Linear inputs whose channel means correct a bias.
std::vector<ValueId> wanted_values(const Net& net);

// choose_quants decides all quantisations. Throws Failure if a value that needs a range has no
// histogram, naming the node that makes it.
Quants choose_quants(const Net& net, const Statistics& statistics, const QuantiseOptions& options);

}  // namespace slalom::importer

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "importer/graph_maker.h"

// The networks of quantise_ops_test.cc, one for each way to use an operator that a plan can
// express.

namespace slalom::importer::testing {

struct QuantiseCase {
  const char* name;
  ValueId (*build)(GraphMaker& g);  // returns the network's output
  // Of the quantised network against the float one. The quantised input alone has about 41 dB
  // (deviation 1, 8 sigma in 256 steps).
  double least_snr_db;
};

std::span<const QuantiseCase> arithmetic_cases();  // products, sums, activations, normalisations
std::span<const QuantiseCase> shape_cases();       // pools, means, and what moves values about

inline constexpr std::int64_t kOne = 1;
using Ints = std::vector<std::int64_t>;

inline ValueId image(GraphMaker& g) { return g.input({1, 6, 9, 7}); }

}  // namespace slalom::importer::testing

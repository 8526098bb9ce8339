// SPDX-License-Identifier: Apache-2.0
// Networks that were quantised before they were imported (QuantizeLinear and DequantizeLinear
// around float operators, or QLinearConv) become float networks with notes: which values have which
// scale and zero point, and which constants came from which integers.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "importer/graph.h"
#include "importer/quant/net.h"

namespace slalom::importer {

// ConstantCodes are the integers behind a float constant: real = scale * code, the zero point
// already taken off.
struct ConstantCodes {
  std::vector<std::int32_t> codes;  // in the constant's order
  std::vector<float> scales;        // one, or one for each index along `axis`
  std::size_t axis = 0;
};

struct Annotations {
  std::map<ValueId, Quant> quants;  // of u8 codes, also where the file has s8
  std::map<ValueId, ConstantCodes> constants;
  [[nodiscard]] bool empty() const noexcept { return quants.empty() && constants.empty(); }
};

struct Annotated {
  Graph graph;  // without QuantizeLinear, DequantizeLinear and QLinearConv
  Annotations notes;
};

// annotate takes the quantisation out of a folded graph; a graph without any comes back as it is.
// A value that is quantised a second time, in another way, keeps an Identity node there.
// Throws Failure: asymmetric weights, scales that are not constant, types other than 8 bit.
Annotated annotate(Graph graph);

}  // namespace slalom::importer

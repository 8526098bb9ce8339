// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/net.h"

#include <algorithm>

namespace slalom::importer {

Unary then(const Unary& first, const Unary& second) {
  if (first.identity()) return second;
  if (second.identity()) return first;
  if (first.clamp && second.clamp) {
    return {.clamp = true,
            .lo = second(first.lo),  // both are monotone: the image's ends are the ends' images
            .hi = second(first.hi),
            .f = nullptr};
  }
  return {.clamp = false, .f = [first, second](double x) { return second(first(x)); }};
}

std::vector<std::size_t> Net::readers() const {
  std::vector<std::size_t> count(tensors.size(), 0);
  for (const NetNode& node : nodes) {
    for (const TensorIndex id : node.inputs) ++count[id];
  }
  for (const NetOutput& output : outputs) ++count[output.tensor];
  return count;
}

std::vector<std::size_t> Net::producers() const {
  std::vector<std::size_t> by(tensors.size(), kNoNode);
  for (std::size_t i = 0; i < nodes.size(); ++i) by[nodes[i].output] = i;
  return by;
}

bool keeps_codes(const NetOp& op) noexcept {
  return std::holds_alternative<NetMaxPool>(op) || std::holds_alternative<NetPad>(op) ||
         std::holds_alternative<NetSlice>(op) || std::holds_alternative<NetTranspose>(op) ||
         std::holds_alternative<NetReshape>(op);
}

}  // namespace slalom::importer

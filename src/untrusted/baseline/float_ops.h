// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "model/plan.h"

namespace slalom::baseline {

// OpContext is what a step is made from: the node, its tensors' descriptions and where their real
// values lie (batch images, channels last). All of it must outlive the step.
struct OpContext {
  const model::Plan& plan;
  const model::Node& node;
  std::span<float* const> inputs;
  float* output = nullptr;
  std::size_t batch = 1;

  [[nodiscard]] const model::TensorInfo& in(std::size_t i) const {
    return plan.tensors[node.inputs[i]];
  }
  [[nodiscard]] const model::TensorInfo& out() const { return plan.tensors[node.output]; }
};

// Range is the real values that a node's clamp allows.
struct Range {
  float low;
  float high;
};
// range_of turns a clamp of codes into real values of a tensor.
[[nodiscard]] Range range_of(const model::TensorInfo& out, std::int32_t zero_point, std::int32_t lo,
                             std::int32_t hi);

// make_op returns the step of a node that is not Linear (and not Constant, whose values are written
// once). Loops run on OpenMP's threads.
[[nodiscard]] std::function<void()> make_op(const OpContext& context);

// interpolate replaces n values v (in codes before the table) by scale * (t(v) - zero_point), where
// t is linear between the table's entries.
void interpolate(std::span<const std::uint8_t> table, float scale, float zero_point, float* values,
                 std::size_t n);

}  // namespace slalom::baseline

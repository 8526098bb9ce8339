// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/plan.h"

namespace slalom::baseline {

// FloatNetwork computes a plan's network in binary32, the way it would run with no protection at
// all: every tensor holds real values, weights and biases are the plan's integers times their
// scales, nothing is rounded in between. Activations keep the plan's clamps; a table of codes
// becomes the straight lines between its entries; softmax and LRN use their real formulas.
// Convolutions and dense layers are oneDNN's own primitives, channels last, one for a whole layer,
// with weights in the layout that oneDNN prefers and the clamp fused. It is what speeds are
// compared with; it protects nothing and is no part of the trusted process.
//
// All memory is taken when it is made. One call at a time. Not for plans whose decoding failed.
class FloatNetwork {
 public:
  // Throws dnnl::error or std::bad_alloc. threads: of OpenMP, for this network's runs. The plan
  // must outlive the network.
  FloatNetwork(const model::Plan& plan, std::size_t batch, std::size_t threads);
  ~FloatNetwork();
  FloatNetwork(const FloatNetwork&) = delete;
  FloatNetwork& operator=(const FloatNetwork&) = delete;

  [[nodiscard]] std::size_t batch() const noexcept { return batch_; }

  // run computes `batch` images. codes: each image's inputs, concatenated as the plan lists them.
  void run(std::span<const std::uint8_t> codes);

  // values are the real values of a tensor that is an output of the plan: batch images, channels
  // last.
  [[nodiscard]] std::span<const float> values(model::TensorId tensor) const;

 private:
  struct Memory;
  void place_tensors();
  void add_step(const model::Node& node);

  const model::Plan& plan_;
  std::size_t batch_;
  std::size_t threads_;
  std::unique_ptr<Memory> memory_;
  std::vector<std::function<void()>> steps_;
};

}  // namespace slalom::baseline

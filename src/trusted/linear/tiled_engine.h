// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "field/kernels.h"
#include "linear/core.h"
#include "linear/engine.h"

namespace slalom::linear {

// Rounding is a layer's requantisation of sums that include the bias. The layer must outlive it.
class Rounding {
 public:
  explicit Rounding(const model::Linear& layer);
  // from is the epilogue of channels channel, channel + 1, ...
  [[nodiscard]] field::Epilogue from(std::size_t channel) const noexcept;

 private:
  const model::Requant& rule_;
  std::vector<float> multiplier_;  // one for each channel, padded as field::Epilogue wants
};

// make_tiled_engine computes a layer tile by tile with one core for each stage: the tile's input is
// written out (with padding, as bytes, int16 or limbs), the core makes raw sums, and the sums
// become the caller's outputs while they are still in the cache.
[[nodiscard]] std::unique_ptr<Engine> make_tiled_engine(const model::Linear& layer,
                                                        const EngineOptions& options,
                                                        std::string_view name,
                                                        const Kernels& kernels,
                                                        std::vector<std::unique_ptr<Core>> cores);

}  // namespace slalom::linear

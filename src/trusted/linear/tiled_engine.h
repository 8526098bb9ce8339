// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "linear/core.h"
#include "linear/engine.h"

namespace slalom::linear {

// make_tiled_engine computes a layer tile by tile with one core for each stage: the tile's input is
// written out (with padding, as bytes, int16 or limbs), the core makes raw sums, and the sums
// become the caller's outputs while they are still in the cache.
[[nodiscard]] std::unique_ptr<Engine> make_tiled_engine(const model::Linear& layer,
                                                        const EngineOptions& options,
                                                        const Kernels& kernels,
                                                        std::vector<std::unique_ptr<Core>> cores);

}  // namespace slalom::linear

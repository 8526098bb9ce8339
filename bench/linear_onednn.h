// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "linear_shapes.h"

namespace slalom::bench {

// OneDnnNetwork runs a network's linear layers as oneDNN's own benchmark would: one primitive for a
// whole layer, channels last, weights in the format that oneDNN prefers, its own threads (OpenMP),
// no conversion between layers. int8 is u8 x s8 -> u8 with a fused scale, or -> s32.
class OneDnnNetwork {
 public:
  enum class Kind { kU8, kS32, kF32 };

  OneDnnNetwork(const std::vector<LayerShape>& shapes, Kind kind, std::size_t threads,
                std::size_t batch);
  ~OneDnnNetwork();
  OneDnnNetwork(const OneDnnNetwork&) = delete;
  OneDnnNetwork& operator=(const OneDnnNetwork&) = delete;
  void run();

 private:
  struct Layer;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::size_t threads_;
};

}  // namespace slalom::bench

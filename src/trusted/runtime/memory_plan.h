// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace slalom::runtime {

// Lifetime is a block of memory that is needed from step `first` to step `last`, both included.
struct Lifetime {
  std::size_t bytes = 0;
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

// MemoryPlan gives each block an offset; blocks that live at the same time do not overlap.
struct MemoryPlan {
  std::vector<std::size_t> offsets;
  std::size_t bytes = 0;  // of the whole
};

inline constexpr std::size_t kMemoryAlignment = 64;

// plan_memory places the largest blocks first, each in the lowest gap that is wide enough. Offsets
// are multiples of kMemoryAlignment; blocks of no bytes get offset 0.
[[nodiscard]] MemoryPlan plan_memory(std::span<const Lifetime> blocks);

}  // namespace slalom::runtime

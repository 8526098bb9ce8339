// SPDX-License-Identifier: Apache-2.0
#include "runtime/memory_plan.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/round_up.h"

namespace slalom::runtime {
namespace {

bool meet(const Lifetime& a, const Lifetime& b) noexcept {
  return a.first <= b.last && b.first <= a.last;
}

}  // namespace

MemoryPlan plan_memory(std::span<const Lifetime> blocks) {
  std::vector<std::size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater{}, [&](auto block) { return blocks[block].bytes; });
  MemoryPlan plan;
  plan.offsets.assign(blocks.size(), 0);
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t i : order) {
    const std::size_t wanted = base::round_up(blocks[i].bytes, kMemoryAlignment);
    if (wanted == 0) continue;
    std::size_t at = 0;
    for (const std::size_t other : placed) {
      if (!meet(blocks[i], blocks[other])) continue;
      if (plan.offsets[other] >= at + wanted) break;
      at =
          std::max(at, plan.offsets[other] + base::round_up(blocks[other].bytes, kMemoryAlignment));
    }
    plan.offsets[i] = at;
    plan.bytes = std::max(plan.bytes, at + wanted);
    const auto where =
        std::ranges::upper_bound(placed, at, {}, [&](auto other) { return plan.offsets[other]; });
    placed.insert(where, i);
  }
  return plan;
}

}  // namespace slalom::runtime

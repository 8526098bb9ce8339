// SPDX-License-Identifier: Apache-2.0
#include "runtime/memory_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace slalom::runtime {
namespace {

TEST(MemoryPlan, BlocksThatMeetInTimeDoNotMeetInMemory) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> blocks(random() % 40);
    std::size_t sum = 0;
    for (Lifetime& b : blocks) {
      b.bytes = random() % 5000;
      b.first = static_cast<std::uint32_t>(random() % 30);
      b.last = b.first + static_cast<std::uint32_t>(random() % 6);
      sum += b.bytes + kMemoryAlignment;
    }
    const MemoryPlan plan = plan_memory(blocks);
    EXPECT_LE(plan.bytes, sum);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_EQ(plan.offsets[i] % kMemoryAlignment, 0U);
      EXPECT_LE(plan.offsets[i] + blocks[i].bytes, plan.bytes);
      for (std::size_t j = 0; j < i; ++j) {
        const bool in_time = blocks[i].first <= blocks[j].last && blocks[j].first <= blocks[i].last;
        const bool in_memory = plan.offsets[i] < plan.offsets[j] + blocks[j].bytes &&
                               plan.offsets[j] < plan.offsets[i] + blocks[i].bytes;
        EXPECT_FALSE(in_time && in_memory);
      }
    }
  }
}

TEST(MemoryPlan, AChainNeedsTwoBlocks) {
  std::vector<Lifetime> blocks;
  for (std::uint32_t i = 0; i < 50; ++i) blocks.push_back({1024, i, i + 1});
  EXPECT_EQ(plan_memory(blocks).bytes, 2048U);
}

}  // namespace
}  // namespace slalom::runtime

// SPDX-License-Identifier: Apache-2.0
#include "channel/slots.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "channel/layout.h"

namespace slalom::channel {
namespace {

TEST(Slots, FirstFitReusesTheLowestGap) {
  SlotAllocator slots(1024, 16);
  EXPECT_EQ(slots.allocate(100), 0U);
  EXPECT_EQ(slots.allocate(64), 128U);
  EXPECT_EQ(slots.allocate(1), 192U);
  slots.release(128);
  EXPECT_EQ(slots.allocate(65), 256U);  // the gap of 64 is too narrow
  EXPECT_EQ(slots.allocate(64), 128U);
}

TEST(Slots, FullOrAbsurdSizesGiveNothing) {
  SlotAllocator slots(256, 16);
  EXPECT_FALSE(slots.allocate(0));
  EXPECT_FALSE(slots.allocate(257));
  EXPECT_FALSE(slots.allocate(SIZE_MAX));
  EXPECT_EQ(slots.allocate(256), 0U);
  EXPECT_FALSE(slots.allocate(1));
  slots.release(0);
  EXPECT_EQ(slots.allocate(1), 0U);
}

TEST(Slots, RetiredRangesAreNeverHandedOutAgain) {
  SlotAllocator slots(256, 16);
  EXPECT_EQ(slots.allocate(64), 0U);
  EXPECT_EQ(slots.allocate(64), 64U);
  slots.retire(70);  // anywhere inside
  slots.release(64);
  slots.release(0);
  EXPECT_EQ(slots.allocate(64), 0U);
  EXPECT_EQ(slots.allocate(64), 128U);
  EXPECT_EQ(slots.allocate(64), 192U);
  EXPECT_FALSE(slots.allocate(64));
}

TEST(Slots, ContainsIsExact) {
  SlotAllocator slots(1024, 16);
  ASSERT_EQ(slots.allocate(128), 0U);
  ASSERT_EQ(slots.allocate(128), 128U);
  EXPECT_TRUE(slots.contains(0, 128));
  EXPECT_TRUE(slots.contains(10, 118));
  EXPECT_FALSE(slots.contains(10, 119));  // two neighbours are not one slot
  EXPECT_FALSE(slots.contains(256, 1));
  EXPECT_FALSE(slots.contains(0, UINT64_MAX));
  EXPECT_FALSE(slots.contains(UINT64_MAX, 1));
  slots.retire(0);
  EXPECT_FALSE(slots.contains(0, 1));
  EXPECT_TRUE(slots.contains(128, 128));
}

TEST(Slots, UnknownRangesAreIgnored) {
  SlotAllocator slots(256, 16);
  ASSERT_EQ(slots.allocate(128), 0U);
  slots.release(64);  // inside, not the start
  slots.release(192);
  slots.retire(192);
  EXPECT_FALSE(slots.allocate(192));
  EXPECT_EQ(slots.allocate(128), 128U);
}

// A model: ranges in use never overlap, are aligned and inside; retired ones stay out of use.
TEST(Slots, RandomUseNeverOverlaps) {
  constexpr std::size_t kArea = 1 << 16;
  std::mt19937 random(7);
  SlotAllocator slots(kArea, 256);
  std::map<std::uint64_t, std::uint64_t> used;  // offset, bytes; retired ones stay for ever
  std::vector<std::uint64_t> mine;
  for (int step = 0; step < 20'000; ++step) {
    const auto dice = random() % 100;
    if (dice < 50 || mine.empty()) {
      const std::size_t bytes = 1 + random() % 3000;
      const auto at = slots.allocate(bytes);
      if (!at) continue;
      ASSERT_EQ(*at % kSlotAlignment, 0U);
      ASSERT_LE(*at + bytes, kArea);
      const auto after = used.lower_bound(*at);
      if (after != used.end()) {
        ASSERT_LE(*at + bytes, after->first);
      }
      if (after != used.begin()) {
        const auto before = std::prev(after);
        ASSERT_LE(before->first + before->second, *at);
      }
      used[*at] = bytes;
      mine.push_back(*at);
    } else {
      const std::size_t which = random() % mine.size();
      const auto offset = mine[which];
      mine.erase(mine.begin() + static_cast<std::ptrdiff_t>(which));
      if (step % 1000 == 0) {
        slots.retire(offset);
        slots.release(offset);
      } else {
        slots.release(offset);
        used.erase(offset);
      }
    }
  }
}

}  // namespace
}  // namespace slalom::channel

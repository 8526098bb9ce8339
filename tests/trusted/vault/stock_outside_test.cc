// SPDX-License-Identifier: Apache-2.0
// What StockedPads believes of the store outside: nothing.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "stock_fixture.h"

namespace slalom::vault {
namespace {

TEST_F(StockedPadsTest, AStoreThatIsCutIsUnavailable) {
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  const auto ticket = pads->take();
  ASSERT_TRUE(ticket.ok());
  outside_.bytes.resize(4096);
  std::vector<std::uint32_t> out;
  EXPECT_EQ(factors(*pads, *ticket, nodes_[0], out).error().code, Errc::kUnavailable);
}

TEST_F(StockedPadsTest, WhatCouldNotBeWrittenIsNoStock) {
  const Epoch epoch = draw();
  const auto pads = open(epoch);
  outside_.takes = false;
  EXPECT_EQ(pads->prepare(2, nullptr, nullptr).error().code, Errc::kUnavailable);
  EXPECT_EQ(pads->stock(), 0U);
  outside_.takes = true;
  EXPECT_EQ(*pads->prepare(2, nullptr, nullptr), 2U);
  EXPECT_TRUE(usable(*pads, *pads->take()));
}

TEST_F(StockedPadsTest, AStoreThatCannotBeEmptiedIsRefused) {
  const Epoch first = draw();
  ASSERT_TRUE(open(first)->prepare(1, nullptr, nullptr).ok());
  outside_.clears = false;
  const Epoch second = draw();
  const auto made = StockedPads::create(plan_, digest_, nodes_, second, numbers_,
                                        std::make_unique<SharedStore>(outside_), {.cpu = cpu_});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, Errc::kUnavailable);
}

TEST_F(StockedPadsTest, MoreThanAnyDiskHoldsIsRefusedAtOnce) {
  const Epoch epoch = draw();
  const auto pads = open(epoch);
  ASSERT_TRUE(pads->prepare(1, nullptr, nullptr).ok());
  const auto once = [](void*, std::uint64_t, std::uint64_t) { return false; };
  for (const std::uint64_t count : {UINT64_MAX, UINT64_MAX - 1, std::uint64_t{1} << 51}) {
    EXPECT_FALSE(pads->prepare(count, once, nullptr).ok()) << count;
  }
  EXPECT_EQ(pads->stock(), 1U);
}

TEST_F(StockedPadsTest, AnOlderCopyOfTheStoreIsRejected) {
  const Epoch epoch = draw();
  const auto pads = open(epoch);
  ASSERT_TRUE(pads->prepare(1, nullptr, nullptr).ok());
  const auto old = outside_.bytes;
  const auto first = pads->take();
  ASSERT_TRUE(usable(*pads, *first));
  pads->destroy(*first);
  ASSERT_TRUE(pads->prepare(1, nullptr, nullptr).ok());  // the same place, another number
  const auto second = pads->take();
  ASSERT_EQ(outside_.bytes.size(), old.size()) << "sealed elsewhere";
  outside_.bytes = old;
  EXPECT_FALSE(usable(*pads, *second));
}

TEST_F(StockedPadsTest, SwappedImagesAreRejected) {
  const Epoch epoch = draw();
  const auto pads = open(epoch);
  ASSERT_TRUE(pads->prepare(2, nullptr, nullptr).ok());
  const auto size = static_cast<std::ptrdiff_t>(pads->bytes_per_image());
  std::swap_ranges(outside_.bytes.begin() + 4096, outside_.bytes.begin() + 4096 + size,
                   outside_.bytes.begin() + 4096 + size);
  const auto first = pads->take();
  EXPECT_FALSE(usable(*pads, *first));
}

TEST_F(StockedPadsTest, AnyChangedByteIsRejected) {
  const Epoch epoch = draw();
  const auto pads = open(epoch);
  ASSERT_TRUE(pads->prepare(1, nullptr, nullptr).ok());
  const auto ticket = pads->take();
  for (std::size_t i = 4096; i < outside_.bytes.size(); i += 97) {
    outside_.bytes[i] ^= std::byte{1};
    EXPECT_FALSE(usable(*pads, *ticket)) << i;
    outside_.bytes[i] ^= std::byte{1};
  }
  EXPECT_TRUE(usable(*pads, *ticket));
}

TEST_F(StockedPadsTest, StockOfAnotherEpochIsRemoved) {
  const Epoch first = draw();
  ASSERT_TRUE(open(first)->prepare(2, nullptr, nullptr).ok());
  const auto left = outside_.bytes;
  const Epoch second = draw();
  const auto pads = open(second);
  EXPECT_TRUE(pads->dead_stock());
  EXPECT_EQ(pads->stock(), 0U);
  EXPECT_EQ(outside_.bytes.size(), 4096U);
  // Brought back behind our back, it opens for no number of this epoch.
  ASSERT_TRUE(pads->prepare(2, nullptr, nullptr).ok());
  outside_.bytes = left;
  EXPECT_FALSE(usable(*pads, *pads->take()));
}

TEST_F(StockedPadsTest, AStoreThatIsTooSmallIsRefusedBeforeAnyWork) {
  const Epoch epoch = draw();
  const auto pads = open(epoch);
  outside_.most = 4096 + 3 * pads->bytes_per_image();
  const auto made = pads->prepare(4, nullptr, nullptr);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, Errc::kUnavailable);
  EXPECT_EQ(pads->stock(), 0U);
  EXPECT_EQ(*pads->prepare(3, nullptr, nullptr), 3U);
}

}  // namespace
}  // namespace slalom::vault

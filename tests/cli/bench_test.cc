// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "cli/bench_measure.h"

namespace slalom::cli {
namespace {

TEST(Bench, MedianOfOddAndEvenCounts) {
  const Spread odd = spread_of({5, 1, 3});
  EXPECT_EQ(odd.median, 3);
  EXPECT_EQ(odd.min, 1);
  EXPECT_EQ(odd.max, 5);
  EXPECT_EQ(spread_of({4, 1, 2, 9}).median, 3);
  EXPECT_EQ(spread_of({7}).median, 7);
}

TEST(Bench, PercentilesAreNearestRanks) {
  BenchLatency late;
  for (int i = 1; i <= 200; ++i) late.ms.push_back(i);
  EXPECT_EQ(late.percentile(50), 100);
  EXPECT_EQ(late.percentile(99), 198);
  EXPECT_EQ(late.percentile(100), 200);
  late.ms.resize(50);
  EXPECT_EQ(late.percentile(99), 50);
  late.ms = {3};
  EXPECT_EQ(late.percentile(50), 3);
  EXPECT_EQ(late.percentile(0), 3);
}

}  // namespace
}  // namespace slalom::cli

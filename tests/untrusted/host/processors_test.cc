// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/processors.h"

#include <gtest/gtest.h>

namespace slalom::host {
namespace {

std::size_t processors() {
  cpu_set_t set{};
  EXPECT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  return static_cast<std::size_t>(CPU_COUNT(&set));
}

TEST(Processors, WithoutDevicesAllAreBoundToTheTrustedProcess) {
  const Shares shares = share_processors(0, 0, {"none"});
  EXPECT_EQ(shares.trusted_threads, processors());
  EXPECT_TRUE(shares.bind_trusted);
  EXPECT_FALSE(shares.workers.has_value());
}

TEST(Processors, AGpuWorkerGetsOneForItself) {
  if (processors() < 2) GTEST_SKIP() << "needs two processors";
  const Shares shares = share_processors(0, 0, {"cuda:0"});
  EXPECT_EQ(shares.trusted_threads, processors() - 1);
  EXPECT_TRUE(shares.bind_trusted);
  ASSERT_TRUE(shares.workers.has_value());
  EXPECT_EQ(CPU_COUNT(&*shares.workers), 1);
}

TEST(Processors, CpuWorkersShareAndNobodyIsBound) {
  const Shares shares = share_processors(0, 0, {"cpu"});
  EXPECT_EQ(shares.trusted_threads, processors());
  EXPECT_FALSE(shares.bind_trusted);
  EXPECT_FALSE(shares.workers.has_value());
}

TEST(Processors, CpuWorkersWithFewThreadsStandBeside) {
  if (processors() < 2) GTEST_SKIP() << "needs two processors";
  const Shares shares = share_processors(1, 1, {"cpu"});
  EXPECT_EQ(shares.trusted_threads, 1U);
  EXPECT_TRUE(shares.bind_trusted);
  ASSERT_TRUE(shares.workers.has_value());
  EXPECT_EQ(static_cast<std::size_t>(CPU_COUNT(&*shares.workers)), processors() - 1);
}

TEST(Processors, MoreThreadsThanProcessorsAreNotBound) {
  EXPECT_FALSE(share_processors(processors() + 1, 0, {"cuda:0"}).bind_trusted);
}

TEST(Processors, TheCallerIsFreeAgainAfterwards) {
  cpu_set_t before{};
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  cpu_set_t one{};
  for (int cpu = CPU_SETSIZE; cpu-- > 0;) {
    if (CPU_COUNT(&one) == 0 && CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  }
  cpu_set_t now{};
  {
    const OnProcessors restricted(one);
    ASSERT_EQ(sched_getaffinity(0, sizeof(now), &now), 0);
    EXPECT_TRUE(CPU_EQUAL(&now, &one));
  }
  ASSERT_EQ(sched_getaffinity(0, sizeof(now), &now), 0);
  EXPECT_TRUE(CPU_EQUAL(&now, &before));
}

}  // namespace
}  // namespace slalom::host

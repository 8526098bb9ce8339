// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace slalom::base {
namespace {

TEST(ThreadPool, RunsEachIterationOnce) {
  for (const std::size_t threads : {1U, 2U, 5U}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    for (std::size_t count = 0; count < 300; ++count) {
      std::vector<int> seen(count, 0);  // plain ints: a second visit or a lost write would show
      pool.parallel_for(count, [&](std::size_t i, std::size_t worker) {
        ASSERT_LT(worker, threads);
        seen[i] += 1;
      });
      ASSERT_TRUE(std::ranges::all_of(seen, [](int n) { return n == 1; })) << count;
    }
  }
}

TEST(ThreadPool, ThreadsShareTheWorkAndWakeUpAfterSleeping) {
  ThreadPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than the threads spin
    // Each iteration waits for the other, so both threads must take one.
    std::atomic<int> arrived{0};
    std::vector<std::size_t> worker_of(2);
    pool.parallel_for(2, [&](std::size_t i, std::size_t worker) {
      worker_of[i] = worker;
      arrived.fetch_add(1);
      while (arrived.load() < 2) std::this_thread::yield();
    });
    EXPECT_NE(worker_of[0], worker_of[1]);
  }
}

TEST(ThreadPool, BoundThreadsRunOnProcessorsOfTheirOwn) {
  cpu_set_t before{};
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  const auto threads = static_cast<std::size_t>(CPU_COUNT(&before));
  ThreadPool pool(threads, true);
  std::vector<cpu_set_t> seen(threads);
  {
    const ThreadPool::Bound bound(pool);
    std::atomic<std::size_t> arrived{0};
    pool.parallel_for(threads, [&](std::size_t, std::size_t worker) {
      ASSERT_EQ(sched_getaffinity(0, sizeof(cpu_set_t), &seen[worker]), 0);
      arrived.fetch_add(1);
      while (arrived.load() < threads) std::this_thread::yield();
    });
  }
  cpu_set_t all{};
  for (const cpu_set_t& set : seen) {
    EXPECT_EQ(CPU_COUNT(&set), 1);
    CPU_OR(&all, &all, &set);
  }
  EXPECT_TRUE(CPU_EQUAL(&all, &before)) << "two threads share a processor";
  cpu_set_t after{};
  ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&after, &before)) << "the caller is free again";
}

TEST(ThreadPool, ThreadsAreNotBoundUnlessAsked) {
  cpu_set_t before{};
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  ThreadPool pool(2);
  const ThreadPool::Bound bound(pool);
  cpu_set_t now{};
  ASSERT_EQ(sched_getaffinity(0, sizeof(now), &now), 0);
  EXPECT_TRUE(CPU_EQUAL(&now, &before));
}

TEST(ThreadPool, EveryThreadRoundsToNearestEven) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(0x7f80);  // the creator rounds towards zero
  std::vector<unsigned> csr(2);
  {
    ThreadPool pool(2);
    std::atomic<int> arrived{0};
    pool.parallel_for(2, [&](std::size_t, std::size_t worker) {
      csr[worker] = _mm_getcsr() & 0xffc0U;
      arrived.fetch_add(1);
      while (arrived.load() < 2) std::this_thread::yield();
    });
  }
  _mm_setcsr(before);
  EXPECT_EQ(csr[1], 0x1f80U);
}

TEST(ThreadPool, GivesEachWorkerItsOwnAlignedScratch) {
  ThreadPool pool(3);
  EXPECT_EQ(pool.scratch(0).size(), 0U);
  pool.reserve_scratch(1000);
  pool.reserve_scratch(10);
  for (std::size_t i = 0; i < pool.size(); ++i) {
    ASSERT_GE(pool.scratch(i).size(), 1000U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pool.scratch(i).data()) % 64, 0U);
    std::ranges::fill(pool.scratch(i), static_cast<std::byte>(i));
  }
  for (std::size_t i = 0; i < pool.size(); ++i) {
    EXPECT_TRUE(std::ranges::all_of(pool.scratch(i),
                                    [&](std::byte b) { return b == static_cast<std::byte>(i); }));
  }
}

}  // namespace
}  // namespace slalom::base

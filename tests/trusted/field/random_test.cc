// SPDX-License-Identifier: Apache-2.0
#include "field/random.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "base/arena.h"
#include "support/memory_scan.h"
#include "support/sanitizers.h"
#include "trusted/field/support.h"

namespace {

enum class Kernel { kReal, kZeros, kBroken };
Kernel kernel = Kernel::kReal;  // what getentropy does

}  // namespace

// In the place of the C library's.
extern "C" int getentropy(void* out, std::size_t bytes) {
  if (kernel == Kernel::kBroken) {
    errno = ENOSYS;
    return -1;
  }
  if (kernel == Kernel::kZeros) {
    std::memset(out, 0, bytes);
    return 0;
  }
  return syscall(SYS_getrandom, out, bytes, 0) == static_cast<long>(bytes) ? 0 : -1;
}

namespace slalom::field {
namespace {

using Bytes = std::array<std::byte, 64>;

// first_bytes is what a new generator gives first.
Bytes first_bytes(const base::CpuFeatures& cpu, Kernel how) {
  kernel = how;
  auto random = make_system_random(cpu);
  kernel = Kernel::kReal;
  Bytes out{};
  EXPECT_TRUE(random.ok());
  if (random.ok()) (*random)->fill(out);
  return out;
}

TEST(RandomTest, EachSourceAloneMakesGeneratorsDiffer) {
  const base::CpuFeatures none;
  EXPECT_NE(first_bytes(none, Kernel::kReal), first_bytes(none, Kernel::kReal));
  EXPECT_EQ(first_bytes(none, Kernel::kZeros), first_bytes(none, Kernel::kZeros));
  const base::CpuFeatures cpu = base::detect_cpu();
  if (!cpu.rdseed) GTEST_SKIP() << "this processor has no RDSEED";
  EXPECT_NE(first_bytes(cpu, Kernel::kZeros), first_bytes(cpu, Kernel::kZeros));
}

TEST(RandomTest, WithoutTheKernelsBytesThereIsNoGenerator) {
  kernel = Kernel::kBroken;
  const auto random = make_system_random(base::detect_cpu());
  kernel = Kernel::kReal;
  ASSERT_FALSE(random.ok());
  EXPECT_EQ(random.error().code, Errc::kUnavailable);
}

TEST(RandomTest, NoCopyOfGivenBytesStays) {
  if (testing::kAddressSanitizer || testing::kThreadSanitizer) {
    GTEST_SKIP() << "sanitizers keep memory of their own";
  }
  auto random = make_system_random(base::detect_cpu());
  ASSERT_TRUE(random.ok());
  Bytes out{};
  (*random)->fill(out);
  const testing::Trace trace(out);
  EXPECT_GE(trace.count(), 1U);  // ours
  base::wipe(out.data(), out.size());
  EXPECT_EQ(trace.count(), 0U);
}

TEST(RandomTest, SystemBytesAreFreshAndBalanced) {
  auto first = make_system_random(base::detect_cpu());
  auto second = make_system_random(base::CpuFeatures{});
  ASSERT_TRUE(first.ok() && second.ok());
  std::vector<std::byte> a(100'000);
  std::vector<std::byte> b(100'000);
  (*first)->fill(a);
  (*second)->fill(b);
  EXPECT_NE(a, b);
  // No 16-byte block twice, over many refills of the generator.
  std::set<std::vector<std::byte>> blocks;
  for (const auto* bytes : {&a, &b}) {
    for (std::size_t i = 0; i + 16 <= bytes->size(); i += 16) {
      blocks.insert(
          {bytes->begin() + static_cast<long>(i), bytes->begin() + static_cast<long>(i) + 16});
    }
  }
  EXPECT_EQ(blocks.size(), 2 * (a.size() / 16));
  int ones = 0;
  for (const std::byte byte : a) ones += __builtin_popcount(std::to_integer<unsigned>(byte));
  EXPECT_NEAR(ones, 400'000, 5 * 447);
}

TEST(RandomTest, PiecesOfAnySizeAreAllFilled) {
  auto random = make_system_random(base::detect_cpu());
  ASSERT_TRUE(random.ok());
  for (const std::size_t n : {1U, 31U, 4063U, 4064U, 4065U, 20'000U}) {
    std::vector<std::byte> out(n + 1, std::byte{0x77});
    // A byte that no fill ever changes from 0 would stay 0.
    std::vector<bool> changed(n, false);
    for (int round = 0; round < 8; ++round) {
      std::fill(out.begin(), out.end() - 1, std::byte{0});
      (*random)->fill(std::span(out).first(n));
      for (std::size_t i = 0; i < n; ++i) changed[i] = changed[i] || out[i] != std::byte{0};
    }
    EXPECT_EQ(std::count(changed.begin(), changed.end(), false), 0) << n;
    EXPECT_EQ(out[n], std::byte{0x77});
  }
}

TEST(RandomTest, DrawBelowIsUniformInItsRange) {
  test::SeededRandom random(1);
  for (const std::uint32_t range : {1U, 2U, 3U, 5U, 17U, 255U, 256U, 257U}) {
    std::vector<std::uint32_t> out(200'000);
    draw_below(random, range, out);
    std::vector<double> counts(range, 0);
    for (const std::uint32_t v : out) {
      ASSERT_LT(v, range);
      ++counts[v];
    }
    const double want = static_cast<double>(out.size()) / range;
    double chi = 0;
    for (const double c : counts) chi += (c - want) * (c - want) / want;
    EXPECT_LE(chi, range - 1 + 5 * std::sqrt(2.0 * range)) << range;
  }
}

TEST(RandomTest, DrawBelowReachesBothEndsOfTheChallengeRange) {
  test::SeededRandom random(2);
  std::vector<std::uint32_t> out(1 << 20);
  draw_below(random, kChallengeRange, out);
  const auto [lo, hi] = std::minmax_element(out.begin(), out.end());
  EXPECT_LT(*lo, 200U);
  EXPECT_GT(*hi, kChallengeRange - 200);
  EXPECT_LT(*hi, kChallengeRange);
  draw_below(random, 1U << 31, out);
  EXPECT_GT(*std::max_element(out.begin(), out.end()), (1U << 31) - (1U << 14));
}

}  // namespace
}  // namespace slalom::field

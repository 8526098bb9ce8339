// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "base/secret.h"
#include "support/sanitizers.h"

namespace {

// What munmap is to look at before it gives the memory back, and what it saw there.
const std::byte* watched = nullptr;
std::size_t watched_bytes = 0;
std::size_t not_zero = 0;

}  // namespace

// In the place of the C library's.
extern "C" int munmap(void* memory, std::size_t bytes) noexcept {
  const auto* const first = static_cast<const std::byte*>(memory);
  if (watched != nullptr && watched >= first && watched < first + bytes) {
    for (std::size_t i = 0; i < watched_bytes; ++i)
      not_zero += watched[i] != std::byte{0} ? 1U : 0U;
    watched = nullptr;
  }
  return static_cast<int>(syscall(SYS_munmap, memory, bytes));
}

namespace slalom::base {
namespace {

template <class T>
concept Comparable = requires(const T& a, const T& b) {
  a == b;
};
template <class T>
concept Testable = requires(const T& a) {
  static_cast<bool>(a);
};
static_assert(!Comparable<Secret<int>> && !Testable<Secret<int>>);
static_assert(!std::is_copy_constructible_v<Secret<int>>);
static_assert(std::is_nothrow_move_constructible_v<Secret<int>>);

TEST(ArenaTest, PiecesAreZeroedAlignedAndApart) {
  auto arena =
      SecretArena::create(3 * SecretArena::bytes_for<std::uint32_t>(5), Lock::kWhereAllowed);
  ASSERT_TRUE(arena.ok());
  std::vector<std::span<std::uint32_t>> pieces;
  for (int i = 0; i < 3; ++i) {
    pieces.push_back(arena->take<std::uint32_t>(5));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pieces.back().data()) % 64, 0U);
    for (auto& v : pieces.back()) {
      EXPECT_EQ(v, 0U);
      v = 0xdead'beef;
    }
  }
  EXPECT_NE(pieces[0].data(), pieces[1].data());
}

TEST(ArenaTest, NothingIsLeftInTheMemoryThatIsGivenBack) {
  for (const std::size_t bytes : {100U, 4096U, 10'000U}) {
    {
      auto arena = SecretArena::create(bytes, Lock::kWhereAllowed);
      ASSERT_TRUE(arena.ok());
      const std::span<std::byte> piece = arena->take<std::byte>(bytes);
      std::fill(piece.begin(), piece.end(), std::byte{0x5a});
      watched = piece.data();
      watched_bytes = piece.size();
      not_zero = 0;
    }
    EXPECT_EQ(watched, nullptr) << "it was not given back";
    EXPECT_EQ(not_zero, 0U);
  }
}

TEST(ArenaTest, TakingTooMuchEndsTheProcess) {
  auto arena = SecretArena::create(4096, Lock::kWhereAllowed);
  ASSERT_TRUE(arena.ok());
  EXPECT_DEATH((void)arena->take<std::byte>(4097), "");
  EXPECT_DEATH((void)arena->take<std::uint64_t>(SIZE_MAX / 4), "");
}

TEST(ArenaTest, GuardPagesStandAtBothEnds) {
  auto arena = SecretArena::create(4096, Lock::kWhereAllowed);
  ASSERT_TRUE(arena.ok());
  volatile std::byte* const at = arena->take<std::byte>(4096).data();
  EXPECT_DEATH(at[-1] = std::byte{1}, "");
  EXPECT_DEATH(at[4096] = std::byte{1}, "");
}

// flags reads the VmFlags line of the mapping that holds `at`.
std::string flags(const void* at) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  bool here = false;
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  while (std::getline(maps, line)) {
    char* end = nullptr;
    const std::uintptr_t from = std::strtoull(line.c_str(), &end, 16);
    if (*end == '-') here = from <= address && address < std::strtoull(end + 1, &end, 16);
    if (here && line.starts_with("VmFlags:")) return line;
  }
  return "";
}

TEST(ArenaTest, KeptOutOfDumpsAndForks) {
  auto arena = SecretArena::create(8192, Lock::kRequired);
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ(arena->locked_bytes(), 8192U);
  const std::span<std::byte> piece = arena->take<std::byte>(100);
  const std::string line = flags(piece.data());
  EXPECT_NE(line.find(" dd"), std::string::npos) << line;  // do not dump
  EXPECT_NE(line.find(" dc"), std::string::npos) << line;  // do not copy on fork
  if (!testing::kAddressSanitizer) {
    EXPECT_NE(line.find(" lo"), std::string::npos) << line;  // locked
  }
  const pid_t child = fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    *const_cast<volatile std::byte*>(piece.data()) = std::byte{1};  // not there: dies
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

// With RLIMIT_MEMLOCK 0 and no privilege, keys must not start and bulk secrets say so.
TEST(ArenaTest, KeysMustLockBulkMayNot) {
  if (testing::kAddressSanitizer) GTEST_SKIP() << "the address sanitizer makes mlock do nothing";
  const pid_t child = fork();
  if (child == 0) {
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0) _exit(10);
    if (geteuid() == 0 && setuid(65534) != 0) _exit(11);
    auto bulk = SecretArena::create(4096, Lock::kWhereAllowed);
    if (!bulk.ok() || bulk->locked_bytes() != 0) _exit(12);
    if (SecretArena::create(4096, Lock::kRequired).ok()) _exit(13);
    if (Secret<int>::create().ok()) _exit(14);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ArenaTest, MovesOwnOnce) {
  auto first = SecretArena::create(4096, Lock::kWhereAllowed);
  ASSERT_TRUE(first.ok());
  (void)first->take<int>(1);
  SecretArena second = std::move(*first);
  EXPECT_EQ(second.size(), 4096U);
  SecretArena third;
  third = std::move(second);
  EXPECT_EQ(third.size(), 4096U);
  EXPECT_EQ(third.take<std::byte>(4096 - 64).size(), 4096U - 64);
}

TEST(ArenaTest, NothingAskedNothingMapped) {
  auto arena = SecretArena::create(0, Lock::kRequired);
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ(arena->size(), 0U);
  EXPECT_TRUE(arena->take<int>(0).empty());
  EXPECT_FALSE(SecretArena::create(SIZE_MAX - 10, Lock::kWhereAllowed).ok());
}

TEST(SecretTest, HoldsAndReveals) {
  auto secret = Secret<std::array<std::byte, 32>>::create();
  ASSERT_TRUE(secret.ok());
  std::memset(secret->bytes().data(), 7, 32);
  Secret<std::array<std::byte, 32>> moved = std::move(*secret);
  EXPECT_EQ(moved.reveal()[31], std::byte{7});
  EXPECT_EQ(moved.declassify()[0], std::byte{7});
}

TEST(SecretTest, WipedOverwritesItsMemory) {
  alignas(Wiped<std::uint64_t>) unsigned char memory[sizeof(Wiped<std::uint64_t>)];
  auto* const value = new (memory) Wiped<std::uint64_t>;
  value->reveal() = 0x1234'5678'9abc'def0;
  // The compiler must take the value to be looked at here, and the memory to be looked at later.
  __asm__ volatile("" : : "r"(memory) : "memory");
  value->~Wiped();
  __asm__ volatile("" : : "r"(memory) : "memory");
  std::uint64_t left = 1;
  std::memcpy(&left, memory, sizeof(left));
  EXPECT_EQ(left, 0U);
}

}  // namespace
}  // namespace slalom::base

// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

namespace slalom::host {
namespace {

TEST(Child, SaysHowItEnded) {
  auto good = Child::spawn("/bin/sh", {"-c", "exit 3"}, {});
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good->how_it_ended(), "ended with status 3");
  EXPECT_EQ(good->how_it_ended(), "ended with status 3");
  auto sleeper = Child::spawn("/bin/sleep", {"1000"}, {});
  ASSERT_TRUE(sleeper.ok());
  EXPECT_EQ(sleeper->how_it_ended(), "still runs");
  kill(sleeper->pid(), SIGTERM);
  EXPECT_EQ(sleeper->how_it_ended(), "was killed by signal 15");
}

TEST(Child, TheDestructorEndsIt) {
  pid_t pid = -1;
  {
    auto sleeper = Child::spawn("/bin/sleep", {"1000"}, {});
    ASSERT_TRUE(sleeper.ok());
    Child moved = std::move(*sleeper);
    pid = moved.pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_NE(kill(pid, 0), 0);
}

TEST(Child, ReportsAProgramThatIsNotThere) {
  const auto none = Child::spawn("/nonexistent/program", {}, {});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.failure().code, Errc::kUnavailable);
  EXPECT_NE(none.failure().message.find("/nonexistent/program"), std::string::npos);
}

TEST(Child, ProgramsLieBesideThisOne) {
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe");
  EXPECT_EQ(program_beside("slalom-trusted"), own.parent_path() / "slalom-trusted");
}

TEST(Process, MemoryIsWhatTheKernelCounts) {
  constexpr std::size_t kBytes = 64 << 20;
  const auto before = memory_of(getpid());
  ASSERT_TRUE(before);
  EXPECT_GE(before->peak_bytes, before->bytes);
  {
    std::vector<char> more(kBytes, 1);
    const auto with = memory_of(getpid());
    ASSERT_TRUE(with);
    EXPECT_GE(with->bytes, before->bytes + kBytes / 2) << int{more[kBytes / 3]};
    EXPECT_GE(with->data_bytes, before->data_bytes + kBytes / 2);
    EXPECT_LT(with->data_bytes, with->bytes);
  }
  const auto after = memory_of(getpid());
  ASSERT_TRUE(after);
  EXPECT_GE(after->peak_bytes, before->bytes + kBytes / 2);
  EXPECT_FALSE(memory_of(-1));
}

}  // namespace
}  // namespace slalom::host

// SPDX-License-Identifier: Apache-2.0
// slalom-trusted as it is started: exact arguments, and protected before it says anything.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <string>
#include <vector>

#include "session/server.h"

namespace slalom::session {
namespace {

// start runs the program with descriptors 5 and 6 open on one end of a socket.
pid_t start(const std::vector<std::string>& arguments, int socket) {
  const pid_t child = fork();
  if (child != 0) return child;
  if (dup2(socket, 5) != 5 || dup2(socket, 6) != 6) _exit(100);
  // The socket may have been one of them, and then closes with exec.
  if (fcntl(5, F_SETFD, 0) != 0 || fcntl(6, F_SETFD, 0) != 0) _exit(100);
  std::vector<char*> values{const_cast<char*>("slalom-trusted")};
  for (const std::string& a : arguments) values.push_back(const_cast<char*>(a.c_str()));
  values.push_back(nullptr);
  char* const nothing = nullptr;
  execve(TRUSTED_PROGRAM, values.data(), &nothing);
  _exit(101);
}

int status_of(pid_t child) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class TrustedProcess : public ::testing::Test {
 protected:
  TrustedProcess() {
    std::array<int, 2> ends{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    ours_ = outside::Descriptor(ends[0]);
    theirs_ = outside::Descriptor(ends[1]);
  }
  outside::Descriptor ours_, theirs_;
};

TEST_F(TrustedProcess, ArgumentsAreExact) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"--control-fd"},
      {"--control", "5"},
      {"--control-fd", "2"},
      {"--control-fd", "-1"},
      {"--control-fd", "5x"},
      {"--control-fd", ""},
      {"--control-fd", "5", "--listen-fd"},
      {"--control-fd", "5", "--listen-fd", "5"},
      {"--control-fd", "5", "--listen-fd", "0"},
      {"--control-fd", "5", "--control-fd", "6"},
      {"--control-fd", "5", "--listen-fd", "6", "more"},
  };
  ours_.reset();  // what starts all the same sees its host gone, and ends with 0
  for (const auto& arguments : wrong) {
    EXPECT_EQ(status_of(start(arguments, theirs_.get())), 1) << ::testing::PrintToString(arguments);
  }
  EXPECT_EQ(status_of(start({"--control-fd", "5"}, theirs_.get())), 0);
}

// line_of is the line of a file under /proc that begins with a word.
std::string line_of(pid_t process, const std::string& file, const std::string& word) {
  std::ifstream in("/proc/" + std::to_string(process) + "/" + file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(word)) return line;
  }
  return {};
}

TEST_F(TrustedProcess, IsProtectedBeforeItAnswers) {
  const pid_t child = start({"--control-fd", "5"}, theirs_.get());
  theirs_.reset();
  Wire wire(std::move(ours_));
  const auto ask = [&](Kind kind, std::span<const std::byte> payload) {
    EXPECT_TRUE(wire.send(kind, payload).ok());
    const auto header = wire.receive_header();
    EXPECT_TRUE(header.ok());
    std::vector<std::byte> bytes(header.ok() ? header->bytes : 0);
    EXPECT_TRUE(wire.receive_payload(bytes).ok());
    return bytes;
  };
  ask(Kind::kHello, encode(Hello{}));
  const auto report = decode<Report>(ask(Kind::kReport, {}));
  ASSERT_TRUE(report.ok());
  EXPECT_FALSE(report->dumpable);
  EXPECT_FALSE(report->core_dumps);
  EXPECT_EQ(line_of(child, "status", "NoNewPrivs:"), "NoNewPrivs:\t1");
  ask(Kind::kShutdown, {});
  EXPECT_EQ(status_of(child), 0);
}

}  // namespace
}  // namespace slalom::session

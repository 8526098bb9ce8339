// SPDX-License-Identifier: Apache-2.0
#include "outside.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "support/session_fakes.h"

namespace slalom::outside {
namespace {

using testing::socket_pair;

std::array<std::byte, 4> four(unsigned char v) {
  std::array<std::byte, 4> out{};
  out.fill(static_cast<std::byte>(v));
  return out;
}

TEST(Outside, ADescriptorTravelsWithItsBytes) {
  auto [a, b] = socket_pair();
  const Descriptor file(memfd_create("x", 0));
  ASSERT_EQ(ftruncate(file.get(), 123), 0);
  ASSERT_TRUE(send(a.get(), four(7), file.get()).ok());
  ASSERT_TRUE(send(a.get(), four(8)).ok());
  std::array<std::byte, 4> got{};
  Descriptor passed;
  ASSERT_TRUE(receive(b.get(), got, &passed).ok());
  EXPECT_EQ(got, four(7));
  ASSERT_TRUE(passed.valid());
  struct stat status {};
  ASSERT_EQ(fstat(passed.get(), &status), 0);
  EXPECT_EQ(status.st_size, 123);
  EXPECT_NE(fcntl(passed.get(), F_GETFD) & FD_CLOEXEC, 0);
  Descriptor none;
  ASSERT_TRUE(receive(b.get(), got, &none).ok());
  EXPECT_EQ(got, four(8));
  EXPECT_FALSE(none.valid());
}

std::size_t open_descriptors() {
  std::size_t n = 0;
  for (int fd = 0; fd < 256; ++fd) n += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return n;
}

TEST(Outside, UnwantedDescriptorsAreClosedAndRefused) {
  auto [a, b] = socket_pair();
  const Descriptor file(memfd_create("x", 0));
  const std::size_t before = open_descriptors();
  std::array<std::byte, 4> got{};
  ASSERT_TRUE(send(a.get(), four(1), file.get()).ok());
  EXPECT_EQ(receive(b.get(), got, nullptr).error().code, Errc::kMalformed);
  EXPECT_EQ(open_descriptors(), before);

  // Several in one message: one would be wanted, all are refused.
  for (const int count : {2, 8, 30}) {
    std::vector<int> fds(static_cast<std::size_t>(count), file.get());
    std::vector<char> control(CMSG_SPACE(sizeof(int) * fds.size()));
    auto bytes = four(2);
    iovec part{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
    ASSERT_EQ(sendmsg(a.get(), &message, 0), 4);
    {
      Descriptor passed;
      EXPECT_EQ(receive(b.get(), got, &passed).error().code, Errc::kMalformed);
    }
    EXPECT_EQ(open_descriptors(), before) << count;
  }
}

// A descriptor for which the process has no room is lost on the way: the message is refused.
TEST(Outside, ADescriptorThatFindsNoRoomIsNoticed) {
  auto [a, b] = socket_pair();
  const Descriptor file(memfd_create("x", 0));
  ASSERT_TRUE(send(a.get(), four(1), file.get()).ok());
  const pid_t child = fork();
  if (child == 0) {
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_NOFILE, &none) != 0) _exit(1);
    std::array<std::byte, 4> got{};
    Descriptor passed;
    const Status status = receive(b.get(), got, &passed);
    _exit(!status.ok() && status.error().code == Errc::kMalformed ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

TEST(Outside, APeerThatIsGoneIsUnavailable) {
  auto [a, b] = socket_pair();
  EXPECT_FALSE(readable(b.get()));
  ASSERT_TRUE(send(a.get(), four(1)).ok());
  EXPECT_TRUE(readable(b.get()));
  a.reset();
  std::array<std::byte, 8> got{};
  EXPECT_EQ(receive(b.get(), got, nullptr).error().code, Errc::kUnavailable) << "half a message";
  EXPECT_EQ(send(b.get(), got).error().code, Errc::kUnavailable) << "and no SIGPIPE";
}

TEST(Outside, LargeMessagesPassWhole) {
  auto [a, b] = socket_pair();
  std::vector<std::byte> out(5'000'000);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 7 % 251);
  std::thread sender([&, fd = a.get()] { EXPECT_TRUE(send(fd, out).ok()); });
  std::vector<std::byte> in(out.size());
  EXPECT_TRUE(receive(b.get(), in, nullptr).ok());
  sender.join();
  EXPECT_EQ(in, out);
}

TEST(Outside, MapRefusesWhatCannotBeMapped) {
  auto [a, b] = socket_pair();
  std::array<Descriptor, 4> wrong = {Descriptor(memfd_create("empty", 0)), Descriptor(),
                                     std::move(a), Descriptor(open("/", O_RDONLY))};
  for (Descriptor& file : wrong) {
    const auto mapped = SharedMemory::map(std::move(file));
    ASSERT_FALSE(mapped.ok());
    EXPECT_EQ(mapped.error().code, Errc::kInvalidArgument);
  }
  EXPECT_FALSE(SharedMemory::create(0).ok());
  EXPECT_FALSE(SharedMemory::create(SIZE_MAX).ok());
}

TEST(Outside, WakeEndsASleepAndTimeEndsItToo) {
  using Clock = std::chrono::steady_clock;
  const std::uint32_t word = 5;
  const auto start = Clock::now();
  sleep_on(word, 4, std::chrono::seconds(20));  // differs already
  sleep_on(word, 5, std::chrono::milliseconds(5));
  sleep_on(word, 5, std::chrono::nanoseconds(-1));
  EXPECT_GE(Clock::now() - start, std::chrono::milliseconds(5));
  std::thread waker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    for (int i = 0; i < 100; ++i) {
      wake(word);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  sleep_on(word, 5, std::chrono::seconds(20));
  waker.join();
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(10));
}

TEST(Outside, HardenIsSeenFromOutside) {
  const pid_t child = fork();
  if (child == 0) {
    __builtin_ia32_ldmxcsr(0x7f80);  // rounding towards zero
    signal(SIGPIPE, SIG_DFL);
    if (!harden().ok()) _exit(1);
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) _exit(4);
    if (signal(SIGPIPE, SIG_DFL) != SIG_IGN) _exit(5);
    const ProcessState state = process_state();
    if (state.dumpable || state.core_dumps || state.processors == 0) _exit(2);
    if (__builtin_ia32_stmxcsr() != 0x1f80) _exit(3);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

TEST(Outside, ConnectionsComeUntilTheLifelineEnds) {
  const Descriptor listener(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  std::snprintf(address.sun_path + 1, 40, "slalom-outside-test-%d", getpid());
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener.get(), 4), 0);
  auto [life, other] = socket_pair();
  const Descriptor client(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const auto taken = wait_for_connection(listener.get(), life.get());
  ASSERT_TRUE(taken.ok());
  EXPECT_TRUE(taken->valid());
  other.reset();
  const auto ended = wait_for_connection(listener.get(), life.get());
  ASSERT_TRUE(ended.ok());
  EXPECT_FALSE(ended->valid());
  const auto alone = wait_for_connection(-1, life.get());
  ASSERT_TRUE(alone.ok());
  EXPECT_FALSE(alone->valid());
}

}  // namespace
}  // namespace slalom::outside

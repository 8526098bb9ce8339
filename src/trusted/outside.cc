// SPDX-License-Identifier: Apache-2.0
#include "outside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace slalom::outside {
namespace {

constexpr Error kGone{Errc::kUnavailable, "the other end of the control connection is gone"};
constexpr Error kDescriptors{Errc::kMalformed, "a message carries descriptors that it should not"};

// Linux 6.3 and later want to be told that the memory is not for code; older kernels refuse the
// flag.
constexpr unsigned kNoExecSeal = 8;

int make_memfd() noexcept {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const int fd = memfd_create("slalom-channel", kFlags | kNoExecSeal);
  return fd >= 0 || errno != EINVAL ? fd : memfd_create("slalom-channel", kFlags);
}

timespec to_timespec(std::chrono::nanoseconds time) noexcept {
  const auto ns = std::max<std::int64_t>(time.count(), 0);
  return {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
}

// Takes the descriptors out of a received message: one into *passed if there is room, the others
// are closed. Returns false if a descriptor came that nobody asked for.
bool take_descriptors(msghdr& message, Descriptor* passed) noexcept {
  bool good = (message.msg_flags & MSG_CTRUNC) == 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      Descriptor owned(fd);
      if (passed == nullptr || passed->valid()) {
        good = false;
      } else {
        *passed = std::move(owned);
      }
    }
  }
  return good;
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

Descriptor duplicate(int fd) noexcept { return Descriptor(fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

void Unmap::operator()(std::byte* memory) const noexcept { munmap(memory, bytes); }

Result<SharedMemory> SharedMemory::create(std::size_t bytes) {
  Descriptor file(make_memfd());
  if (!file.valid() || bytes == 0 || bytes > static_cast<std::size_t>(PTRDIFF_MAX) ||
      ftruncate(file.get(), static_cast<off_t>(bytes)) != 0 ||
      fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Error{Errc::kUnavailable, "no shared memory for the channel to a device"};
  }
  return map(std::move(file));
}

Result<SharedMemory> SharedMemory::map(Descriptor file) {
  struct stat status {};
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) {
    return Error{Errc::kInvalidArgument, "not a file that can be mapped"};
  }
  const auto bytes = static_cast<std::size_t>(status.st_size);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) {
    return Error{Errc::kUnavailable, "no address space for the channel to a device"};
  }
  SharedMemory out;
  out.file_ = std::move(file);
  out.memory_ = {static_cast<std::byte*>(memory), Unmap{bytes}};
  return out;
}

void sleep_on(const std::uint32_t& word, std::uint32_t seen,
              std::chrono::nanoseconds time) noexcept {
  const timespec limit = to_timespec(time);
  if (syscall(SYS_futex, &word, FUTEX_WAIT, seen, &limit, nullptr, 0) == 0) return;
  if (errno == EAGAIN || errno == ETIMEDOUT || errno == EINTR) return;
  nanosleep(&limit, nullptr);
}

void wake(const std::uint32_t& word) noexcept {
  syscall(SYS_futex, &word, FUTEX_WAKE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
}

Status send(int socket, std::span<const std::byte> bytes, int descriptor) noexcept {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  while (!bytes.empty()) {
    iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (descriptor >= 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    const ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return kGone;
    }
    descriptor = -1;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return {};
}

Status receive(int socket, std::span<std::byte> bytes, Descriptor* passed) noexcept {
  // Room for a few, so that surplus descriptors are seen and closed by us and not lost in the
  // kernel.
  alignas(cmsghdr) std::array<char, CMSG_SPACE(8 * sizeof(int))> control{};
  bool good = true;
  while (!bytes.empty()) {
    iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return kGone;
    good = take_descriptors(message, passed) && good;
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  if (!good) return kDescriptors;
  return {};
}

bool readable(int socket) noexcept {
  pollfd one{.fd = socket, .events = POLLIN, .revents = 0};
  return poll(&one, 1, 0) > 0;
}

void hang_up(int socket) noexcept { shutdown(socket, SHUT_RDWR); }

Result<Descriptor> wait_for_connection(int listener, int life) noexcept {
  for (;;) {
    std::array<pollfd, 2> both{{{.fd = listener, .events = POLLIN, .revents = 0},
                                {.fd = life, .events = POLLRDHUP, .revents = 0}}};
    if (poll(both.data(), both.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return Error{Errc::kInternal, "waiting for connections failed"};
    }
    if (both[1].revents != 0) return Descriptor();
    if ((both[0].revents & ~POLLIN) != 0) {
      return Error{Errc::kUnavailable, "the listening socket is gone"};
    }
    if (both[0].revents == 0) continue;
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) return Descriptor(fd);
    if (errno == EINTR || errno == ECONNABORTED || errno == EAGAIN) continue;
    return Error{Errc::kUnavailable, "no more connections can be taken"};
  }
}

Status harden() noexcept {
  const rlimit none{.rlim_cur = 0, .rlim_max = 0};
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0 ||
      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
    return Error{Errc::kInternal, "the kernel refuses to protect the trusted process"};
  }
  _mm_setcsr(0x1f80);
  return {};
}

ProcessState process_state() noexcept {
  ProcessState state;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    state.processors = static_cast<std::uint32_t>(CPU_COUNT(&set));
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
    state.lock_limit = limit.rlim_cur == RLIM_INFINITY ? std::numeric_limits<std::uint64_t>::max()
                                                       : std::uint64_t{limit.rlim_cur};
  }
  struct sysinfo info {};
  if (sysinfo(&info) == 0) state.memory_bytes = std::uint64_t{info.totalram} * info.mem_unit;
  state.dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0;
  state.core_dumps = getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_max != 0;
  return state;
}

}  // namespace slalom::outside

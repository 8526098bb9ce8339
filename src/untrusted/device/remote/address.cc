// SPDX-License-Identifier: Apache-2.0
#include "device/remote/address.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <memory>

namespace slalom::device::remote {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct FreeList {
  void operator()(addrinfo* list) const noexcept { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeList>;

Addresses look_up(const Address& address, int flags) {
  addrinfo wanted{};
  wanted.ai_family = AF_UNSPEC;
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  if (getaddrinfo(address.host.c_str(), address.port.c_str(), &wanted, &list) != 0) return nullptr;
  return Addresses(list);
}

outside::Descriptor make_socket(const addrinfo& at) {
  return outside::Descriptor(
      socket(at.ai_family, at.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at.ai_protocol));
}

void set_blocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK); }

// Returns 0 or the errno of an attempt that ended by `end`.
int try_connect(int fd, const addrinfo& at, Clock::time_point end) {
  if (connect(fd, at.ai_addr, at.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now()).count();
    if (left <= 0) return ETIMEDOUT;
    pollfd one{.fd = fd, .events = POLLOUT, .revents = 0};
    const int n = poll(&one, 1, static_cast<int>(left));
    if (n > 0) break;
    if (n < 0 && errno != EINTR) return errno;
  }
  int why = 0;
  socklen_t size = sizeof(why);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &size);
  return why;
}

Error unreachable(int why) {
  switch (why) {
    case ECONNREFUSED:
      return {Errc::kUnavailable, "nobody listens there (connection refused)"};
    case ETIMEDOUT:
      return {Errc::kUnavailable, "nobody answers there in time"};
    case ENETUNREACH:
    case EHOSTUNREACH:
      return {Errc::kUnavailable, "no network leads there"};
    default:
      return {Errc::kUnavailable, "it cannot be connected to"};
  }
}

}  // namespace

std::optional<Address> parse_address(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
    if (host.find(':') == std::string_view::npos) return std::nullopt;
  } else if (host.find(':') != std::string_view::npos) {
    return std::nullopt;  // which colon begins the port?
  }
  if (host.empty() || host.size() > 253 || port.empty() || port.size() > 5) return std::nullopt;
  for (const char c : host) {
    if (c <= ' ' || c == '/' || c == '[' || c == ']' || c > '~') return std::nullopt;
  }
  int number = 0;
  for (const char c : port) {
    if (c < '0' || c > '9') return std::nullopt;
    number = 10 * number + (c - '0');
  }
  if (number > 65535) return std::nullopt;
  return Address{std::string(host), std::string(port)};
}

Result<outside::Descriptor> connect_to(const Address& address, milliseconds time) {
  const Addresses list = look_up(address, 0);
  if (!list) return Error{Errc::kUnavailable, "its name is not known here"};
  const auto end = Clock::now() + time;
  int why = 0;
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    outside::Descriptor fd = make_socket(*at);
    if (!fd.valid()) continue;
    why = try_connect(fd.get(), *at, end);
    if (why != 0) continue;
    set_blocking(fd.get());
    prepare(fd.get());
    return fd;
  }
  return unreachable(why);
}

Result<outside::Descriptor> listen_at(const Address& address) {
  const Addresses list = look_up(address, AI_PASSIVE);
  if (!list) return Error{Errc::kInvalidArgument, "the name is not known here"};
  int why = 0;
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    outside::Descriptor fd = make_socket(*at);
    const int on = 1;
    if (fd.valid() && setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd.get(), at->ai_addr, at->ai_addrlen) == 0 && listen(fd.get(), 64) == 0) {
      return fd;
    }
    why = errno;
  }
  if (why == EADDRINUSE) return Error{Errc::kUnavailable, "somebody listens there already"};
  if (why == EACCES) return Error{Errc::kInvalidArgument, "this user may not use that port"};
  return Error{Errc::kInvalidArgument, "it is no address of this machine"};
}

std::string bound_address(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host.data(), host.size(),
                  port.data(), port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "?";
  }
  const std::string name = host.data();
  const bool v6 = name.find(':') != std::string::npos;
  return (v6 ? "[" + name + "]" : name) + ":" + port.data();
}

void prepare(int socket) noexcept {
  const auto set = [socket](int level, int name, int value) {
    setsockopt(socket, level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(kDeadPeer.count()));
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 2);  // seconds
  set(IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set(IPPROTO_TCP, TCP_KEEPCNT, 2);
}

void limit(int socket, milliseconds time) noexcept {
  const timeval value{.tv_sec = time.count() / 1000, .tv_usec = time.count() % 1000 * 1000};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof(value));
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof(value));
}

}  // namespace slalom::device::remote

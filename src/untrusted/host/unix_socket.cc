// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/unix_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <system_error>
#include <thread>

namespace slalom::host {
namespace {

// A listener's file is there a moment before it listens (bind makes the file), and looks until then
// like one that a dead process left behind: who is refused tries again for a fifth of a second.
constexpr int kTurns = 10;
constexpr std::chrono::milliseconds kTurnTime{20};

std::optional<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.empty() || path.size() >= sizeof(address.sun_path)) return std::nullopt;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Failure bad_path(const std::string& path) {
  return {Errc::kInvalidArgument,
          "'" + path + "' cannot be the path of a socket: it must have 1 to 107 characters"};
}

int connect_socket(int fd, const sockaddr_un& address) {
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

// Removes a socket file that refuses connections; whatever else lies there stays.
bool remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const outside::Descriptor probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect_socket(probe.get(), address) == 0 || errno != ECONNREFUSED) return false;
  return unlink(path.c_str()) == 0;
}

}  // namespace

Outcome<outside::Descriptor> listen_at(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return bad_path(path);
  outside::Descriptor fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // The mode of the socket before bind is the mode of the file that bind makes.
  if (!fd.valid() || fchmod(fd.get(), 0600) != 0) {
    return Failure{Errc::kUnavailable,
                   std::string("no socket: ") + std::generic_category().message(errno)};
  }
  const auto bind_here = [&] {
    return bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) == 0;
  };
  if (!bind_here()) {
    const int why = errno;
    if (why != EADDRINUSE || !remove_stale(path, *address) || !bind_here()) {
      return Failure{why == EADDRINUSE ? Errc::kUnavailable : Errc::kInvalidArgument,
                     "cannot listen at '" + path + "': " + std::generic_category().message(why)};
    }
  }
  if (listen(fd.get(), 16) != 0) {
    return Failure{Errc::kUnavailable,
                   "cannot listen at '" + path + "': " + std::generic_category().message(errno)};
  }
  return fd;
}

Outcome<outside::Descriptor> connect_to(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return bad_path(path);
  outside::Descriptor fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int why = 0;
  for (int turn = 0; fd.valid() && turn < kTurns; ++turn) {
    if (connect_socket(fd.get(), *address) == 0) return fd;
    why = errno;
    if (why != ECONNREFUSED) break;
    std::this_thread::sleep_for(kTurnTime);
  }
  return Failure{Errc::kUnavailable, "cannot connect to '" + path + "': " +
                                         std::generic_category().message(fd.valid() ? why : errno)};
}

bool hung_up(int socket) noexcept {
  pollfd one{.fd = socket, .events = POLLRDHUP, .revents = 0};
  return poll(&one, 1, 0) > 0 && (one.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

}  // namespace slalom::host

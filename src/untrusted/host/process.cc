// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/process.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <system_error>
#include <thread>
#include <utility>

#include "outside.h"

namespace slalom::host {
namespace {

constexpr int kFirstPassed = 3;

// Spawning holds the attributes of one posix_spawn call.
class Spawning {
 public:
  Spawning() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
  }
  ~Spawning() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }
  Spawning(const Spawning&) = delete;
  Spawning& operator=(const Spawning&) = delete;

  // Descriptors arrive as 3, 4, ...; the sources must lie above all targets, so that no dup2
  // overwrites the source of a later one.
  void pass(std::span<const outside::Descriptor> sources) {
    posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, 1, "/dev/null", O_WRONLY, 0);
    int target = kFirstPassed;
    for (const outside::Descriptor& source : sources) {
      posix_spawn_file_actions_adddup2(&actions_, source.get(), target++);
    }
    posix_spawn_file_actions_addclosefrom_np(&actions_, target);
  }
  void own_group_and_default_signals() {
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  int start(pid_t* pid, const std::string& program, char* const* arguments) {
    std::array<char*, 1> environment{nullptr};
    return posix_spawn(pid, program.c_str(), &actions_, &attributes_, arguments,
                       environment.data());
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), status_(other.status_), reaped_(other.reaped_) {}

Child& Child::operator=(Child&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(status_, other.status_);
  std::swap(reaped_, other.reaped_);
  return *this;
}

Child::~Child() {
  if (pid_ <= 0 || reaped_) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Outcome<Child> Child::spawn(const std::string& program, const std::vector<std::string>& arguments,
                            std::span<const int> descriptors) {
  const int above = kFirstPassed + static_cast<int>(descriptors.size());
  std::vector<outside::Descriptor> sources;
  for (const int fd : descriptors) {
    sources.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, above));
    if (!sources.back().valid()) {
      return Failure{Errc::kUnavailable,
                     std::string("no file descriptor: ") + std::generic_category().message(errno)};
    }
  }
  std::vector<char*> values{const_cast<char*>(program.c_str())};
  for (const std::string& a : arguments) values.push_back(const_cast<char*>(a.c_str()));
  values.push_back(nullptr);
  Spawning spawning;
  spawning.pass(sources);
  spawning.own_group_and_default_signals();
  Child child;
  if (const int error = spawning.start(&child.pid_, program, values.data()); error != 0) {
    child.pid_ = -1;
    return Failure{Errc::kUnavailable,
                   "cannot start '" + program + "': " + std::generic_category().message(error)};
  }
  return child;
}

std::string Child::how_it_ended() {
  for (int turn = 0; turn < 200 && !reaped_; ++turn) {
    if (waitpid(pid_, &status_, WNOHANG) == pid_) {
      reaped_ = true;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  if (!reaped_) return "still runs";
  if (WIFSIGNALED(status_)) return "was killed by signal " + std::to_string(WTERMSIG(status_));
  return "ended with status " + std::to_string(WEXITSTATUS(status_));
}

std::optional<Memory> memory_of(pid_t process) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  std::map<std::string, std::uint64_t> values;
  for (std::string name; status >> name;) {
    std::uint64_t kilobytes = 0;
    if (name.starts_with("VmRSS") || name.starts_with("VmHWM") || name.starts_with("Rss")) {
      if (status >> kilobytes) values[name] = 1024 * kilobytes;
    }
    status.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  if (!values.contains("VmRSS:")) return std::nullopt;
  return Memory{.bytes = values["VmRSS:"],
                .peak_bytes = values["VmHWM:"],
                .data_bytes = values["RssAnon:"] + values["RssShmem:"]};
}

std::string program_beside(const std::string& name) {
  std::array<char, PATH_MAX> path{};
  const ssize_t n = readlink("/proc/self/exe", path.data(), path.size());
  if (n <= 0) return name;
  const std::string own(path.data(), static_cast<std::size_t>(n));
  return own.substr(0, own.rfind('/') + 1) + name;
}

}  // namespace slalom::host

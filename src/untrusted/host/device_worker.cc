// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/device_worker.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>
#include <vector>

#include "device/remote/address.h"
#include "untrusted/host/unix_socket.h"
#include "worker/endpoint.h"
#include "worker/handover.h"

namespace slalom::host {
namespace {

constexpr std::string_view kUnix = "unix:";
constexpr std::string_view kTcp = "tcp:";
// A worker that listens has loaded its plan before; if it does not greet, it serves another host.
constexpr std::chrono::milliseconds kGreetingTime{10'000};

bool wait_readable(int socket, std::chrono::milliseconds time) {
  pollfd one{.fd = socket, .events = POLLIN, .revents = 0};
  const auto end = std::chrono::steady_clock::now() + time;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    const int n = poll(&one, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (n != 0 && !(n < 0 && errno == EINTR)) return n > 0;
    if (left.count() <= 0) return false;
  }
}

}  // namespace

bool is_device(std::string_view spec) {
  if (spec.starts_with(kUnix)) return spec.size() > kUnix.size();
  if (spec.starts_with(kTcp)) {
    return device::remote::parse_address(spec.substr(kTcp.size())).has_value();
  }
  if (spec == "cpu" || spec == "cuda") return true;
  const std::string_view number = spec.substr(std::min(spec.find(':') + 1, spec.size()));
  return spec.starts_with("cuda:") && !number.empty() && number.size() <= 3 &&
         number.find_first_not_of("0123456789") == std::string_view::npos;
}

bool computes_here(std::string_view spec) {
  return is_device(spec) && !spec.starts_with(kUnix) && !spec.starts_with(kTcp);
}

DeviceWorker::~DeviceWorker() {
  if (setup_.trace.empty() || child_.pid() <= 0) return;
  socket_.reset();
  static_cast<void>(child_.how_it_ended());
}

Done DeviceWorker::begin(std::size_t max_batch) {
  const bool alive = socket_.valid() && !hung_up(socket_.get());
  if (alive && (!spawned() || max_batch <= setup_.max_batch)) return {};
  setup_.max_batch = std::max(max_batch, setup_.max_batch);
  greeted_ = false;
  segment_.reset();
  socket_.reset();
  child_ = Child();
  if (spawned()) return spawn();
  auto socket = connect_to(setup_.spec.substr(kUnix.size()));
  if (!socket) return socket.failure();
  socket_ = std::move(*socket);
  return {};
}

Done DeviceWorker::spawn() {
  std::array<int, 2> ends{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return Failure{Errc::kUnavailable,
                   std::string("no socket: ") + std::generic_category().message(errno)};
  }
  outside::Descriptor ours(ends[0]);
  const outside::Descriptor theirs(ends[1]);
  std::vector<std::string> arguments{
      "--device",     setup_.spec, "--plan",      setup_.plan_file,
      "--channel-fd", "3",         "--max-batch", std::to_string(setup_.max_batch)};
  if (setup_.threads != 0) {
    arguments.insert(arguments.end(), {"--threads", std::to_string(setup_.threads)});
  }
  if (setup_.streams != 0) {
    arguments.insert(arguments.end(), {"--streams", std::to_string(setup_.streams)});
  }
  if (!setup_.trace.empty()) arguments.insert(arguments.end(), {"--trace", setup_.trace});
  const std::array<int, 1> passed{theirs.get()};
  auto child = Child::spawn(setup_.program, arguments, passed);
  if (!child) return child.failure();
  child_ = std::move(*child);
  socket_ = std::move(ours);
  return {};
}

Done DeviceWorker::ready() {
  if (greeted_) return {};
  const std::string name = "the device '" + setup_.spec + "' ";
  if (!spawned() && !wait_readable(socket_.get(), kGreetingTime)) {
    return Failure{Errc::kUnavailable, name + "does not answer: it may serve another host"};
  }
  const auto greeting = worker::receive_greeting(socket_.get());
  if (!greeting) {
    const std::string how = obituary();
    return Failure{greeting.error().code,
                   how.empty() ? name + "failed at its start: " + greeting.error().message : how};
  }
  if (greeting->status != 0) {
    return Failure{static_cast<Errc>(greeting->status),
                   name + "cannot be used: " + greeting->reason};
  }
  if (greeting->digest != setup_.digest) {
    return Failure{Errc::kMalformed, name + "has loaded another plan"};
  }
  if (greeting->max_batch < setup_.max_batch) {
    return Failure{Errc::kInvalidArgument,
                   name + "takes micro-batches of at most " + std::to_string(greeting->max_batch)};
  }
  greeted_ = true;
  return {};
}

Done DeviceWorker::serve(outside::Descriptor segment) {
  auto kept = outside::duplicate(segment.get());
  if (const Status given = worker::hand_over(socket_.get(), segment.get()); !given.ok()) {
    const std::string how = obituary();
    return Failure{
        given.error().code,
        how.empty() ? "the device '" + setup_.spec + "': " + given.error().message : how};
  }
  auto memory = outside::SharedMemory::map(std::move(kept));
  if (!memory) return Failure{memory.error().code, memory.error().message};
  segment_ = std::make_shared<outside::SharedMemory>(std::move(*memory));
  return {};
}

Watched DeviceWorker::watched() {
  return {socket_.get(), [segment = segment_] {
            if (segment) worker::mark_stopped(segment->bytes());
          }};
}

std::string DeviceWorker::obituary() {
  if (!socket_.valid() || !hung_up(socket_.get())) return {};
  const std::string name = "the device '" + setup_.spec + "' ";
  if (!spawned()) return name + "hung up";
  return name + child_.how_it_ended();
}

}  // namespace slalom::host

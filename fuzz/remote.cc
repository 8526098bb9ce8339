// SPDX-License-Identifier: Apache-2.0
// Both ends of a TCP session with a hostile peer. The first byte chooses: a decoder of messages
// (what it accepts must encode to the same bytes), a session that serves whatever a client sends,
// or a remote device that gets whatever a worker answers. Each must come to its end, and the ends
// of a session are told from what was sent alone.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "device/cpu/cpu_device.h"
#include "device/remote/remote_device.h"
#include "device/remote/session.h"
#include "device/remote/wire.h"
#include "support/plans.h"

namespace {

using namespace slalom;          // NOLINT(google-build-using-namespace): a program of one file
using namespace slalom::device;  // NOLINT(google-build-using-namespace)
using namespace slalom::device::remote;  // NOLINT(google-build-using-namespace)
using Bytes = std::span<const std::byte>;

template <class Message>
void check(Bytes bytes) {
  const auto message = decode<Message>(bytes);
  if (!message.ok()) return;
  const std::vector<std::byte> again = encode(*message);
  if (again.size() != bytes.size() || std::memcmp(again.data(), bytes.data(), again.size()) != 0) {
    std::abort();
  }
}

std::array<outside::Descriptor, 2> socket_pair() {
  std::array<int, 2> ends{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
  return {outside::Descriptor(ends[0]), outside::Descriptor(ends[1])};
}

// Peer is the hostile end of a connection: it has said all that it says, and reads until the other
// end closes, so that nobody waits for a reader.
class Peer {
 public:
  Peer(outside::Descriptor socket, Bytes first, Bytes second) : socket_(std::move(socket)) {
    static_cast<void>(send_all(socket_.get(), first));
    static_cast<void>(send_all(socket_.get(), second));
    shutdown(socket_.get(), SHUT_WR);
    reader_ = std::thread([fd = socket_.get()] {
      std::array<std::byte, 4096> sink{};
      while (recv(fd, sink.data(), sink.size(), 0) > 0) {
      }
    });
  }
  ~Peer() { reader_.join(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

 private:
  outside::Descriptor socket_;
  std::thread reader_;
};

// Two layers that read one tensor.
std::shared_ptr<const model::Plan> small_plan() {
  testing::PlanBuilder b;
  const auto x = b.input({2, 2, 3}, 9);
  const auto y = b.conv(x, {.out_c = 2});
  const auto z = b.conv(x, {.out_c = 1});
  return std::make_shared<const model::Plan>(b.finish({y, z}));
}

CpuDevice make_cpu() { return CpuDevice({.cpu = base::detect_cpu(), .threads = 1}); }

void serve_hostile_client(Bytes bytes) {
  static const auto plan = small_plan();
  static const JobLayers layers = JobLayers::make(plan.get(), 2).value();
  static const Buffers buffers = Buffers::make(layers).value();
  static CpuDevice cpu = make_cpu();
  static const bool loaded = cpu.load(plan, 2).ok();
  if (!loaded) std::abort();
  auto [ours, theirs] = socket_pair();
  const Peer peer(std::move(ours), bytes, {});
  std::vector<outside::Descriptor> sockets;
  sockets.push_back(std::move(theirs));
  Session session(cpu, layers, buffers, std::move(sockets));
  static_cast<void>(session.run());
}

// ask runs the two layers; nothing is written but the answer's own bytes.
void ask(RemoteDevice& device) {
  const std::vector<std::byte> input(12);
  std::array<std::byte, 64> memory{};
  memory.fill(std::byte{0x77});
  for (const std::uint32_t layer : {0U, 1U}) {
    const std::size_t bytes = layer == 0 ? 24 : 12;
    static_cast<void>(
        device.run({.layer = layer,
                    .batch = 1,
                    .attempt = 1,
                    .kind = layer == 0 ? channel::InputKind::kCodes : channel::InputKind::kRetained,
                    .input = input,
                    .output = std::span(memory).first(bytes)}));
    for (std::size_t i = 24; i < memory.size(); ++i) {
      if (memory[i] != std::byte{0x77}) std::abort();
    }
  }
}

void use_hostile_worker(Bytes bytes) {
  static const auto plan = small_plan();
  // An even first byte: the session begins well.
  std::vector<std::byte> start;
  if (!bytes.empty() && std::to_integer<int>(bytes[0]) % 2 == 0) {
    Welcome welcome;
    welcome.session[0] = std::byte{1};
    start = encode(welcome);
  }
  auto [ours, theirs] = socket_pair();
  const Peer peer(std::move(ours), start, bytes.subspan(std::min<std::size_t>(1, bytes.size())));
  int connections = 0;  // the worker's bytes come in one; there is no second
  RemoteDevice device(
      [&, socket = &theirs](std::chrono::milliseconds) -> Result<outside::Descriptor> {
        if (connections++ > 0) return Error{Errc::kUnavailable, "no second connection"};
        return std::exchange(*socket, outside::Descriptor());
      },
      {.streams = 1, .again = std::chrono::milliseconds(0)});
  if (device.load(plan, 1).ok()) ask(device);
  theirs.reset();  // if nobody took it
}

using Check = void (*)(Bytes);
constexpr Check kChecks[] = {check<Hello>,         check<Welcome>,       check<JobHeader>,
                             check<AnswerHeader>,  serve_hostile_client, serve_hostile_client,
                             serve_hostile_client, use_hostile_worker,   use_hostile_worker,
                             use_hostile_worker};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  kChecks[data[0] % std::size(kChecks)](std::as_bytes(std::span(data + 1, size - 1)));
  return 0;
}

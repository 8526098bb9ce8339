// SPDX-License-Identifier: Apache-2.0
// Both honest ends of a segment at work: in two threads, in two processes, and with a worker that
// is killed at a random moment.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <random>
#include <thread>

#include "support/channel_peer.h"
#include "worker/worker.h"

namespace slalom::worker {
namespace {

using channel::Request;
using channel::Slot;
using channel::testing::make_port;
using channel::testing::request_for;
using namespace std::chrono_literals;

// Adder answers each input byte plus the layer number, and fails for layer 99.
class Adder final : public device::Device {
 public:
  Status load(std::shared_ptr<const model::Plan>, std::size_t) override { return {}; }
  Status run(const device::Job& job) override {
    if (job.layer == 99) return Error{Errc::kInvalidArgument, "no such layer"};
    for (std::size_t i = 0; i < job.output.size(); ++i) {
      job.output[i] = static_cast<std::byte>(static_cast<unsigned>(job.input[i]) + job.layer);
    }
    return {};
  }
};

// Serves a segment until it closes; closes fd.
void serve_segment(int fd, int* closed_ok) {
  auto end = ShmEndpoint::open(outside::Descriptor(fd));
  if (!end.ok()) return;
  Adder adder;
  const auto status = serve(*end, adder, [] { return false; });
  if (closed_ok != nullptr) *closed_ok = status.ok() ? 1 : 2;
}

struct Flight {
  std::uint64_t sequence;
  std::uint32_t layer;
  Slot in, out;
};

// Sends `count` requests of random sizes, at most six in flight, and checks every answered byte.
// Returns the code of the error that ended it, if one did.
std::optional<Errc> drive(channel::ShmPort& port, int count, unsigned seed) {
  constexpr int kFlights = 6;
  constexpr std::size_t kMost = 5000;
  std::mt19937 random(seed);
  std::vector<Slot> slots;
  for (int i = 0; i < 2 * kFlights; ++i) {
    auto slot = port.allocate(kMost);
    if (!slot.ok()) return slot.error().code;
    slots.push_back(*slot);
  }
  std::deque<Flight> flights;
  int sent = 0;
  while (sent < count || !flights.empty()) {
    if (sent < count && flights.size() < kFlights) {
      const std::size_t bytes = 1 + random() % kMost;
      Slot in = slots[static_cast<std::size_t>(sent % kFlights)];
      Slot out = slots[static_cast<std::size_t>(sent) % kFlights + kFlights];
      in.memory = in.memory.first(bytes);
      out.memory = out.memory.first(bytes);
      std::memset(in.memory.data(), sent & 0xff, bytes);
      Request r = request_for(in, out);
      r.layer = static_cast<std::uint32_t>(random() % 97);
      const auto sequence = port.submit(r);
      if (!sequence.ok()) return sequence.error().code;
      flights.push_back({*sequence, r.layer + static_cast<std::uint32_t>(sent & 0xff), in, out});
      ++sent;
      continue;
    }
    const auto got = port.wait(10s);
    if (!got.ok()) return got.error().code;
    if (!got->has_value()) return Errc::kInternal;
    const Flight f = flights.front();
    flights.pop_front();
    if ((*got)->sequence != f.sequence || !(*got)->done) return Errc::kInternal;
    for (const std::byte b : f.out.memory) {
      if (b != static_cast<std::byte>(f.layer)) return Errc::kMalformed;
    }
  }
  return std::nullopt;
}

TEST(TwoEnds, InTwoThreads) {
  auto port = make_port(1 << 17, 8);
  int closed_ok = 0;
  std::thread worker(serve_segment, dup(port->descriptor()), &closed_ok);
  EXPECT_EQ(drive(*port, 3000, 1), std::nullopt);
  port.reset();
  worker.join();
  EXPECT_EQ(closed_ok, 1);
}

TEST(TwoEnds, AWorkerThatCannotComputeSaysSo) {
  auto port = make_port();
  std::thread worker(serve_segment, dup(port->descriptor()), nullptr);
  const Slot slot = *port->allocate(64);
  Request r = request_for(slot, slot);
  r.layer = 99;
  ASSERT_TRUE(port->submit(r).ok());
  const auto got = port->wait(10s);
  ASSERT_TRUE(got.ok() && got->has_value());
  EXPECT_FALSE((*got)->done);
  port.reset();
  worker.join();
}

TEST(TwoEnds, InTwoProcesses) {
  auto port = make_port(1 << 17, 8);
  const pid_t child = fork();
  if (child == 0) {
    int closed_ok = 0;
    serve_segment(dup(port->descriptor()), &closed_ok);
    _exit(closed_ok == 1 ? 0 : 1);
  }
  ASSERT_GT(child, 0);
  EXPECT_EQ(drive(*port, 3000, 2), std::nullopt);
  port.reset();
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// The trusted side notices by its own time-out alone, at whatever point the worker died.
TEST(TwoEnds, AWorkerKilledAtARandomMomentIsATimeOut) {
  std::mt19937 random(3);
  for (int round = 0; round < 40; ++round) {
    auto port = make_port(1 << 17, 8);
    const pid_t child = fork();
    if (child == 0) {
      serve_segment(dup(port->descriptor()), nullptr);
      _exit(0);
    }
    ASSERT_GT(child, 0);
    const auto delay = std::chrono::microseconds(random() % 5000);
    std::thread killer([=] {
      std::this_thread::sleep_for(delay);
      kill(child, SIGKILL);
    });
    const Slot slot = *port->allocate(4096);
    bool timed_out = false;
    for (int i = 0; i < 1'000'000 && !timed_out; ++i) {
      const auto sequence = port->submit(request_for(slot, slot));
      ASSERT_TRUE(sequence.ok());
      const auto got = port->wait(100ms);
      ASSERT_TRUE(got.ok());
      timed_out = !got->has_value();
    }
    EXPECT_TRUE(timed_out);
    killer.join();
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    // What the host does for a dead worker: the port then need not wait.
    mark_stopped(channel::testing::Peer(*port, 8).bytes());
    EXPECT_EQ(port->wait(10s).error().code, Errc::kUnavailable);
  }
}

}  // namespace
}  // namespace slalom::worker

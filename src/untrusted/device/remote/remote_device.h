// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "device/jobs.h"
#include "device/remote/wire.h"
#include "outside.h"

namespace slalom::device {

struct RemoteDeviceOptions {
  std::size_t streams = 4;  // connections side by side; 1 .. remote::kMostStreams
  // How long the peer may say nothing while a session is opened, and how long it may load a plan.
  std::chrono::milliseconds greeting{10'000};
  std::chrono::milliseconds loading{120'000};
  // How long load() waits for a busy peer: the session of a process that has just ended may be
  // ending.
  std::chrono::milliseconds busy{2'000};
  // After a cut: how long to try to open a new session, and how often without a job done between.
  std::chrono::milliseconds again{5'000};
  std::size_t cuts = 3;
};

// RemoteDevice lets another machine compute, over TCP: docs/remote-format.md. Inputs are sent from
// where they lie and answers received where they belong; the peer can write there whatever it
// likes, and nowhere else.
//
// When the connection is cut with jobs under way, a new session is opened and these jobs are sent
// again, the identical bytes, none of which was answered to the caller. Where that cannot be (the
// peer is gone for longer, it broke the protocol, or a job refers to an input that came with a job
// answered before) they fail with kUnavailable, and so does every job until attach() finds the peer
// again. No job is lost: each gets one outcome.
//
// ready() may wait for up to 50 us for the network, so that a worker that asks again and again does
// not take a processor from others.
//
// Errors of load(): kUnavailable: the peer cannot be reached, is busy or says nothing; kMalformed:
// it speaks another protocol or serves another plan; kInvalidArgument: plan, batch or options.
class RemoteDevice final : public Device {
 public:
  // connect opens one connection to the peer within a time.
  using Connect = std::function<Result<outside::Descriptor>(std::chrono::milliseconds)>;
  RemoteDevice(Connect connect, const RemoteDeviceOptions& options);
  ~RemoteDevice() override;

  [[nodiscard]] Status load(std::shared_ptr<const model::Plan> plan,
                            std::size_t max_batch) override;
  [[nodiscard]] Status run(const Job& job) override;
  // More than a channel holds, so that a worker asks ready() before each finish() and is never held
  // by a peer that says nothing. At most remote::kWindow jobs are under way; the others wait here.
  [[nodiscard]] std::size_t depth() const override { return 4096; }
  [[nodiscard]] Status start(const Job& job) override;
  [[nodiscard]] bool ready() override;
  [[nodiscard]] Status finish() override;
  void abandon() override;
  void attach(std::span<std::byte> memory) override;

 private:
  struct Flight;
  class Link;

  [[nodiscard]] Status open(std::chrono::steady_clock::time_point end);
  [[nodiscard]] Status open_within(std::chrono::milliseconds time);
  [[nodiscard]] Status shake_hands(int socket, std::chrono::steady_clock::time_point end,
                                   remote::Token& session);
  void recover();
  [[nodiscard]] bool can_send_again(Error why) const;
  void post_waiting();

  Connect connect_;
  RemoteDeviceOptions options_;
  remote::Token client_{};
  std::shared_ptr<const model::Plan> plan_;
  std::uint64_t plan_bytes_ = 0;
  model::Digest digest_{};
  std::size_t max_batch_ = 0;
  JobLayers layers_;
  std::deque<Flight> flights_;  // started and not finished, oldest first
  std::unique_ptr<Link> link_;  // null: given up until attach()
  std::uint64_t next_id_ = 0;   // in this session
  std::size_t cuts_ = 0;        // since a job was done
  bool abandoned_ = false;
  bool busy_ = false;  // said the peer, to the last hello
};

// open_remote makes a RemoteDevice for HOST:PORT. kInvalidArgument: that is no address.
[[nodiscard]] Result<std::unique_ptr<Device>> make_remote_device(
    std::string_view address, const RemoteDeviceOptions& options);

}  // namespace slalom::device

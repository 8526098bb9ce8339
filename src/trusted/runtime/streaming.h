// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/arena.h"
#include "base/thread_pool.h"
#include "channel/port.h"
#include "model/plan.h"
#include "runtime/checks.h"
#include "runtime/executor.h"
#include "runtime/lane.h"
#include "runtime/pass.h"
#include "runtime/program.h"
#include "slalom/result.h"
#include "vault/pads.h"

namespace slalom::runtime {

// StreamingExecutor is the integer executor: lanes of micro-batches over any number of ports.
//
// The order of things. Images go into lanes in the order of the source and leave in the same order.
// A lane does its steps until it waits for an answer; then the next lane gets the processor. When
// all of them wait, so does this thread.
//
// What goes wrong.
//  - A verdict is not good: the images of that lane fail with kRejected, its port is never used
//  again,
//    the challenge set serves no new attempt. Nothing is tried again.
//  - A port closes itself because of what the device sent: the same for the lane that waited
//  longest.
//  - A port is silent for too long, or gone: lanes on it start again from their inputs on another
//  port,
//    as new attempts with new pads and the newest challenge set. Without another port they fail
//    with kUnavailable.
//  - The pads cannot be had: the lane fails; its slot is not used before the device has answered.
class StreamingExecutor final : public Executor {
 public:
  struct Parts {
    const model::Plan& plan;
    Options options;
    std::vector<channel::Port*> ports;
    vault::Pads* pads = nullptr;  // null without privacy
    field::Random* random = nullptr;
  };
  [[nodiscard]] static Result<std::unique_ptr<Executor>> create(const Parts& parts,
                                                                const Placement& placement);
  ~StreamingExecutor() override;

  [[nodiscard]] Status run(Source& source, Sink& sink) override;
  [[nodiscard]] Stats stats() const noexcept override;

 private:
  using Clock = std::chrono::steady_clock;

  struct Device {
    channel::Port* port = nullptr;
    bool live = true;
    Error lost;                       // why it is not live
    std::size_t owed = 0;             // requests without an answer
    Clock::time_point waiting_since;  // of the request that is next to be answered
  };

  explicit StreamingExecutor(const Parts& parts);
  Status prepare(const Placement& placement);
  Status prepare_lanes();
  Status prepare_slots();
  void write_constants() noexcept;

  [[nodiscard]] Status stream(Source& source, Sink& sink);

  // Images in and out.
  void fill_lanes(Source& source);
  [[nodiscard]] bool next_image(Source& source, Lane& lane);
  void deliver_ready(Sink& sink);
  void deliver(const Lane& lane, Sink& sink);

  // Lanes.
  void begin_attempt(Lane& lane);
  [[nodiscard]] std::optional<std::size_t> choose_port() const noexcept;
  [[nodiscard]] Status take_tickets(Lane& lane);
  void destroy_tickets(Lane& lane) noexcept;
  [[nodiscard]] bool advance(Lane& lane);
  [[nodiscard]] bool submit(Lane& lane, const Upload& upload);
  void finish(Lane& lane);
  void fail(Lane& lane, Error error) noexcept;
  void settle(Lane& lane) noexcept;
  void fail_running(Error error) noexcept;

  // Devices.
  // usable says that work can go on: there is a device, or none is needed.
  [[nodiscard]] bool usable() const noexcept;
  [[nodiscard]] bool collect(std::size_t device);
  void take_answer(std::size_t device, const channel::Completion& completion);
  void breach(std::size_t device, Error error);
  void lose(std::size_t device, Error error);
  [[nodiscard]] Error why_no_device() const noexcept;
  [[nodiscard]] bool collect_all();
  void wait_for_answer();
  void watch_clock();

  Parts parts_;
  base::ThreadPool pool_;
  Operators operators_;
  Program program_;
  std::unique_ptr<Checks> checks_;
  std::unique_ptr<Pass> pass_;
  base::SecretArena memory_;
  std::vector<Lane> lanes_;
  std::vector<Device> devices_;
  std::vector<std::uint8_t> staging_;  // one image, where a plan has several inputs
  std::vector<OutputView> views_;
  std::uint64_t next_attempt_ = 0;
  std::uint64_t next_image_ = 0;   // to be read from the source of this run
  std::uint64_t next_output_ = 0;  // to be given to the sink of this run
  bool exhausted_ = false;
  Stats stats_;
  std::chrono::nanoseconds wall_{}, waited_{};
  std::uint64_t device_ns_ = 0;
};

}  // namespace slalom::runtime

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "outside.h"
#include "support/engine_runs.h"
#include "support/test_device.h"
#include "system/liar/orders.h"
#include "untrusted/host/engine.h"
#include "untrusted/host/process.h"

namespace slalom::testing {

// What must come of a lie. kRejected: the images it touched are rejected. kUnavailable: the device
// is given up and the work goes on elsewhere. kEither: one of these, or the lie came too late to
// matter and the released answer is right.
enum class Fate { kRejected, kUnavailable, kEither };
inline Fate fate_of(Lie lie) {
  switch (lie) {
    case Lie::kFailed:
    case Lie::kLate:
    case Lie::kNever:
    case Lie::kCrash:
      return Fate::kUnavailable;
    case Lie::kRewrite:
    case Lie::kTwice:
    case Lie::kOutOfOrder:
      return Fate::kEither;
    default:
      return Fate::kRejected;
  }
}

// LiarBench is one plan, one resident liar and one resident trusted process with kLiars devices,
// all of them connections to that liar.
class LiarBench {
 public:
  static constexpr std::size_t kLiars = 4;

  LiarBench(const std::string& plan_file, const std::string& socket, std::size_t max_batch)
      : memory_(*outside::SharedMemory::create(sizeof(Orders))),
        orders_(*new (memory_.bytes().data()) Orders{}) {
    orders_.layer = kAnyLayer;
    orders_.watched = kAnyLayer;
    if (!device::make_device(SLALOM_TEST_DEVICE, 1).ok()) return;  // the test is skipped
    const std::array<int, 1> passed{memory_.descriptor()};
    auto child = host::Child::spawn(
        LIAR_PROGRAM,
        {"--plan", plan_file, "--listen", socket, "--orders-fd", "3", "--max-batch",
         std::to_string(max_batch), "--device", SLALOM_TEST_DEVICE},
        passed);
    EXPECT_TRUE(child.ok());
    if (child.ok()) liar_ = std::move(*child);
    for (int turn = 0; turn < 6000 && !orders_.ready; ++turn) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    options_.plan_file = plan_file;
    options_.devices.assign(kLiars, "unix:" + socket);
    options_.trusted_program = TRUSTED_PROGRAM;
  }

  // modes starts the engine, or gives a running one fresh devices and other modes.
  void modes(const host::Modes& modes) {
    orders_.late_ms = static_cast<std::uint32_t>(3 * modes.options.timeout.count());
    if (!engine_) {
      options_.modes = modes;
      auto engine = host::Engine::start(options_);
      ASSERT_TRUE(engine.ok()) << engine.failure().message;
      engine_ = std::move(*engine);
      return;
    }
    const host::Done done = engine_->reconfigure(modes);
    ASSERT_TRUE(done.ok()) << done.failure().message;
  }

  // start starts a new trusted process; stop ends it.
  [[nodiscard]] host::Done start(const host::Modes& modes) {
    stop();
    options_.modes = modes;
    auto engine = host::Engine::start(options_);
    if (!engine.ok()) return engine.failure();
    engine_ = std::move(*engine);
    return {};
  }
  void stop() { engine_.reset(); }

  // watch makes the liar keep what it is sent for one layer; seen gives what came since the last
  // call.
  void watch(std::uint32_t layer) { orders_.watched = layer; }
  std::span<const Fingerprint> seen() {
    const std::size_t from = std::exchange(read_, orders_.images.load());
    return std::span(orders_.seen).subspan(from, read_ - from);
  }

  // order tells the i-th device to tell the i-th lie at `layer`; the others are honest.
  void order(std::uint32_t layer, std::span<const Lie> lies, std::uint32_t skip = 0) {
    orders_.layer = layer;
    for (std::size_t i = 0; i < kMaxLiars; ++i) {
      orders_.one[i].lie = i < lies.size() ? lies[i] : Lie::kNone;
      orders_.one[i].skip = skip;
      orders_.one[i].told = 0;
    }
  }
  [[nodiscard]] std::uint32_t told(std::size_t i) const { return orders_.one[i].told; }

  // run sends images and returns the run's error code, if it failed.
  Answers run(std::uint64_t images, unsigned seed, std::optional<Errc>* error = nullptr) {
    Images source(images, seed);
    Answers out;
    const host::Done done = engine_->run(source, out);
    if (error != nullptr) {
      *error = done.ok() ? std::nullopt : std::optional(done.failure().code);
    } else {
      EXPECT_TRUE(done.ok()) << done.failure().message;
    }
    return out;
  }

  [[nodiscard]] host::Engine& engine() { return *engine_; }
  [[nodiscard]] const host::Child& liar() const { return liar_; }

 private:
  outside::SharedMemory memory_;
  Orders& orders_;
  std::size_t read_ = 0;  // of orders_.seen
  host::Child liar_;
  host::EngineOptions options_;
  std::unique_ptr<host::Engine> engine_;
};

// expect_caught lets the i-th of at most kLiars devices tell the i-th lie at one layer, one after
// another (one micro-batch at a time), and expects that each is caught: nothing is released, every
// rejecting lie costs exactly one micro-batch, and the run ends with the right error. If there are
// fewer lies than devices, the last lie is told by the rest.
// Returns the number of lies told. REQUIRES: lies of a certain fate, in_flight == 1.
inline std::size_t expect_caught(LiarBench& bench, host::Modes modes, std::uint32_t layer,
                                 std::span<const Lie> lies, unsigned seed) {
  std::vector<Lie> all(lies.begin(), lies.end());
  while (all.size() < LiarBench::kLiars) all.push_back(lies.back());
  const auto rejecting = static_cast<std::size_t>(std::count_if(
      all.begin(), all.end(), [](Lie lie) { return fate_of(lie) == Fate::kRejected; }));
  const std::size_t batch = modes.options.micro_batch;
  // A machine under load lets a device pass its time-out before it lies, or its lie come after it.
  // Such a round counts as nothing and is played again with more time; in no round is an answer
  // released.
  for (int attempt = 0;; ++attempt, modes.options.timeout *= 2) {
    bench.modes(modes);
    if (::testing::Test::HasFatalFailure()) return 0;
    bench.order(layer, all);
    std::optional<Errc> error;
    const Answers out = bench.run(batch * (all.size() + 1), seed, &error);
    EXPECT_TRUE(out.released.empty()) << out.released.size() << " released";
    EXPECT_EQ(bench.engine().stats()->images, 0U);
    std::size_t told = 0;
    for (std::size_t i = 0; i < all.size(); ++i) told += bench.told(i) > 0 ? 1 : 0;
    const auto rejected = static_cast<std::size_t>(
        std::count_if(out.failed.begin(), out.failed.end(),
                      [](const auto& failed) { return failed.second == Errc::kRejected; }));
    if ((told < all.size() || rejected < rejecting * batch) && attempt < 4) continue;
    EXPECT_EQ(told, all.size());
    EXPECT_EQ(rejected, rejecting * batch);
    EXPECT_EQ(error, rejecting > 0 ? Errc::kRejected : Errc::kUnavailable);
    return told;
  }
}

}  // namespace slalom::testing

// SPDX-License-Identifier: Apache-2.0
// The real trusted process and a worker that passes jobs on over TCP: every mode gives the same
// integers, every lie is caught, and a network that cuts, changes or holds back bytes costs
// answers, never makes a wrong one.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "support/engine_runs.h"
#include "support/plans.h"
#include "support/relay.h"
#include "support/remote_worker.h"
#include "system/liar/lies.h"
#include "system/liar/orders.h"
#include "untrusted/host/engine.h"

namespace slalom {
namespace {

using namespace std::chrono_literals;
using host::Engine;
using host::EngineOptions;
using host::Modes;
using model::Integrity;
using model::Privacy;
using testing::Answers;
using testing::Folder;
using testing::Images;
using testing::Lie;
using testing::Relay;
using testing::RemoteWorker;

// What a lying worker is to do; outlives it.
struct LieOrder {
  std::atomic<Lie> lie = Lie::kNone;
  std::atomic<std::uint32_t> layer = testing::kAnyLayer;
  std::atomic<int> told = 0;
};

// Liar computes honestly and then changes the answer as ordered.
class Liar final : public device::Device {
 public:
  explicit Liar(LieOrder& order)
      : order_(order), honest_({.cpu = base::detect_cpu(), .threads = 1}) {}
  Status load(std::shared_ptr<const model::Plan> plan, std::size_t max_batch) override {
    plan_ = plan;
    return honest_.load(std::move(plan), max_batch);
  }
  Status run(const device::Job& job) override {
    SLALOM_TRY(honest_.run(job));
    if (order_.lie == Lie::kNone || order_.layer != job.layer) return {};
    const std::vector<std::byte> truth(job.output.begin(), job.output.end());
    const auto& linear = std::get<model::Linear>(plan_->nodes[job.layer].op);
    const testing::AnswerWords words{job.output, job.field, job.batch, linear.out().positions(),
                                     linear.out().c};
    testing::alter(order_.lie, words, {}, {}, random_);
    if (std::equal(truth.begin(), truth.end(), job.output.begin())) {
      testing::alter(Lie::kElement, words, {}, {}, random_);
    }
    ++order_.told;
    return {};
  }

 private:
  LieOrder& order_;
  device::CpuDevice honest_;
  std::shared_ptr<const model::Plan> plan_;
  std::mt19937_64 random_{1};
};

class RemoteTest : public ::testing::Test {
 protected:
  EngineOptions options(std::vector<std::string> devices, const Modes& modes) {
    EngineOptions o;
    o.plan_file = plan_file_;
    o.devices = std::move(devices);
    o.device_threads = 1;
    o.modes = modes;
    o.trusted_program = TRUSTED_PROGRAM;
    o.device_program = DEVICE_PROGRAM;
    return o;
  }
  [[nodiscard]] Modes modes(Integrity integrity, Privacy privacy,
                            std::chrono::milliseconds timeout = 10s) const {
    Modes m;
    m.options.integrity = integrity;
    m.options.privacy = privacy;
    m.options.threads = 1;
    m.options.timeout = timeout;
    if (privacy == Privacy::kPads) m.pad_store = folder_.file("pads");
    return m;
  }
  std::unique_ptr<Engine> start(std::vector<std::string> devices, const Modes& m) {
    auto engine = Engine::start(options(std::move(devices), m));
    EXPECT_TRUE(engine.ok()) << engine.failure().message;
    return engine.ok() ? std::move(*engine) : nullptr;
  }
  // run gives what was released, and why the run ended early if it did.
  static Answers run(Engine& engine, std::uint64_t images, std::optional<host::Failure>& failure) {
    Images source(images, 1);
    Answers out;
    const host::Done done = engine.run(source, out);
    failure = done.ok() ? std::nullopt : std::optional(done.failure());
    return out;
  }
  void expect_all(Engine& engine, std::uint64_t images) {
    std::optional<host::Failure> failure;
    const Answers out = run(engine, images, failure);
    EXPECT_FALSE(failure.has_value()) << failure->message;
    EXPECT_TRUE(out.failed.empty());
    EXPECT_EQ(out.released.size(), images);
    expect_right(out);
  }
  void expect_right(const Answers& out) {
    for (const auto& image : out.released) {
      ASSERT_EQ(image, expected_.released.at(static_cast<std::size_t>(image.number)));
    }
  }
  void SetUp() override {
    const auto engine = start({"none"}, modes(Integrity::kOff, Privacy::kOff));
    ASSERT_NE(engine, nullptr);
    std::optional<host::Failure> failure;
    expected_ = run(*engine, kMost, failure);
    ASSERT_EQ(expected_.released.size(), kMost);
  }

  static constexpr std::uint64_t kMost = 400;
  Folder folder_;
  std::string plan_file_ = folder_.write("plan.slalom", testing::small_network());
  Answers expected_;
};

std::string tcp(const std::string& address) { return "tcp:" + address; }

TEST_F(RemoteTest, EveryModeGivesTheSameIntegers) {
  const RemoteWorker worker;
  const auto engine = start({tcp(worker.address())}, modes(Integrity::kOff, Privacy::kOff));
  ASSERT_NE(engine, nullptr);
  for (const Integrity integrity :
       {Integrity::kOff, Integrity::kPlain, Integrity::kBatched, Integrity::kPreprocessed}) {
    for (const Privacy privacy : {Privacy::kOff, Privacy::kPads}) {
      const host::Done done = engine->reconfigure(modes(integrity, privacy));
      ASSERT_TRUE(done.ok()) << done.failure().message;
      expect_all(*engine, 11);
      EXPECT_EQ(engine->stats()->checks_failed, 0U);
      EXPECT_GT(engine->stats()->device_s, 0);
    }
  }
}

TEST_F(RemoteTest, SeveralMachinesShareTheWork) {
  const RemoteWorker one;
  const RemoteWorker two;
  const auto engine = start({tcp(one.address()), "cpu", tcp(two.address())},
                            modes(Integrity::kPreprocessed, Privacy::kPads));
  ASSERT_NE(engine, nullptr);
  expect_all(*engine, 60);
}

TEST_F(RemoteTest, EveryLieIsCaught) {
  LieOrder order;
  const RemoteWorker worker({.make_device = [&]() -> Result<std::unique_ptr<device::Device>> {
    std::unique_ptr<device::Device> out = std::make_unique<Liar>(order);
    return out;
  }});
  const auto engine = start({tcp(worker.address())}, modes(Integrity::kPlain, Privacy::kOff));
  ASSERT_NE(engine, nullptr);
  const auto placement = runtime::default_placement(*engine->plan());
  int round = 0;
  for (std::uint32_t layer = 0; layer < placement.remote.size(); ++layer) {
    if (!placement.remote[layer]) continue;
    for (auto lie = static_cast<std::uint32_t>(Lie::kBit);
         lie <= static_cast<std::uint32_t>(Lie::kAboveP); ++lie, ++round) {
      constexpr std::array kForms{Integrity::kPlain, Integrity::kBatched, Integrity::kPreprocessed};
      const Privacy privacy = round % 2 == 0 ? Privacy::kOff : Privacy::kPads;
      const host::Done done = engine->reconfigure(modes(kForms[round % kForms.size()], privacy));
      ASSERT_TRUE(done.ok()) << done.failure().message;
      order.told = 0;
      order.layer = layer;
      order.lie = static_cast<Lie>(lie);
      std::optional<host::Failure> failure;
      const Answers out = run(*engine, 4, failure);
      order.lie = Lie::kNone;
      ASSERT_TRUE(failure.has_value());
      EXPECT_EQ(failure->code, Errc::kRejected);
      EXPECT_TRUE(out.released.empty());
      EXPECT_GT(order.told, 0);
    }
  }
  EXPECT_GE(round, 60);
  // The operator lets it in again, and it is honest.
  ASSERT_TRUE(engine->reconfigure(modes(Integrity::kPreprocessed, Privacy::kOff)).ok());
  expect_all(*engine, 11);
}

// A cut costs time: jobs without an answer are sent again.
TEST_F(RemoteTest, RunsGoOnAfterACut) {
  const RemoteWorker worker;
  Relay relay(worker.address());
  const auto engine =
      start({tcp(relay.address())}, modes(Integrity::kPreprocessed, Privacy::kPads));
  ASSERT_NE(engine, nullptr);
  std::mt19937 random(2);
  for (int round = 0; round < 8; ++round) {
    relay.cut_after(round % 2 == 0 ? Relay::To::kWorker : Relay::To::kHost,
                    static_cast<std::int64_t>(random() % 300'000));
    expect_all(*engine, kMost);
    EXPECT_EQ(relay.cuts(), round + 1);
  }
}

TEST_F(RemoteTest, ChangedBytesAreRejectedOrUnavailableNeverWrong) {
  const RemoteWorker worker;
  Relay relay(worker.address());
  const auto engine =
      start({tcp(relay.address())}, modes(Integrity::kPreprocessed, Privacy::kOff, 1s));
  ASSERT_NE(engine, nullptr);
  std::mt19937 random(3);
  int harmed = 0;
  for (int round = 0; round < 30; ++round) {
    const host::Done done = engine->reconfigure(
        modes(Integrity::kPreprocessed, round % 2 == 0 ? Privacy::kOff : Privacy::kPads, 1s));
    ASSERT_TRUE(done.ok()) << done.failure().message;
    relay.flip_at(round % 3 == 0 ? Relay::To::kWorker : Relay::To::kHost,
                  static_cast<std::int64_t>(random() % 100'000));
    std::optional<host::Failure> failure;
    const Answers out = run(*engine, 100, failure);
    expect_right(out);
    if (failure) {
      ++harmed;
      EXPECT_TRUE(failure->code == Errc::kRejected || failure->code == Errc::kUnavailable);
    } else {
      // A number that only statistics use, or a header that a new session put right.
      EXPECT_EQ(out.released.size(), 100U);
    }
  }
  EXPECT_GE(relay.flips(), 25);
  EXPECT_GE(harmed, 15);
}

TEST_F(RemoteTest, AStallEndsAtTheTimeoutAndTheDeviceComesBack) {
  const RemoteWorker worker;
  Relay relay(worker.address());
  const auto engine = start({tcp(relay.address())}, modes(Integrity::kPreprocessed, Privacy::kOff));
  ASSERT_NE(engine, nullptr);
  expect_all(*engine, 11);
  // More requests than the way to the worker holds: none of them may hold the local worker.
  Modes many = modes(Integrity::kPreprocessed, Privacy::kOff, 400ms);
  many.options.micro_batch = 1;
  many.options.in_flight = 32;
  ASSERT_TRUE(engine->reconfigure(many).ok());
  relay.stalled = true;
  const auto begin = std::chrono::steady_clock::now();
  std::optional<host::Failure> failure;
  const Answers out = run(*engine, 100, failure);
  EXPECT_TRUE(out.released.empty());
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->code, Errc::kUnavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 8s);
  relay.stalled = false;
  ASSERT_TRUE(engine->reconfigure(modes(Integrity::kPreprocessed, Privacy::kOff)).ok());
  expect_all(*engine, 11);
}

TEST_F(RemoteTest, ADelayIsOnlySlow) {
  const RemoteWorker worker;
  Relay relay(worker.address());
  const auto engine = start({tcp(relay.address())}, modes(Integrity::kBatched, Privacy::kPads));
  ASSERT_NE(engine, nullptr);
  relay.delay_us = 2000;
  expect_all(*engine, 40);
}

// A machine is lost for good: its micro-batches start again from their inputs on another.
TEST_F(RemoteTest, ALostMachineIsReplacedByAnother) {
  auto worker = std::make_unique<RemoteWorker>();
  Relay relay(worker->address());
  const auto engine =
      start({tcp(relay.address()), "cpu"}, modes(Integrity::kPreprocessed, Privacy::kPads));
  ASSERT_NE(engine, nullptr);
  relay.unreachable = true;
  relay.cut_after(Relay::To::kHost, 40'000);
  expect_all(*engine, kMost);
  EXPECT_EQ(relay.cuts(), 1);
  EXPECT_GT(engine->stats()->pads_used, kMost);
}

TEST_F(RemoteTest, ErrorsNameTheWorkerAndTheReason) {
  const auto fails = [&](const std::string& device, Errc code, const char* reason) {
    const auto engine =
        Engine::start(options({device}, modes(Integrity::kPreprocessed, Privacy::kOff)));
    ASSERT_FALSE(engine.ok());
    EXPECT_EQ(engine.failure().code, code);
    EXPECT_NE(engine.failure().message.find(device), std::string::npos) << engine.failure().message;
    EXPECT_NE(engine.failure().message.find(reason), std::string::npos) << engine.failure().message;
  };
  std::string nobody;
  {
    const RemoteWorker worker;
    nobody = worker.address();
  }
  fails(tcp(nobody), Errc::kUnavailable, "connection refused");
  const RemoteWorker worker;
  const auto engine =
      start({tcp(worker.address())}, modes(Integrity::kPreprocessed, Privacy::kOff));
  fails(tcp(worker.address()), Errc::kUnavailable, "busy");
  RemoteWorker::Options other = RemoteWorker::cpu();
  other.plan = std::make_shared<const model::Plan>(testing::small_network(2));
  other.digest = *model::plan_digest(model::encode_plan(*other.plan));
  const RemoteWorker another(other);
  fails(tcp(another.address()), Errc::kMalformed, "another plan");
  for (const char* wrong : {"tcp:", "tcp:host", "tcp:host:", "tcp:::1:70"}) {
    fails(wrong, Errc::kInvalidArgument, "is no device");
  }
}

}  // namespace
}  // namespace slalom

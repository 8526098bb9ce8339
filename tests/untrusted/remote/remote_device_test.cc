// SPDX-License-Identifier: Apache-2.0
// A remote device on a network that cuts, changes, holds back and forgets: every job gets one
// outcome, soon, and one that is said to be done is right when only the network was at fault.
#include "device/remote/remote_device.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "device/remote/streams.h"
#include "support/relay.h"
#include "support/remote_worker.h"
#include "untrusted/remote/jobs.h"

namespace slalom::device {
namespace {

using namespace std::chrono_literals;
using testing::Relay;
using testing::RemoteWorker;
using Clock = std::chrono::steady_clock;

class RemoteDeviceTest : public ::testing::Test {
 protected:
  std::unique_ptr<Device> open(const std::string& address, RemoteDeviceOptions options = {}) {
    auto device = make_remote_device(address, options);
    EXPECT_TRUE(device.ok());
    const Status loaded = (*device)->load(plan_, 1);
    EXPECT_TRUE(loaded.ok()) << loaded.error().message;
    return std::move(*device);
  }
  Status try_open(const std::string& address, RemoteDeviceOptions options = {}) {
    return (*make_remote_device(address, options))->load(plan_, 1);
  }
  // run_all keeps as many jobs begun as the device takes and returns their outcomes.
  std::vector<Status> run_all(Device& device, std::vector<std::unique_ptr<TestJob>>& jobs) {
    std::vector<Status> out;
    for (std::size_t begun = 0; out.size() < jobs.size();) {
      while (begun < jobs.size() && begun - out.size() < device.depth()) {
        EXPECT_TRUE(device.start(jobs[begun++]->job).ok());
      }
      out.push_back(device.finish());
    }
    return out;
  }
  std::vector<std::unique_ptr<TestJob>> some_jobs(int rounds) {
    std::vector<std::unique_ptr<TestJob>> jobs;
    for (int i = 0; i < rounds; ++i) {
      jobs.push_back(jobs_.make(0));
      jobs.push_back(jobs_.again(*jobs.back(), 1));
      jobs.push_back(jobs_.make(2));
    }
    return jobs;
  }
  void expect_works(Device& device) {
    auto jobs = some_jobs(1);
    for (const Status& status : run_all(device, jobs)) EXPECT_TRUE(status.ok());
    for (const auto& job : jobs) EXPECT_TRUE(job->right());
  }

  std::shared_ptr<const model::Plan> plan_ = test_plan();
  TestJobs jobs_{plan_};
};

TEST_F(RemoteDeviceTest, SaysWhyItCannotBeUsed) {
  std::string nobody;
  {
    const RemoteWorker worker;
    nobody = worker.address();
  }
  Status status = try_open(nobody);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kUnavailable);
  EXPECT_NE(std::string(status.error().message).find("connection refused"), std::string::npos);

  const RemoteWorker worker;
  const auto first = open(worker.address());
  status = try_open(worker.address(), {.busy = 100ms});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kUnavailable);
  EXPECT_NE(std::string(status.error().message).find("busy"), std::string::npos);
  expect_works(*first);  // the first is not disturbed

  RemoteWorker::Options options = RemoteWorker::cpu();
  options.plan = test_plan(2);
  options.digest = *model::plan_digest(model::encode_plan(*options.plan));
  const RemoteWorker other(options);
  status = try_open(other.address());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kMalformed);
  EXPECT_NE(std::string(status.error().message).find("another plan"), std::string::npos);

  EXPECT_EQ(make_remote_device("nowhere", {}).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(try_open(worker.address(), {.streams = 0}).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(try_open(worker.address(), {.streams = 17}).error().code, Errc::kInvalidArgument);
}

// What listens there is something else, of another version, or silent.
TEST_F(RemoteDeviceTest, DistrustsWhoeverListens) {
  const auto answered_with = [&](std::vector<std::byte> bytes) {
    auto socket = remote::listen_at({"127.0.0.1", "0"});
    std::thread peer([&] {
      for (pollfd one{.fd = socket->get(), .events = POLLIN, .revents = 0};
           poll(&one, 1, -1) < 1;) {
      }
      const outside::Descriptor client(accept(socket->get(), nullptr, nullptr));
      std::vector<std::byte> hello(remote::kHelloBytes);
      EXPECT_TRUE(remote::receive_all(client.get(), hello).ok());
      EXPECT_TRUE(remote::send_all(client.get(), bytes).ok());
      if (bytes.empty()) std::this_thread::sleep_for(300ms);
    });
    const Status status =
        try_open(remote::bound_address(socket->get()), {.greeting = 150ms, .loading = 150ms});
    peer.join();
    return status.error();
  };
  EXPECT_EQ(answered_with(remote::encode(remote::Welcome{.greeting = {.version = 9},
                                                         .reply = remote::Reply::kOtherVersion}))
                .code,
            Errc::kMalformed);
  EXPECT_EQ(answered_with(std::vector<std::byte>(100, std::byte{'H'})).code, Errc::kMalformed);
  EXPECT_EQ(answered_with({}).code, Errc::kUnavailable);
  EXPECT_EQ(answered_with(std::vector<std::byte>(5)).code, Errc::kUnavailable);
}

// The network hangs up after any number of bytes, in the greeting of the next session too.
TEST_F(RemoteDeviceTest, JobsSurviveCuts) {
  const RemoteWorker worker;
  Relay relay(worker.address());
  const auto device = open(relay.address(), {.again = 20s, .cuts = 10});
  std::mt19937 random(11);
  const auto before = relay.connections();
  for (int round = 0; round < 25; ++round) {
    auto jobs = some_jobs(2);
    // Inputs are 200 kB, answers up to 3 MB; a session begins with a few hundred bytes.
    const bool early = round % 3 == 0;
    const auto to = round % 2 == 0 ? Relay::To::kWorker : Relay::To::kHost;
    relay.cut_after(to, static_cast<std::int64_t>(
                            random() % (early ? 300 : (round % 2 == 0 ? 800'000 : 6'000'000))));
    const auto outcomes = run_all(*device, jobs);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      // A retained input is not sent again once the job that brought it has been answered.
      if (!outcomes[i].ok()) {
        EXPECT_EQ(outcomes[i].error().code, Errc::kUnavailable);
        device->attach({});
      } else {
        ASSERT_TRUE(jobs[i]->right()) << "round " << round << " job " << i;
      }
    }
    device->attach({});
  }
  EXPECT_GE(relay.cuts(), 15);
  EXPECT_GE(relay.connections(), before + 15);
}

TEST_F(RemoteDeviceTest, JobsWithInputsOfTheirOwnAreAlwaysSentAgain) {
  const RemoteWorker worker;
  Relay relay(worker.address());
  const auto device = open(relay.address(), {.again = 20s});
  for (int round = 0; round < 6; ++round) {
    std::vector<std::unique_ptr<TestJob>> jobs;
    jobs.reserve(6);
    for (int i = 0; i < 6; ++i) jobs.push_back(jobs_.make(i % 3 == 0 ? 0 : 2));
    relay.cut_after(Relay::To::kHost, 700'000 * round + 100);
    const auto outcomes = run_all(*device, jobs);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      ASSERT_TRUE(outcomes[i].ok()) << "round " << round << " job " << i;
      EXPECT_TRUE(jobs[i]->right());
    }
  }
  EXPECT_EQ(relay.cuts(), 6);
}

// An input of which an answer was given away is never sent a second time.
TEST_F(RemoteDeviceTest, AnInputThatWasAnsweredIsNotSentAgain) {
  const RemoteWorker worker;
  Relay relay(worker.address());
  const auto device = open(relay.address());
  const auto first = jobs_.make(0);
  ASSERT_TRUE(device->run(first->job).ok());
  const auto second = jobs_.again(*first, 1);
  relay.stalled = true;
  ASSERT_TRUE(device->start(second->job).ok());
  relay.cut();
  relay.stalled = false;
  const Status status = device->finish();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kUnavailable);
  device->attach({});
  expect_works(*device);
}

TEST_F(RemoteDeviceTest, APeerThatIsGoneFailsJobsSoonAndIsFoundAgain) {
  auto worker = std::make_unique<RemoteWorker>();
  const std::string address = worker->address();
  const auto device = open(address, {.again = 300ms});
  expect_works(*device);
  worker.reset();
  const auto begin = Clock::now();
  auto jobs = some_jobs(2);
  for (const Status& status : run_all(*device, jobs)) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Errc::kUnavailable);
  }
  device->attach({});  // still nobody
  auto more = some_jobs(1);
  for (const Status& status : run_all(*device, more)) EXPECT_FALSE(status.ok());
  EXPECT_LT(Clock::now() - begin, 10s);
  const RemoteWorker successor(RemoteWorker::cpu(), address);
  const auto job = jobs_.make(0);
  Status found = Error{};
  for (int turn = 0; turn < 50 && !found.ok(); ++turn) {  // it loads the plan in its own time
    device->attach({});
    found = device->run(job->job);
  }
  EXPECT_TRUE(found.ok());
  expect_works(*device);
}

// A peer that crashes is back before the tries are over.
TEST_F(RemoteDeviceTest, APeerThatStartsAgainGetsThePlanAndTheJobs) {
  auto worker = std::make_unique<RemoteWorker>();
  const std::string address = worker->address();
  const auto device = open(address, {.again = 20s});
  const auto job = jobs_.make(0);
  worker.reset();
  ASSERT_TRUE(device->start(job->job).ok());
  std::thread later([&] {
    std::this_thread::sleep_for(300ms);
    worker = std::make_unique<RemoteWorker>(RemoteWorker::cpu(), address);
  });
  const Status status = device->finish();
  later.join();
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_TRUE(job->right());
}

// More jobs than the window holds are begun; those that wait are sent when others are done, and
// fail with them.
TEST_F(RemoteDeviceTest, TakesMoreJobsThanTheWindowHolds) {
  auto worker = std::make_unique<RemoteWorker>();
  const auto device = open(worker->address(), {.again = 100ms});
  auto jobs = some_jobs(12);
  ASSERT_GT(jobs.size(), 3 * remote::kWindow);
  for (auto& job : jobs) ASSERT_TRUE(device->start(job->job).ok());
  for (auto& job : jobs) {
    ASSERT_TRUE(device->finish().ok());
    EXPECT_TRUE(job->right());
  }
  for (auto& job : jobs) ASSERT_TRUE(device->start(job->job).ok());
  worker.reset();
  std::size_t failed = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) failed += device->finish().ok() ? 0 : 1;
  EXPECT_GT(failed, 0U);
}

TEST_F(RemoteDeviceTest, AbandonedJobsEndAtOnce) {
  const RemoteWorker worker;
  Relay relay(worker.address());
  const auto device = open(relay.address());
  relay.stalled = true;
  const auto job = jobs_.make(0);
  ASSERT_TRUE(device->start(job->job).ok());
  EXPECT_FALSE(device->ready());
  const auto begin = Clock::now();
  device->abandon();
  EXPECT_FALSE(device->finish().ok());
  EXPECT_LT(Clock::now() - begin, 1s);
  relay.stalled = false;
  device->attach({});
  expect_works(*device);
}

// One bit is turned over anywhere: a job fails, or its words are wrong (the trusted side's matter),
// and nothing worse.
TEST_F(RemoteDeviceTest, ChangedBytesHurtNobody) {
  // A changed greeting of one stream keeps the worker waiting for it, at most for so long; who
  // comes next waits longer.
  auto options = RemoteWorker::cpu();
  options.greeting = 2s;
  const RemoteWorker worker(std::move(options));
  std::mt19937 random(5);
  int flips = 0;
  for (int round = 0; round < 40; ++round) {
    Relay relay(worker.address());
    const auto device = open(relay.address(), {.busy = 30s, .again = 500ms});
    const auto to = round % 2 == 0 ? Relay::To::kWorker : Relay::To::kHost;
    // Headers of the first jobs, or anywhere.
    relay.flip_at(to, static_cast<std::int64_t>(random() % (round % 4 < 2 ? 21 : 380'000)));
    auto jobs = some_jobs(1);
    // A job that the worker waits for the rest of has no outcome of its own: time is up.
    const auto begin = Clock::now();
    for (auto& job : jobs) ASSERT_TRUE(device->start(job->job).ok());
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      while (!device->ready() && Clock::now() - begin < 300ms) {
      }
      if (Clock::now() - begin >= 300ms) device->abandon();
      static_cast<void>(device->finish());
    }
    flips += relay.flips();
  }
  EXPECT_GE(flips, 10);
  const auto device = open(worker.address(), {.busy = 30s});
  expect_works(*device);
}

TEST_F(RemoteDeviceTest, WaitsForASlowNetwork) {
  const RemoteWorker worker;
  Relay relay(worker.address());
  const auto device = open(relay.address());
  relay.delay_us = 500;
  auto jobs = some_jobs(2);
  for (const Status& status : run_all(*device, jobs)) EXPECT_TRUE(status.ok());
  for (const auto& job : jobs) EXPECT_TRUE(job->right());
}

}  // namespace
}  // namespace slalom::device

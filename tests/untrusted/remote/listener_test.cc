// SPDX-License-Identifier: Apache-2.0
// A listener among hostile clients: whatever they send, the next honest client is served.
#include "device/remote/listener.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <random>
#include <thread>

#include "device/remote/remote_device.h"
#include "support/remote_worker.h"
#include "untrusted/remote/jobs.h"

namespace slalom::device::remote {
namespace {

using namespace std::chrono_literals;
using testing::RemoteWorker;

class ListenerTest : public ::testing::Test {
 protected:
  ListenerTest() {
    auto options = RemoteWorker::cpu();
    options.greeting = 500ms;
    worker_ = std::make_unique<RemoteWorker>(std::move(options));
  }
  outside::Descriptor connect() {
    auto socket = connect_to(*parse_address(worker_->address()), 2s);
    EXPECT_TRUE(socket.ok());
    limit(socket->get(), 5s);
    return std::move(*socket);
  }
  Hello hello(std::uint32_t streams = 1) {
    Hello out{.streams = streams, .max_batch = 1, .plan_bytes = bytes_.size(), .digest = digest_};
    for (auto& b : out.token) b = static_cast<std::byte>(random_());
    return out;
  }
  static Result<Welcome> receive(const outside::Descriptor& socket) {
    std::vector<std::byte> bytes(kWelcomeBytes);
    SLALOM_TRY(receive_all(socket.get(), bytes));
    return decode<Welcome>(bytes);
  }
  static void say(const outside::Descriptor& socket, std::span<const std::byte> bytes) {
    EXPECT_TRUE(send_all(socket.get(), bytes).ok());
  }
  // hung_up waits for the end of a connection, whatever comes before it.
  static bool hung_up(const outside::Descriptor& socket) {
    std::vector<std::byte> bytes(4096);
    for (ssize_t got = 1; got > 0;) {
      got = recv(socket.get(), bytes.data(), bytes.size(), 0);
      if (got == 0 || (got < 0 && errno == ECONNRESET)) return true;
    }
    return false;
  }
  // greet says hello until the last session, which may be ending, has ended.
  outside::Descriptor greet(Hello mine, Result<Welcome>& welcome) {
    for (int turn = 0;; ++turn) {
      outside::Descriptor socket = connect();
      say(socket, encode(mine));
      welcome = receive(socket);
      EXPECT_TRUE(welcome.ok());
      if (!welcome.ok() || welcome->reply != Reply::kBusy || turn == 200) return socket;
      std::this_thread::sleep_for(10ms);
    }
  }
  // open makes a session of one stream.
  outside::Descriptor open() {
    Result<Welcome> welcome = Welcome{};
    outside::Descriptor socket = greet(hello(), welcome);
    if (welcome.ok() && welcome->reply == Reply::kSendPlan) {
      say(socket, bytes_);
      welcome = receive(socket);
    }
    EXPECT_TRUE(welcome.ok() && welcome->reply == Reply::kReady);
    return socket;
  }
  void expect_serves() {
    auto device = make_remote_device(worker_->address(), {});
    const Status loaded = (*device)->load(plan_, 1);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    const auto job = jobs_.make(0);
    ASSERT_TRUE((*device)->run(job->job).ok());
    EXPECT_TRUE(job->right());
  }

  std::shared_ptr<const model::Plan> plan_ = test_plan();
  TestJobs jobs_{plan_};
  std::vector<std::byte> bytes_ = model::encode_plan(*plan_);
  model::Digest digest_ = *model::plan_digest(bytes_);
  std::mt19937 random_{1};
  std::unique_ptr<RemoteWorker> worker_;
};

TEST_F(ListenerTest, TellsAnotherVersionItsOwn) {
  const auto socket = connect();
  say(socket, encode(Greeting{.version = 2}));
  const auto welcome = receive(socket);
  ASSERT_TRUE(welcome.ok());
  EXPECT_EQ(welcome->reply, Reply::kOtherVersion);
  EXPECT_EQ(welcome->greeting.version, kVersion);
  EXPECT_TRUE(hung_up(socket));
  expect_serves();
}

TEST_F(ListenerTest, HangsUpOnStrangersAndTheSilent) {
  const auto stranger = connect();
  say(stranger, std::as_bytes(std::span("GET / HTTP/1.1\r\n\r\n")));
  EXPECT_TRUE(hung_up(stranger));
  const auto half = connect();
  say(half, std::span<const std::byte>(encode(hello())).first(40));
  const auto silent = connect();
  expect_serves();  // beside them
  EXPECT_TRUE(hung_up(half));
  EXPECT_TRUE(hung_up(silent));
  const auto nobody = connect();
  Hello join{.purpose = Purpose::kJoin, .stream = 1};
  say(nobody, encode(join));
  EXPECT_TRUE(hung_up(nobody));
  Hello broken = hello();
  broken.max_batch = 100'000;
  const auto greedy = connect();
  say(greedy, encode(broken));
  EXPECT_TRUE(hung_up(greedy));
  expect_serves();
}

TEST_F(ListenerTest, RefusesAPlanThatIsNotTheOneAnnounced) {
  for (int which = 0; which < 4; ++which) {
    Hello mine = hello();
    auto bytes = bytes_;
    if (which == 0) bytes[bytes.size() / 2] ^= std::byte{1};
    if (which == 1) mine.digest[0] ^= std::byte{1};
    if (which == 2) bytes = std::vector<std::byte>(100, std::byte{9});
    if (which == 3) ++mine.plan_bytes;  // and less comes
    if (which == 2) mine.plan_bytes = bytes.size();
    Result<Welcome> welcome = Welcome{};
    const auto socket = greet(mine, welcome);
    ASSERT_TRUE(welcome.ok());
    ASSERT_EQ(welcome->reply, Reply::kSendPlan);
    say(socket, bytes);
    const auto verdict = receive(socket);
    ASSERT_TRUE(verdict.ok());
    EXPECT_EQ(verdict->reply, Reply::kCannotLoad);
    EXPECT_TRUE(hung_up(socket));
  }
  expect_serves();
}

TEST_F(ListenerTest, RefusesWhatNoMemoryHolds) {
  if (outside::process_state().memory_bytes / 4 < kMostPlanBytes) {
    const auto greedy = connect();
    Hello large = hello();
    large.plan_bytes = kMostPlanBytes;
    say(greedy, encode(large));
    EXPECT_EQ(receive(greedy)->reply, Reply::kCannotLoad);
  }
  Hello mine = hello();
  mine.max_batch = 1024;  // 4 GiB for an answer
  Result<Welcome> welcome = Welcome{};
  const auto socket = greet(mine, welcome);
  ASSERT_EQ(welcome->reply, Reply::kSendPlan);
  say(socket, bytes_);
  EXPECT_EQ(receive(socket)->reply, Reply::kCannotLoad);
  expect_serves();
}

// Jobs that break a rule end their session, whatever they are.
TEST_F(ListenerTest, EndsASessionThatBreaksARule) {
  const auto good = jobs_.make(0);
  const auto size = static_cast<std::uint32_t>(good->input.size());
  const JobHeader honest{.layer = 0,
                         .batch = 1,
                         .kind = 1,
                         .field = static_cast<std::uint8_t>(good->job.field),
                         .input_bytes = size,
                         .part_bytes = size};
  const std::vector<std::function<void(JobHeader&)>> changes = {
      [](JobHeader& m) { m.id = 1ULL << 40; },
      [](JobHeader& m) { m.layer = 77; },
      [](JobHeader& m) { m.batch = 2; },
      [](JobHeader& m) { m.kind = 2; },
      [](JobHeader& m) { m.kind = 9; },
      [](JobHeader& m) { m.field = 7; },
      [](JobHeader& m) { --m.part_bytes; },
      [](JobHeader& m) { --m.input_bytes; },
      [](JobHeader& m) { m.input_bytes = m.part_bytes = 0xffffffff; },
      [](JobHeader& m) { m.input_bytes = m.part_bytes = 0; }};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const auto socket = open();
    JobHeader bad = honest;
    changes[i](bad);
    say(socket, encode(bad));
    EXPECT_TRUE(hung_up(socket)) << "change " << i;
    expect_serves();
  }
  // The same job twice, when its answer is on its way and after.
  const auto socket = open();
  say(socket, encode(honest));
  say(socket, good->input);
  say(socket, encode(honest));
  EXPECT_TRUE(hung_up(socket));
  expect_serves();
}

TEST_F(ListenerTest, AJobThatCannotBeComputedIsAnswered) {
  const auto socket = open();
  const auto lost = jobs_.again(*jobs_.make(0), 1);
  say(socket, encode(JobHeader{.attempt = 99,
                               .layer = 1,
                               .batch = 1,
                               .kind = 3,
                               .field = static_cast<std::uint8_t>(lost->job.field)}));
  std::vector<std::byte> bytes(kAnswerBytes);
  ASSERT_TRUE(receive_all(socket.get(), bytes).ok());
  const auto answer = decode<AnswerHeader>(bytes);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->status, static_cast<std::uint8_t>(Errc::kUnavailable));
  EXPECT_EQ(answer->part_bytes, 0U);
}

// A session of several streams waits for them, and not for ever.
TEST_F(ListenerTest, GivesUpAClientWhoseStreamsDoNotCome) {
  { const auto loaded = open(); }
  Result<Welcome> welcome = Welcome{};
  const outside::Descriptor socket = greet(hello(3), welcome);
  ASSERT_TRUE(welcome.ok());
  ASSERT_EQ(welcome->reply, Reply::kReady);
  const auto second = connect();
  say(second, encode(Hello{.purpose = Purpose::kJoin, .token = welcome->session, .stream = 2}));
  const auto twice = connect();
  say(twice, encode(Hello{.purpose = Purpose::kJoin, .token = welcome->session, .stream = 2}));
  EXPECT_TRUE(hung_up(twice));
  EXPECT_TRUE(hung_up(socket));
  expect_serves();
}

// Random bytes in place of jobs.
TEST_F(ListenerTest, SurvivesNoise) {
  for (int round = 0; round < 30; ++round) {
    const auto socket = open();
    std::vector<std::byte> noise(1 + random_() % 5000);
    for (auto& b : noise) b = static_cast<std::byte>(random_() % (round % 2 == 0 ? 256 : 5));
    say(socket, noise);
    ::shutdown(socket.get(), SHUT_WR);
    EXPECT_TRUE(hung_up(socket));
  }
  expect_serves();
}

}  // namespace
}  // namespace slalom::device::remote

// SPDX-License-Identifier: Apache-2.0
// The control protocol as a client sees it, over a real socket.
#include "session/server.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include "support/sanitizers.h"
#include "support/session_fakes.h"

namespace slalom::session {
namespace {

using testing::FakeMakers;
using testing::session_plan;
using testing::socket_pair;

struct Frame {
  Kind kind = Kind::kHello;
  std::vector<std::byte> payload;
  outside::Descriptor passed;
};

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() { connect(); }
  ~ServerTest() override { disconnect(); }

  void connect() {
    auto [ours, theirs] = socket_pair();
    wire_.emplace(std::move(ours));
    thread_ = std::thread([this, socket = std::move(theirs)]() mutable {
      Wire wire(std::move(socket));
      asked_to_end_ = serve_connection(service_, wire);
    });
  }
  void disconnect() {
    wire_.reset();
    if (thread_.joinable()) thread_.join();
  }

  template <class Message>
  void send(Kind kind, const Message& message, int descriptor = -1) {
    ASSERT_TRUE(wire_->send(kind, encode(message), descriptor).ok());
  }
  void send(Kind kind) { ASSERT_TRUE(wire_->send(kind).ok()); }

  std::optional<Frame> receive() {
    Frame frame;
    const auto header = wire_->receive_header(&frame.passed);
    if (!header.ok()) return std::nullopt;
    frame.kind = header->kind;
    frame.payload.resize(header->bytes);
    if (!wire_->receive_payload(frame.payload).ok()) return std::nullopt;
    return frame;
  }
  template <class Message>
  Message expect(Kind kind) {
    const auto frame = receive();
    EXPECT_TRUE(frame);
    if (!frame) return {};
    EXPECT_EQ(frame->kind, kind);
    auto message = decode<Message>(frame->payload);
    EXPECT_TRUE(message.ok());
    return message.ok() ? std::move(*message) : Message{};
  }
  void expect_done() {
    const auto frame = receive();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->kind, Kind::kDone);
    EXPECT_TRUE(frame->payload.empty());
  }
  // send_breach sends what ends the connection. The server may hang up when it has seen the header,
  // and the rest then finds nobody.
  void send_breach(Kind kind, std::size_t bytes) {
    static_cast<void>(wire_->send(kind, std::vector<std::byte>(bytes)));
  }
  // The server says what is wrong, once, and hangs up.
  void expect_end() {
    EXPECT_EQ(expect<ErrorText>(Kind::kError).code, Errc::kMalformed);
    EXPECT_FALSE(receive());
  }

  void hello() {
    send(Kind::kHello, Hello{});
    expect<Welcome>(Kind::kWelcome);
  }
  PlanLoaded load(std::size_t chunk = 1000) {
    const auto bytes = model::encode_plan(session_plan());
    send(Kind::kPlan, PlanSize{bytes.size()});
    for (std::size_t at = 0; at < bytes.size(); at += chunk) {
      const auto part = std::span(bytes).subspan(at, std::min(chunk, bytes.size() - at));
      EXPECT_TRUE(wire_->send(Kind::kPlanBytes, part).ok());
    }
    return expect<PlanLoaded>(Kind::kPlanLoaded);
  }
  void start(const Configure& c = {}) {
    hello();
    load();
    send(Kind::kConfigure, c);
    expect_done();
    send(Kind::kStart);
    expect<Started>(Kind::kStarted);
  }
  void send_image(std::uint8_t first) {
    std::vector<std::byte> codes(48, std::byte{3});
    codes[0] = static_cast<std::byte>(first);
    ASSERT_TRUE(wire_->send(Kind::kImage, codes).ok());
  }

  FakeMakers makers_;
  Service service_{makers_, base::detect_cpu()};
  std::optional<Wire> wire_;
  std::thread thread_;
  bool asked_to_end_ = false;
};

TEST_F(ServerTest, TheWholeWay) {
  hello();
  const PlanLoaded loaded = load();
  EXPECT_EQ(loaded.nodes, 4U);
  EXPECT_EQ(loaded.input_bytes, 48U);
  EXPECT_EQ(loaded.digest, *model::plan_digest(model::encode_plan(session_plan())));
  send(Kind::kConfigure, Configure{});
  expect_done();
  send(Kind::kAttachDevice);
  auto attached = receive();
  ASSERT_TRUE(attached);
  EXPECT_EQ(attached->kind, Kind::kDeviceAttached);
  ASSERT_TRUE(attached->passed.valid()) << "the segment comes with the answer";
  EXPECT_TRUE(outside::SharedMemory::map(std::move(attached->passed)).ok());
  send(Kind::kStart);
  EXPECT_EQ(expect<Started>(Kind::kStarted).soundness_bits, 42.5);
  for (int round = 0; round < 3; ++round) {
    send(Kind::kRun);
    send_image(10);
    send_image(255);
    send_image(11);
    send(Kind::kRunEnd);
    const Output first = expect<Output>(Kind::kOutput);
    EXPECT_EQ(first.image, 0U);
    ASSERT_EQ(first.outputs.size(), 2U);
    EXPECT_EQ(first.outputs[0].codes[0], 11);
    EXPECT_EQ(first.outputs[0].codes[47], 4);
    EXPECT_EQ(first.outputs[1].integers, (std::vector<std::int32_t>{0, -7}));
    const Failed second = expect<Failed>(Kind::kFailed);
    EXPECT_EQ(second.image, 1U);
    EXPECT_EQ(second.error.code, Errc::kRejected);
    EXPECT_EQ(expect<Output>(Kind::kOutput).image, 2U);
    EXPECT_FALSE(expect<RunDone>(Kind::kRunDone).error);
  }
  send(Kind::kStatistics);
  EXPECT_EQ(expect<runtime::Stats>(Kind::kStatisticsAre).images, 9U);
  send(Kind::kReport);
  EXPECT_GT(expect<Report>(Kind::kReportIs).processors, 0U);
  send(Kind::kReset);
  expect_done();
  send(Kind::kShutdown);
  expect_done();
  disconnect();
  EXPECT_TRUE(asked_to_end_);
}

TEST_F(ServerTest, ARunThatEndsEarlyLeavesTheConnectionUsable) {
  start();
  send(Kind::kRun);
  send_image(10);
  send_image(254);
  for (int i = 0; i < 200; ++i) send_image(1);  // still on their way
  send(Kind::kRunEnd);
  expect<Output>(Kind::kOutput);
  const RunDone done = expect<RunDone>(Kind::kRunDone);
  ASSERT_TRUE(done.error);
  EXPECT_EQ(done.error->code, Errc::kUnavailable);
  send(Kind::kStatistics);
  expect<runtime::Stats>(Kind::kStatisticsAre);
}

TEST_F(ServerTest, RequestsInTheWrongStateAreAnsweredAndForgotten) {
  hello();
  for (const Kind kind : {Kind::kAttachDevice, Kind::kStart, Kind::kStock}) {
    send(kind);
    EXPECT_EQ(expect<ErrorText>(Kind::kError).code, Errc::kInvalidArgument);
  }
  send(Kind::kRun);
  send(Kind::kRunEnd);
  EXPECT_EQ(expect<RunDone>(Kind::kRunDone).error.value().code, Errc::kInvalidArgument);
  load();
}

TEST_F(ServerTest, SecondClientsAreWelcomedWithTheState) {
  start();
  disconnect();
  connect();
  send(Kind::kHello, Hello{});
  const Welcome welcome = expect<Welcome>(Kind::kWelcome);
  EXPECT_EQ(welcome.state, State::kStarted);
  EXPECT_EQ(welcome.input_bytes, 48U);
  send(Kind::kRun);
  send(Kind::kRunEnd);
  EXPECT_FALSE(expect<RunDone>(Kind::kRunDone).error);
}

TEST_F(ServerTest, PadsAreMadeWithProgressAndCanBeStopped) {
  makers_.slow_pads = true;
  start({.privacy = model::Privacy::kPads});
  send(Kind::kPrepare, Prepare{3});
  for (std::uint64_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(expect<Progress>(Kind::kProgress).made, i);
  }
  EXPECT_EQ(expect<Prepared>(Kind::kPrepared).made, 3U);
  send(Kind::kCancel);  // too late: no answer
  send(Kind::kStock);
  EXPECT_EQ(expect<Stock>(Kind::kStockIs).images, 3U);

  send(Kind::kPrepare, Prepare{1'000'000});
  expect<Progress>(Kind::kProgress);
  send(Kind::kCancel);
  for (;;) {
    const auto frame = receive();
    ASSERT_TRUE(frame);
    if (frame->kind != Kind::kProgress) {
      EXPECT_EQ(frame->kind, Kind::kPrepared);
      EXPECT_LT(decode<Prepared>(frame->payload)->made, 1'000'000U);
      break;
    }
  }
  send(Kind::kStatistics);
  expect<runtime::Stats>(Kind::kStatisticsAre);
}

TEST_F(ServerTest, TheStoreComesWithItsDescriptor) {
  hello();
  load();
  const outside::Descriptor store(memfd_create("store", 0));
  send(Kind::kConfigure, Configure{.privacy = model::Privacy::kPads, .store = StoreUse::kPassed},
       store.get());
  expect_done();
  EXPECT_TRUE(makers_.last_store);
}

TEST_F(ServerTest, NothingBeforeHello) {
  send(Kind::kReport);
  expect_end();
}

TEST_F(ServerTest, AnotherVersionIsRefused) {
  send(Kind::kHello, Hello{2});
  expect_end();
}

TEST_F(ServerTest, BreachesEndTheConnection) {
  const auto breach = [this](const char* what, auto&& attack) {
    SCOPED_TRACE(what);
    disconnect();
    connect();
    hello();
    attack();
    expect_end();
  };
  breach("an answer as a request", [&] { send(Kind::kDone); });
  breach("an image outside a run", [&] { send_image(1); });
  breach("plan bytes without a plan", [&] { send(Kind::kPlanBytes); });
  breach("a payload where none belongs", [&] { send(Kind::kStart, Hello{}); });
  breach("a short message", [&] { send(Kind::kPrepare); });
  breach("a frame that is too long", [&] {
    const auto header = encode_header({1U << 30, Kind::kConfigure});
    ASSERT_TRUE(outside::send(wire_->socket(), header).ok());
  });
  breach("no known kind", [&] {
    const auto header = encode_header({0, static_cast<Kind>(99)});
    ASSERT_TRUE(outside::send(wire_->socket(), header).ok());
  });
  breach("a stray descriptor", [&] {
    const outside::Descriptor file(memfd_create("x", 0));
    ASSERT_TRUE(wire_->send(Kind::kReport, {}, file.get()).ok());
  });
  breach("more plan than announced", [&] {
    send(Kind::kPlan, PlanSize{10});
    send_breach(Kind::kPlanBytes, 11);
  });
  breach("an empty chunk", [&] {
    send(Kind::kPlan, PlanSize{10});
    send(Kind::kPlanBytes);
  });
  breach("something else in the middle of a plan", [&] {
    send(Kind::kPlan, PlanSize{10});
    send(Kind::kReport);
  });
  breach("an image in the middle of a plan", [&] {
    send(Kind::kPlan, PlanSize{100});
    send_breach(Kind::kImage, 48);
  });
  breach("a chunk that is too long", [&] {
    send(Kind::kPlan, PlanSize{4 * kMaxChunk});
    send_breach(Kind::kPlanBytes, kMaxChunk + 1);
  });
  breach("a plan without end", [&] { send(Kind::kPlan, PlanSize{kMaxPlanBytes + 1}); });
}

TEST_F(ServerTest, ABadPlanIsMalformedAndTheConnectionLives) {
  hello();
  send(Kind::kPlan, PlanSize{10});
  ASSERT_TRUE(wire_->send(Kind::kPlanBytes, std::vector<std::byte>(10)).ok());
  EXPECT_EQ(expect<ErrorText>(Kind::kError).code, Errc::kMalformed);
  load();
}

TEST_F(ServerTest, AWrongImageEndsTheRunAndTheConnection) {
  start();
  send(Kind::kRun);
  send_image(1);
  send_breach(Kind::kImage, 47);
  expect<Output>(Kind::kOutput);
  expect_end();
}

TEST_F(ServerTest, OnlyImagesAndItsEndBelongToARun) {
  for (const Kind kind : {Kind::kPlanBytes, Kind::kRunEnd, Kind::kOutput}) {
    disconnect();
    service_.reset();
    connect();
    start();
    send(Kind::kRun);
    send_breach(kind, 48);  // the size of an image
    expect_end();
  }
}

TEST_F(ServerTest, AfterABrokenRunNothingIsAnswered) {
  start();
  send(Kind::kRun);
  send(Kind::kReport);  // has no place in a run
  static_cast<void>(wire_->send(Kind::kReport));
  expect_end();
}

// A client that is told of its breach sees the end, whoever else holds the socket.
TEST_F(ServerTest, ABreachIsHungUpOnAtOnce) {
  auto [ours, theirs] = socket_pair();
  const outside::Descriptor other = outside::duplicate(theirs.get());
  Wire client(std::move(ours));
  Wire server(std::move(theirs));
  ASSERT_TRUE(client.send(Kind::kReport).ok());  // before hello
  EXPECT_FALSE(serve_connection(service_, server));
  const auto header = client.receive_header();
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->kind, Kind::kError);
  std::vector<std::byte> text(header->bytes);
  ASSERT_TRUE(client.receive_payload(text).ok());
  ASSERT_TRUE(outside::readable(client.socket())) << "the connection stays open";
  EXPECT_FALSE(client.receive_header().ok());
}

// peak_bytes is the most address space that this process has had.
std::uint64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::uint64_t kib = 0;
    if (word == "VmPeak:" && status >> kib) return kib << 10;
  }
  return 0;
}

TEST_F(ServerTest, AnAnnouncedPlanTakesNoMemory) {
  hello();
  const std::uint64_t before = peak_bytes();
  send(Kind::kPlan, PlanSize{kMaxPlanBytes});
  send_breach(Kind::kPlanBytes, 1000);
  send(Kind::kPlanBytes);  // empty
  expect_end();
  EXPECT_LT(peak_bytes() - before, kMaxPlanBytes / 2);
}

// Sixteen connections at a time, the control connection among them; who comes then is hung up on.
TEST(ServeProcess, ConnectionsHaveAMost) {
  if (testing::kThreadSanitizer) GTEST_SKIP() << "no threads in a child";
  auto [control, theirs] = socket_pair();
  outside::Descriptor listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t size = sizeof(sa_family_t);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);  // any name
  size = sizeof(address);
  ASSERT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  ASSERT_EQ(listen(listener.get(), 32), 0);
  const pid_t child = fork();
  if (child == 0) {
    control.reset();
    FakeMakers makers;
    Service service(makers, base::detect_cpu());
    serve_process(service, std::move(theirs), std::move(listener));
    _exit(0);
  }
  theirs.reset();
  listener.reset();
  std::vector<Wire> clients;
  int welcomed = 0;
  for (int i = 0; i < 18; ++i) {
    outside::Descriptor client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    clients.emplace_back(std::move(client));
    static_cast<void>(clients.back().send(Kind::kHello, encode(Hello{})));
    const auto header = clients.back().receive_header();
    welcomed += header.ok() && header->kind == Kind::kWelcome ? 1 : 0;
  }
  EXPECT_EQ(welcomed, 15);
  control.reset();  // the process ends
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

TEST_F(ServerTest, AClientThatVanishesEndsItsRun) {
  start();
  send(Kind::kRun);
  send_image(1);
  disconnect();  // joins: the service is free again
  connect();
  hello();
  send(Kind::kRun);
  send(Kind::kRunEnd);
  EXPECT_FALSE(expect<RunDone>(Kind::kRunDone).error);
}

}  // namespace
}  // namespace slalom::session

// SPDX-License-Identifier: Apache-2.0
#include "session/server.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>
#include <vector>

namespace slalom::session {
namespace {

constexpr Error kBreach{Errc::kMalformed, "a control frame that the protocol does not allow here"};
constexpr int kMaxConnections = 16;
// Nothing but a placement is long.
constexpr std::uint32_t kMaxRequest = kMaxNodes + 256;

ErrorText to_text(const Error& error) { return {error.code, error.message}; }

// RunStream reads a run's images off the wire and writes its results. It is broken when the client
// is gone or breaks the protocol: the run then ends as if there were no more.
class RunStream final : public runtime::Source, public runtime::Sink {
 public:
  explicit RunStream(Wire& wire) : wire_(wire) {}

  [[nodiscard]] bool broken() const noexcept { return broken_; }

  bool next(std::span<std::uint8_t> codes) override {
    if (broken_ || ended_) return false;
    const auto header = wire_.receive_header();
    if (header.ok() && header->kind == Kind::kImage && header->bytes == codes.size()) {
      broken_ = !wire_.receive_payload(std::as_writable_bytes(codes)).ok();
      return !broken_;
    }
    ended_ = header.ok() && header->kind == Kind::kRunEnd && header->bytes == 0;
    broken_ = !ended_;
    return false;
  }
  void deliver(std::uint64_t image, std::span<const runtime::OutputView> outputs) override {
    Output message{image, {}};
    for (const runtime::OutputView& view : outputs) {
      message.outputs.push_back({view.tensor,
                                 {view.codes.begin(), view.codes.end()},
                                 {view.integers.begin(), view.integers.end()}});
    }
    send(Kind::kOutput, message);
  }
  void fail(std::uint64_t image, Error error) override {
    send(Kind::kFailed, Failed{image, to_text(error)});
  }

  // finish tells the client how the run went and reads on to the end of what it still sends.
  void finish(const Status& done) {
    RunDone message;
    if (!done.ok()) message.error = to_text(done.error());
    send(Kind::kRunDone, message);
    std::vector<std::byte> chunk(kMaxChunk);
    while (!broken_ && !ended_) {
      const auto header = wire_.receive_header();
      broken_ = !header.ok() || (header->kind != Kind::kImage && header->kind != Kind::kRunEnd);
      if (broken_) return;
      ended_ = header->kind == Kind::kRunEnd;
      for (std::size_t left = header->bytes; left > 0 && !broken_;) {
        const std::size_t part = std::min(left, chunk.size());
        broken_ = !wire_.receive_payload(std::span(chunk).first(part)).ok();
        left -= part;
      }
    }
  }

 private:
  template <class Message>
  void send(Kind kind, const Message& message) {
    if (!broken_) broken_ = !wire_.send(kind, encode(message)).ok();
  }

  Wire& wire_;
  bool broken_ = false;
  bool ended_ = false;
};

// Connection answers the requests of one client. A Status that is not ok ends the connection.
class Connection {
 public:
  Connection(Service& service, Wire& wire) : service_(service), wire_(wire) {}

  // Returns whether the client asked for the end of the process.
  bool serve() {
    Status done;
    while (done.ok() && !end_) done = serve_one();
    if (!done.ok() && done.error().code == Errc::kMalformed) {
      static_cast<void>(wire_.send(Kind::kError, encode(to_text(done.error()))));
    }
    // A client that asked for the end sees it when the process is out of everybody's reach.
    if (!end_) outside::hang_up(wire_.socket());
    return end_;
  }

 private:
  Status serve_one() {
    outside::Descriptor passed;
    const auto header = wire_.receive_header(&passed);
    if (!header) return header.error();
    if (header->bytes > kMaxRequest || (passed.valid() && header->kind != Kind::kConfigure)) {
      return kBreach;
    }
    std::vector<std::byte> payload(header->bytes);
    SLALOM_TRY(wire_.receive_payload(payload));
    if (!greeted_ && header->kind != Kind::kHello) return kBreach;
    switch (header->kind) {
      case Kind::kHello:
        return with(payload, &Connection::hello);
      case Kind::kPlan:
        return with(payload, &Connection::plan);
      case Kind::kConfigure: {
        const auto request = decode<Configure>(payload);
        if (!request) return request.error();
        return answer(service_.configure(*request, std::move(passed)));
      }
      case Kind::kPrepare:
        return with(payload, &Connection::prepare);
      default:
        return payload.empty() ? bare(header->kind) : kBreach;
    }
  }

  // bare answers the requests without a payload.
  Status bare(Kind kind) {
    switch (kind) {
      case Kind::kAttachDevice: {
        const auto attached = service_.attach();
        if (!attached) return answer(attached.error());
        return wire_.send(Kind::kDeviceAttached, encode(attached->message), attached->segment);
      }
      case Kind::kStart:
        return answer(Kind::kStarted, service_.start());
      case Kind::kRun:
        return run();
      case Kind::kCancel:
        return {};  // came after the end of what it was to cancel
      case Kind::kStock:
        return answer(Kind::kStockIs, service_.stock());
      case Kind::kStatistics:
        return wire_.send(Kind::kStatisticsAre, encode(service_.statistics()));
      case Kind::kReport:
        return wire_.send(Kind::kReportIs, encode(service_.report()));
      case Kind::kReset:
        service_.reset();
        return wire_.send(Kind::kDone);
      case Kind::kShutdown:
        end_ = true;
        return wire_.send(Kind::kDone);
      default:
        return kBreach;
    }
  }

  template <class Message>
  Status with(std::span<const std::byte> payload, Status (Connection::*call)(const Message&)) {
    const auto request = decode<Message>(payload);
    if (!request) return request.error();
    return (this->*call)(*request);
  }

  Status hello(const Hello& request) {
    if (request.version != kControlVersion) {
      return Error{Errc::kMalformed, "the host speaks another version of the control protocol"};
    }
    greeted_ = true;
    return wire_.send(Kind::kWelcome, encode(service_.welcome()));
  }

  Status plan(const PlanSize& request) {
    // Room grows with what has come, at most fourfold: an announced size alone costs no memory.
    std::vector<std::byte> bytes;
    while (bytes.size() < request.bytes) {
      const auto header = wire_.receive_header();
      if (!header) return header.error();
      const std::uint64_t left = request.bytes - bytes.size();
      if (header->kind != Kind::kPlanBytes || header->bytes == 0 || header->bytes > kMaxChunk ||
          header->bytes > left) {
        return kBreach;
      }
      const std::size_t had = bytes.size();
      const std::size_t has = had + header->bytes;
      if (bytes.capacity() < has) bytes.reserve(std::min<std::uint64_t>(request.bytes, 4 * has));
      bytes.resize(has);
      SLALOM_TRY(wire_.receive_payload(std::span(bytes).subspan(had)));
    }
    return answer(Kind::kPlanLoaded, service_.load(std::move(bytes)));
  }

  Status run() {
    RunStream stream(wire_);
    stream.finish(service_.run(stream, stream));
    return stream.broken() ? kBreach : Status{};
  }

  Status prepare(const Prepare& request) {
    const auto progress = [](void* context, std::uint64_t made, std::uint64_t count) {
      auto& wire = *static_cast<Wire*>(context);
      return wire.send(Kind::kProgress, encode(Progress{made, count})).ok() &&
             !outside::readable(wire.socket());
    };
    const auto made = service_.prepare(request.count, progress, &wire_);
    if (!made) return answer(made.error());
    return wire_.send(Kind::kPrepared, encode(Prepared{*made}));
  }

  Status answer(const Status& status) {
    if (status.ok()) return wire_.send(Kind::kDone);
    return wire_.send(Kind::kError, encode(to_text(status.error())));
  }
  template <class Message>
  Status answer(Kind kind, const Result<Message>& result) {
    if (!result.ok()) return answer(result.error());
    return wire_.send(kind, encode(*result));
  }

  Service& service_;
  Wire& wire_;
  bool greeted_ = false;
  bool end_ = false;
};

}  // namespace

Status Wire::send(Kind kind, std::span<const std::byte> payload, int descriptor) noexcept {
  const auto header = encode_header({static_cast<std::uint32_t>(payload.size()), kind});
  SLALOM_TRY(outside::send(socket_.get(), header, descriptor));
  return outside::send(socket_.get(), payload);
}

Result<FrameHeader> Wire::receive_header(outside::Descriptor* passed) noexcept {
  std::array<std::byte, kFrameHeaderBytes> bytes{};
  SLALOM_TRY(outside::receive(socket_.get(), bytes, passed));
  return decode_header(bytes);
}

Status Wire::receive_payload(std::span<std::byte> payload) noexcept {
  return outside::receive(socket_.get(), payload, nullptr);
}

bool serve_connection(Service& service, Wire& wire) { return Connection(service, wire).serve(); }

void serve_process(Service& service, outside::Descriptor control, outside::Descriptor listener) {
  const int life = control.get();
  std::atomic<int> connections{0};
  const auto serve = [&](outside::Descriptor socket) {
    ++connections;
    std::thread([&service, &connections, life, wire = Wire(std::move(socket))]() mutable {
      if (serve_connection(service, wire)) outside::hang_up(life);
      --connections;
    }).detach();
  };
  // The control connection's own descriptor stays here, to watch its peer.
  outside::Descriptor own = outside::duplicate(life);
  if (!own.valid()) return;
  serve(std::move(own));
  for (;;) {
    auto client = outside::wait_for_connection(listener.get(), life);
    if (!client || !client->valid()) return;
    if (connections < kMaxConnections) serve(std::move(*client));
  }
}

}  // namespace slalom::session

// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/control_client.h"

#include <algorithm>
#include <utility>

#include "untrusted/host/run_loop.h"

namespace slalom::host {

using session::Kind;

Failure ControlClient::lose() {
  lost_ = true;
  return {Errc::kUnavailable, "the trusted process is gone"};
}

Done ControlClient::send(Kind kind, std::span<const std::byte> payload, int descriptor) {
  if (lost_) return lose();
  if (wire_.send(kind, payload, descriptor).ok()) return {};
  // It may have said why before it hung up.
  const auto reason = receive();
  lost_ = true;
  return reason ? lose() : reason.failure();
}

Outcome<ControlClient::Frame> ControlClient::receive() {
  if (lost_) return lose();
  Frame frame;
  const auto header = wire_.receive_header(&frame.passed);
  if (!header || header->bytes > kMaxFrame) return lose();
  frame.kind = header->kind;
  frame.payload.resize(header->bytes);
  if (!wire_.receive_payload(frame.payload).ok()) return lose();
  if (frame.kind != Kind::kError) return frame;
  const auto error = session::decode<session::ErrorText>(frame.payload);
  if (!error) return lose();
  return Failure{error->code, error->text};
}

Outcome<ControlClient::Frame> ControlClient::expect(Kind kind) {
  auto frame = receive();
  if (frame && frame->kind != kind) return lose();
  return frame;
}

template <class Message>
Outcome<Message> ControlClient::decoded(const Outcome<Frame>& frame) {
  if (!frame) return frame.failure();
  auto message = session::decode<Message>(frame->payload);
  if (!message) return lose();
  return std::move(*message);
}

template <class Message>
Outcome<Message> ControlClient::ask(Kind question, Kind answer) {
  if (const Done sent = send(question); !sent) return sent.failure();
  return decoded<Message>(expect(answer));
}

Done ControlClient::ask_done(Kind question) {
  if (Done sent = send(question); !sent) return sent;
  if (const auto frame = expect(Kind::kDone); !frame) return frame.failure();
  return {};
}

Outcome<session::Welcome> ControlClient::hello() {
  if (const Done sent = send(Kind::kHello, session::encode(session::Hello{})); !sent) {
    return sent.failure();
  }
  return decoded<session::Welcome>(expect(Kind::kWelcome));
}

Outcome<session::PlanLoaded> ControlClient::load(std::span<const std::byte> plan) {
  Done sent = send(Kind::kPlan, session::encode(session::PlanSize{plan.size()}));
  while (sent && !plan.empty()) {
    const auto part = plan.first(std::min(plan.size(), session::kMaxChunk));
    sent = send(Kind::kPlanBytes, part);
    plan = plan.subspan(part.size());
  }
  if (!sent) return sent.failure();
  return decoded<session::PlanLoaded>(expect(Kind::kPlanLoaded));
}

Done ControlClient::configure(const session::Configure& request, int store) {
  if (Done sent = send(Kind::kConfigure, session::encode(request), store); !sent) return sent;
  if (const auto frame = expect(Kind::kDone); !frame) return frame.failure();
  return {};
}

Outcome<ControlClient::Attached> ControlClient::attach_device() {
  if (const Done sent = send(Kind::kAttachDevice); !sent) return sent.failure();
  auto frame = expect(Kind::kDeviceAttached);
  const auto message = decoded<session::DeviceAttached>(frame);
  if (!message) return message.failure();
  if (!frame->passed.valid()) return lose();
  return Attached{*message, std::move(frame->passed)};
}

Outcome<session::Started> ControlClient::start() {
  return ask<session::Started>(Kind::kStart, Kind::kStarted);
}

Done ControlClient::run(runtime::Source& source, runtime::Sink& sink, std::size_t input_bytes,
                        std::vector<Watched> watched) {
  if (Done sent = send(Kind::kRun); !sent) return sent;
  RunLoop loop(wire_.socket(), source, sink, input_bytes, std::move(watched));
  Done done = loop.run();
  lost_ = lost_ || loop.lost();
  return done;
}

Outcome<std::uint64_t> ControlClient::prepare(std::uint64_t count, const Progress& progress) {
  if (const Done sent = send(Kind::kPrepare, session::encode(session::Prepare{count})); !sent) {
    return sent.failure();
  }
  bool cancelled = false;
  for (;;) {
    const auto frame = receive();
    if (!frame) return frame.failure();
    if (frame->kind == Kind::kPrepared) {
      const auto done = decoded<session::Prepared>(frame);
      if (!done) return done.failure();
      return done->made;
    }
    if (frame->kind != Kind::kProgress) return lose();
    const auto step = decoded<session::Progress>(frame);
    if (!step) return step.failure();
    if (!cancelled && progress && !progress(step->made, step->count)) {
      cancelled = true;
      if (const Done sent = send(Kind::kCancel); !sent) return sent.failure();
    }
  }
}

Outcome<session::Stock> ControlClient::stock() {
  return ask<session::Stock>(Kind::kStock, Kind::kStockIs);
}
Outcome<runtime::Stats> ControlClient::statistics() {
  return ask<runtime::Stats>(Kind::kStatistics, Kind::kStatisticsAre);
}
Outcome<session::Report> ControlClient::report() {
  return ask<session::Report>(Kind::kReport, Kind::kReportIs);
}
Done ControlClient::reset() { return ask_done(Kind::kReset); }
Done ControlClient::shutdown() {
  if (Done asked = ask_done(Kind::kShutdown); !asked) return asked;
  while (receive()) {
  }
  return {};
}

}  // namespace slalom::host

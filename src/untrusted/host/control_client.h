// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "outside.h"
#include "runtime/executor.h"
#include "session/control.h"
#include "session/server.h"
#include "untrusted/host/outcome.h"

namespace slalom::host {

// Watched is a socket that a run keeps an eye on: `gone` is called once when its peer hangs up.
struct Watched {
  int socket = -1;
  std::function<void()> gone;
};

// ControlClient speaks the control protocol with a trusted process: one method for each request. An
// error that the trusted process reports keeps its Errc and sentence; a lost connection is
// kUnavailable. One thread.
class ControlClient {
 public:
  explicit ControlClient(outside::Descriptor socket) : wire_(std::move(socket)) {}

  [[nodiscard]] Outcome<session::Welcome> hello();
  [[nodiscard]] Outcome<session::PlanLoaded> load(std::span<const std::byte> plan);
  // store is a descriptor if request.store says so, else -1.
  [[nodiscard]] Done configure(const session::Configure& request, int store);
  struct Attached {
    session::DeviceAttached message;
    outside::Descriptor segment;
  };
  [[nodiscard]] Outcome<Attached> attach_device();
  [[nodiscard]] Outcome<session::Started> start();
  // run streams images of input_bytes codes until the source ends. Input and output flow at the
  // same time and neither waits for the other; at most one image is held here.
  [[nodiscard]] Done run(runtime::Source& source, runtime::Sink& sink, std::size_t input_bytes,
                         std::vector<Watched> watched);
  using Progress = std::function<bool(std::uint64_t made, std::uint64_t count)>;
  [[nodiscard]] Outcome<std::uint64_t> prepare(std::uint64_t count, const Progress& progress);
  [[nodiscard]] Outcome<session::Stock> stock();
  [[nodiscard]] Outcome<runtime::Stats> statistics();
  [[nodiscard]] Outcome<session::Report> report();
  [[nodiscard]] Done reset();
  [[nodiscard]] Done shutdown();

  // lost says that the connection cannot be used any more.
  [[nodiscard]] bool lost() const noexcept { return lost_; }

 private:
  struct Frame {
    session::Kind kind = session::Kind::kDone;
    std::vector<std::byte> payload;
    outside::Descriptor passed;
  };
  [[nodiscard]] Failure lose();
  [[nodiscard]] Done send(session::Kind kind, std::span<const std::byte> payload = {},
                          int descriptor = -1);
  // receive returns the next frame; an error that the trusted process reports is a Failure.
  [[nodiscard]] Outcome<Frame> receive();
  [[nodiscard]] Outcome<Frame> expect(session::Kind kind);
  template <class Message>
  [[nodiscard]] Outcome<Message> decoded(const Outcome<Frame>& frame);
  template <class Message>
  [[nodiscard]] Outcome<Message> ask(session::Kind question, session::Kind answer);
  [[nodiscard]] Done ask_done(session::Kind question);

  session::Wire wire_;
  bool lost_ = false;
};

}  // namespace slalom::host

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "outside.h"
#include "session/control.h"
#include "session/service.h"
#include "slalom/result.h"

namespace slalom::session {

// Wire sends and receives frames on one stream socket. Blocking; one thread.
class Wire {
 public:
  explicit Wire(outside::Descriptor socket) noexcept : socket_(std::move(socket)) {}

  [[nodiscard]] int socket() const noexcept { return socket_.get(); }

  // send writes one frame; the descriptor, if any, travels with it.
  [[nodiscard]] Status send(Kind kind, std::span<const std::byte> payload = {},
                            int descriptor = -1) noexcept;
  // receive_header reads the next frame's header and the descriptor that came with it, if `passed`
  // is given; then receive_payload must be called with exactly header.bytes bytes.
  [[nodiscard]] Result<FrameHeader> receive_header(outside::Descriptor* passed = nullptr) noexcept;
  [[nodiscard]] Status receive_payload(std::span<std::byte> payload) noexcept;

 private:
  outside::Descriptor socket_;
};

// serve_connection answers one client's requests until it hangs up (then it returns), breaks the
// protocol (then it is told so once, and hung up on) or asks for the end of the process (then the
// result is true).
[[nodiscard]] bool serve_connection(Service& service, Wire& wire);

// serve_process serves `control` and every client of `listener` (empty: none), each on a thread of
// its own. It returns when the peer of `control` hangs up or a client asks for the end. REQUIRES:
// the caller then ends the process: connections may still be at work.
void serve_process(Service& service, outside::Descriptor control, outside::Descriptor listener);

}  // namespace slalom::session

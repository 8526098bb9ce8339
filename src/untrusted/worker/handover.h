// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "device/device.h"
#include "model/plan.h"
#include "outside.h"
#include "slalom/result.h"
#include "worker/trace.h"

// How a host hands channel segments to a worker, over a Unix stream socket
// (docs/control-protocol.md): the worker greets once it has loaded its plan; then each message of
// the host carries one segment's descriptor, which the worker acknowledges and serves until the
// next message comes.

namespace slalom::worker {

inline constexpr std::uint32_t kHandoverVersion = 2;

// Greeting is the worker's first message. status 0: ready; else the Errc with which loading failed,
// and a sentence that says why (of printable characters, at most kMostReason).
struct Greeting {
  std::uint32_t status = 0;
  std::uint32_t max_batch = 0;
  model::Digest digest{};
  std::string reason;
};
inline constexpr std::size_t kMostReason = 512;

[[nodiscard]] Status send_greeting(int socket, const Greeting& greeting);
// kMalformed: the peer is no worker of this version; kUnavailable: it is gone.
[[nodiscard]] Result<Greeting> receive_greeting(int socket);

// hand_over sends a segment and waits until the worker has mapped it.
[[nodiscard]] Status hand_over(int socket, int segment);
// receive_segment waits for the next segment.
[[nodiscard]] Result<outside::Descriptor> receive_segment(int socket);
[[nodiscard]] Status acknowledge(int socket, bool mapped);

// serve_host serves every segment that comes over the socket with `device`, which has loaded the
// plan, until the host hangs up. trace, if there is one, ends up with the jobs of the last segment.
void serve_host(int socket, device::Device& device, Trace* trace = nullptr);

}  // namespace slalom::worker

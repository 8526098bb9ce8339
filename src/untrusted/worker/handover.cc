// SPDX-License-Identifier: Apache-2.0
#include "worker/handover.h"

#include <array>
#include <cstring>
#include <utility>

#include "base/archive.h"
#include "worker/endpoint.h"
#include "worker/worker.h"

namespace slalom::worker {
namespace {

constexpr std::uint64_t kGreetingMagic = 0x3157'4d4f'4c41'4c53;  // "SLALOMW1"
constexpr std::uint32_t kSegmentMessage = 0x0047'4553;           // "SEG"
constexpr std::size_t kGreetingBytes = 8 + 4 + 4 + 4 + 32 + 4;   // and the reason

}  // namespace

Status send_greeting(int socket, const Greeting& greeting) {
  base::ArchiveWriter out;
  out(kGreetingMagic, kHandoverVersion, greeting.status, greeting.max_batch, greeting.digest);
  out(greeting.reason.substr(0, kMostReason));
  return outside::send(socket, out.bytes());
}

Result<Greeting> receive_greeting(int socket) {
  std::array<std::byte, kGreetingBytes> bytes{};
  SLALOM_TRY(outside::receive(socket, bytes, nullptr));
  base::ByteReader in(bytes);
  const bool right =
      in.read<std::uint64_t>() == kGreetingMagic && in.read<std::uint32_t>() == kHandoverVersion;
  Greeting greeting;
  greeting.status = in.read<std::uint32_t>();
  greeting.max_batch = in.read<std::uint32_t>();
  const auto digest = in.take(greeting.digest.size());
  const auto length = in.read<std::uint32_t>();
  if (!right || greeting.status > static_cast<std::uint32_t>(Errc::kInternal) ||
      length > kMostReason) {
    return Error{Errc::kMalformed, "no device worker of this version"};
  }
  std::memcpy(greeting.digest.data(), digest.data(), digest.size());
  greeting.reason.resize(length);
  if (length > 0) {
    const auto text = std::as_writable_bytes(std::span(greeting.reason));
    SLALOM_TRY(outside::receive(socket, text, nullptr));
  }
  for (char& c : greeting.reason) {
    if (c < ' ' || c > '~') c = '?';
  }
  return greeting;
}

Status hand_over(int socket, int segment) {
  base::ArchiveWriter out;
  out(kSegmentMessage);
  SLALOM_TRY(outside::send(socket, out.bytes(), segment));
  std::array<std::byte, 1> reply{};
  SLALOM_TRY(outside::receive(socket, reply, nullptr));
  if (reply[0] != std::byte{1}) {
    return Error{Errc::kUnavailable, "the device worker cannot map its channel"};
  }
  return {};
}

Result<outside::Descriptor> receive_segment(int socket) {
  std::array<std::byte, sizeof(kSegmentMessage)> bytes{};
  outside::Descriptor segment;
  SLALOM_TRY(outside::receive(socket, bytes, &segment));
  if (base::ByteReader(bytes).read<std::uint32_t>() != kSegmentMessage || !segment.valid()) {
    return Error{Errc::kMalformed, "the host sent no segment"};
  }
  return segment;
}

Status acknowledge(int socket, bool mapped) {
  const std::array<std::byte, 1> reply{mapped ? std::byte{1} : std::byte{0}};
  return outside::send(socket, reply);
}

void serve_host(int socket, device::Device& device, Trace* trace) {
  for (;;) {
    auto segment = receive_segment(socket);
    if (!segment) return;
    auto endpoint = ShmEndpoint::open(std::move(*segment));
    if (!acknowledge(socket, endpoint.ok()).ok()) return;
    if (!endpoint.ok()) continue;
    // A protocol error of the trusted side ends this segment, not the worker.
    if (trace != nullptr) trace->restart();
    device.attach(endpoint->memory());
    static_cast<void>(serve(
        *endpoint, device, [socket] { return outside::readable(socket); }, trace));
    device.detach(endpoint->memory());
  }
}

}  // namespace slalom::worker

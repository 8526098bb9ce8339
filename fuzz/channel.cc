// SPDX-License-Identifier: Apache-2.0
// A hostile worker against the trusted end of the channel. The input is a script: what the trusted
// side does (allocate, submit, poll) and what the peer writes anywhere in the header and rings
// between two such steps. Invariants: a completion names the oldest request without one; an error
// is kRejected or kUnavailable and final; slots never overlap; nothing beyond a slot is asked for.
#include <unistd.h>

#include <cstdlib>

#include "base/bytes.h"
#include "channel/layout.h"
#include "channel/shm_port.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file
using channel::ShmPort;

constexpr std::uint32_t kCapacity = 4;
constexpr std::size_t kArea = 4096;

void require(bool condition) {
  if (!condition) std::abort();
}

// Driver is the trusted side of the script with its own books.
class Driver {
 public:
  explicit Driver(ShmPort& port) : port_(port) {}

  // Slots are taken until the area is full; from then on requests name the last one.
  void submit(std::size_t bytes) {
    auto slot = port_.allocate(bytes);
    if (slot.ok()) {
      require(slot->offset >= end_ && slot->offset + bytes <= kArea);
      end_ = slot->offset + bytes;
      last_ = *slot;
    } else {
      check(slot.error(), true);
    }
    channel::Request request{};
    request.kind = channel::InputKind::kCodes;
    request.input_offset = request.output_offset = last_.offset;
    request.input_bytes = request.output_bytes = static_cast<std::uint32_t>(last_.memory.size());
    const auto sent = port_.submit(request);
    if (!sent.ok()) return check(sent.error(), true);
    require(*sent == last_submitted_ + 1);
    last_submitted_ = *sent;
  }

  void poll(bool wait) {
    const auto got = wait ? port_.wait(std::chrono::microseconds(1)) : port_.poll();
    if (!got.ok()) return check(got.error(), false);
    require(!failed_);
    if (!got->has_value()) return;
    require((*got)->sequence == ++last_answered_ && last_answered_ <= last_submitted_);
  }

  // overreach asks for what lies beyond a slot.
  void overreach() {
    channel::Request request{};
    request.kind = channel::InputKind::kRetained;
    request.output_offset = last_.offset;
    request.output_bytes = static_cast<std::uint32_t>(last_.memory.size() + 1);
    require(!port_.submit(request).ok());
  }

 private:
  void check(Error error, bool may_be_full) {
    require(error.code == Errc::kRejected || error.code == Errc::kUnavailable);
    if (error.code == Errc::kRejected || !may_be_full) failed_ = true;
  }

  ShmPort& port_;
  std::uint64_t last_submitted_ = 0;
  std::uint64_t last_answered_ = 0;
  std::uint64_t end_ = 0;  // of the slots so far
  channel::Slot last_;
  bool failed_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  base::ByteReader script(std::as_bytes(std::span(data, size)));
  auto port = ShmPort::create({kArea, kCapacity});
  if (!port.ok()) return 0;
  auto peer = outside::SharedMemory::map(outside::Descriptor(dup((*port)->descriptor())));
  if (!peer.ok()) return 0;
  const channel::SharedView view(peer->bytes());
  Driver driver(**port);
  while (script.ok() && script.remaining() > 0) {
    const auto op = script.read<std::uint8_t>();
    switch (op % 8) {
      case 0:
      case 1:
        driver.submit(std::size_t{1} + std::size_t{script.read<std::uint8_t>()} * 4);
        break;
      case 2:
        driver.poll(false);
        break;
      case 3:
        driver.poll(true);
        break;
      case 4:
        driver.overreach();
        break;
      case 5: {  // an answer descriptor
        const auto entry = script.read<std::uint8_t>();
        channel::Answer answer{};
        answer.sequence = script.read<std::uint8_t>();
        answer.status = static_cast<channel::AnswerStatus>(script.read<std::uint8_t>() % 4);
        answer.output_bytes = std::uint32_t{1} + script.read<std::uint8_t>() * 4U;
        view.copy_out(channel::answer_at(entry, kCapacity), answer);
        break;
      }
      case 6:
        view.store<std::uint64_t>(channel::kAnswerHead, script.read<std::uint8_t>(),
                                  std::memory_order_release);
        break;
      default: {  // any word of header and rings
        const auto at = script.read<std::uint16_t>() % (channel::data_offset(kCapacity) / 8) * 8;
        view.store<std::uint64_t>(at, script.read<std::uint64_t>(), std::memory_order_relaxed);
      }
    }
  }
  return 0;
}

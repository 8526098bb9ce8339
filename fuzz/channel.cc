// SPDX-License-Identifier: Apache-2.0
// A hostile worker against the trusted end of the channel. The input is a script: what the trusted
// side does (submit, poll, retire, release) and what the peer writes anywhere in the header and
// rings between two such steps. Invariants: a completion names the oldest request that was made and
// not retired, once; an error is kRejected or kUnavailable and final; slots in use never overlap.
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <set>

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

  void submit(std::size_t bytes) {
    auto slot = port_.allocate(bytes);
    if (!slot.ok()) return check(slot.error(), true);
    const auto after = slots_.lower_bound(slot->offset);
    require(after == slots_.end() || slot->offset + bytes <= after->first);
    require(after == slots_.begin() ||
            std::prev(after)->second.memory.size() + std::prev(after)->first <= slot->offset);
    channel::Request request{};
    request.kind = channel::InputKind::kCodes;
    request.input_offset = request.output_offset = slot->offset;
    request.input_bytes = request.output_bytes = static_cast<std::uint32_t>(bytes);
    const auto sent = port_.submit(request);
    if (!sent.ok()) {
      check(sent.error(), true);
      port_.release(*slot);
      return;
    }
    require(*sent == last_submitted_ + 1);
    last_submitted_ = *sent;
    slots_[slot->offset] = *slot;
    open_[*sent] = *slot;
  }

  void poll(bool wait) {
    const auto got = wait ? port_.wait(std::chrono::microseconds(1)) : port_.poll();
    if (!got.ok()) return check(got.error(), false);
    require(!failed_);
    if (!got->has_value()) return;
    const auto oldest = open_.begin();
    require(oldest != open_.end() && oldest->first == (*got)->sequence);
    port_.release(oldest->second);
    slots_.erase(oldest->second.offset);
    open_.erase(oldest);
  }

  void retire() {
    if (open_.empty()) return;
    port_.retire(open_.begin()->first);  // its slot stays in slots_ for good
    open_.erase(open_.begin());
  }

 private:
  void check(Error error, bool may_be_full) {
    require(error.code == Errc::kRejected || error.code == Errc::kUnavailable);
    if (error.code == Errc::kRejected || !may_be_full) failed_ = true;
  }

  ShmPort& port_;
  std::uint64_t last_submitted_ = 0;
  std::map<std::uint64_t, channel::Slot> slots_;
  std::map<std::uint64_t, channel::Slot> open_;
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
        driver.submit(std::size_t{1} + script.read<std::uint8_t>() * 4U);
        break;
      case 2:
        driver.poll(false);
        break;
      case 3:
        driver.poll(true);
        break;
      case 4:
        driver.retire();
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

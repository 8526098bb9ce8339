// SPDX-License-Identifier: Apache-2.0
#include "channel/shm_port.h"

#include <xmmintrin.h>

#include <algorithm>
#include <chrono>

#include "base/round_up.h"
#include "channel/layout.h"
#include "channel/waiting.h"

namespace slalom::channel {
namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds kLongestNap = std::chrono::milliseconds(2);

}  // namespace

Result<std::unique_ptr<ShmPort>> ShmPort::create(const Sizes& sizes) {
  if (sizes.capacity == 0 || sizes.capacity > kMaxCapacity ||
      !std::has_single_bit(sizes.capacity) || sizes.data_bytes == 0 ||
      sizes.data_bytes > (std::size_t{1} << 46)) {
    return Error{Errc::kInvalidArgument, "the sizes of a channel are out of range"};
  }
  auto memory = outside::SharedMemory::create(data_offset(sizes.capacity) +
                                              base::round_up(sizes.data_bytes, kSlotAlignment));
  if (!memory) return memory.error();
  return std::unique_ptr<ShmPort>(new ShmPort(std::move(*memory), sizes));
}

ShmPort::ShmPort(outside::SharedMemory memory, const Sizes& sizes)
    : memory_(std::move(memory)),
      view_(memory_.bytes()),
      capacity_(sizes.capacity),
      data_offset_(data_offset(sizes.capacity)),
      expected_(sizes.capacity) {
  view_.store(kMagicAt, kMagic, std::memory_order_relaxed);
  view_.store(kVersionAt, kVersion, std::memory_order_relaxed);
  view_.store(kCapacityAt, capacity_, std::memory_order_relaxed);
  view_.store<std::uint64_t>(kDataOffsetAt, data_offset_, std::memory_order_relaxed);
  view_.store<std::uint64_t>(kDataBytesAt, memory_.bytes().size() - data_offset_,
                             std::memory_order_relaxed);
}

ShmPort::~ShmPort() {
  view_.store<std::uint32_t>(kTrustedClosed, 1, std::memory_order_seq_cst);
  outside::wake(view_.low_half(kRequestHead));
}

Error ShmPort::close(Errc code, const char* message) noexcept {
  closed_ = Error{code, message};
  view_.store<std::uint32_t>(kTrustedClosed, 1, std::memory_order_seq_cst);
  return *closed_;
}

Result<Slot> ShmPort::allocate(std::size_t bytes) {
  if (closed_) return *closed_;
  const auto left = memory_.bytes().subspan(data_offset_ + allocated_);
  if (bytes == 0 || bytes > left.size()) {
    return Error{Errc::kUnavailable, "the data area of the channel is full"};
  }
  slots_.push_back({allocated_, left.first(bytes)});
  allocated_ += base::round_up(bytes, kSlotAlignment);
  return slots_.back();
}

bool ShmPort::inside_slot(std::uint64_t offset, std::uint64_t bytes) const noexcept {
  return std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    return offset >= slot.offset && bytes <= slot.memory.size() &&
           offset - slot.offset <= slot.memory.size() - bytes;
  });
}

Result<std::uint64_t> ShmPort::submit(Request request) {
  if (closed_) return *closed_;
  const bool input_named = request.kind == InputKind::kRetained
                               ? request.input_bytes == 0
                               : inside_slot(request.input_offset, request.input_bytes);
  if (!input_named || request.output_bytes == 0 ||
      !inside_slot(request.output_offset, request.output_bytes)) {
    return Error{Errc::kInvalidArgument, "a request names memory outside its slots"};
  }
  if (submitted_ - received_ == capacity_) {
    return Error{Errc::kUnavailable, "too many requests wait for an answer"};
  }
  expected_[submitted_ % capacity_] = request.output_bytes;
  request.sequence = submitted_ + 1;
  request.zero = {};
  view_.copy_out(request_at(submitted_, capacity_), request);
  ++submitted_;
  bytes_out_ += request.input_bytes;
  // Kernels fill slots with non-temporal stores, which a release store does not order.
  _mm_sfence();
  announce(view_, kRequestHead, kWorkerSleeps, submitted_);
  return request.sequence;
}

Result<std::optional<Answer>> ShmPort::next_answer() {
  if (closed_) return *closed_;
  // Read before the head, so that answers announced before a stop are still taken.
  const bool stopped = view_.load<std::uint32_t>(kWorkerClosed, std::memory_order_acquire) != 0;
  const auto head = view_.load<std::uint64_t>(kAnswerHead, std::memory_order_acquire);
  const std::uint64_t available = head - received_;
  if (available == 0) {
    if (stopped) return close(Errc::kUnavailable, "the device worker has stopped");
    return std::optional<Answer>();
  }
  if (available > submitted_ - received_) {
    return close(Errc::kRejected, "a device answered more than it was asked");
  }
  return std::optional(view_.copy_in<Answer>(answer_at(received_, capacity_)));
}

Result<std::optional<Completion>> ShmPort::poll() {
  const auto next = next_answer();
  if (!next) return next.error();
  if (!next->has_value()) return std::optional<Completion>();
  const Answer& answer = **next;
  if (answer.sequence != received_ + 1) {
    return close(Errc::kRejected, "a device answered a request that was not next");
  }
  const bool done = answer.status == AnswerStatus::kDone;
  if (!done && answer.status != AnswerStatus::kFailed) {
    return close(Errc::kRejected, "a device gave an answer of no known kind");
  }
  if (answer.output_bytes != (done ? expected_[received_ % capacity_] : 0)) {
    return close(Errc::kRejected, "a device gave an answer of the wrong size");
  }
  ++received_;
  bytes_in_ += answer.output_bytes;
  return std::optional(Completion{answer.sequence, done, answer.device_ns});
}

Result<std::optional<Completion>> ShmPort::wait(nanoseconds time) {
  Result<std::optional<Completion>> found = std::optional<Completion>();
  wait_until(view_, kAnswerHead, kTrustedSleeps, time, kLongestNap, [&] {
    found = poll();
    return !found.ok() || found->has_value();
  });
  return found;
}

}  // namespace slalom::channel

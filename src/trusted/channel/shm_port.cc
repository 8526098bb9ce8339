// SPDX-License-Identifier: Apache-2.0
#include "channel/shm_port.h"

#include <xmmintrin.h>

#include <bit>
#include <chrono>

#include "base/checked.h"
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
      slots_(memory_.bytes().size() - data_offset_, std::size_t{4} * sizes.capacity),
      outstanding_(sizes.capacity) {
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
  const auto offset = slots_.allocate(bytes);
  if (!offset) return Error{Errc::kUnavailable, "the data area of the channel is full"};
  return Slot{*offset,
              memory_.bytes().subspan(data_offset_ + static_cast<std::size_t>(*offset), bytes)};
}

void ShmPort::release(const Slot& slot) {
  const auto inside = [&slot](std::uint64_t offset) {
    return offset >= slot.offset && offset - slot.offset < slot.memory.size();
  };
  for (std::uint64_t n = received_; n != submitted_; ++n) {
    const Outstanding& o = outstanding(n);
    if (inside(o.output_offset) || (o.has_input && inside(o.input_offset))) {
      slots_.retire(slot.offset);
    }
  }
  slots_.release(slot.offset);
}

Result<std::uint64_t> ShmPort::submit(Request request) {
  if (closed_) return *closed_;
  const bool has_input = request.kind != InputKind::kRetained;
  if ((has_input ? !slots_.contains(request.input_offset, request.input_bytes)
                 : request.input_bytes != 0) ||
      request.output_bytes == 0 || !slots_.contains(request.output_offset, request.output_bytes)) {
    return Error{Errc::kInvalidArgument, "a request names memory outside its slots"};
  }
  if (submitted_ - received_ == capacity_) {
    return Error{Errc::kUnavailable, "too many requests wait for an answer"};
  }
  request.sequence = submitted_ + 1;
  request.zero = {};
  outstanding(submitted_) = {request.input_offset, request.output_offset, request.output_bytes,
                             has_input, false};
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
  for (;;) {
    const auto next = next_answer();
    if (!next) return next.error();
    if (!next->has_value()) return std::optional<Completion>();
    const Answer& answer = **next;
    const Outstanding& o = outstanding(received_);
    if (answer.sequence != received_ + 1) {
      return close(Errc::kRejected, "a device answered a request that was not next");
    }
    const bool done = answer.status == AnswerStatus::kDone;
    if (!done && answer.status != AnswerStatus::kFailed) {
      return close(Errc::kRejected, "a device gave an answer of no known kind");
    }
    if (answer.output_bytes != (done ? o.output_bytes : 0)) {
      return close(Errc::kRejected, "a device gave an answer of the wrong size");
    }
    ++received_;
    if (o.retired) continue;
    if (done) bytes_in_ += o.output_bytes;
    return std::optional(Completion{answer.sequence, done, answer.device_ns});
  }
}

Result<std::optional<Completion>> ShmPort::wait(nanoseconds time) {
  Result<std::optional<Completion>> found = std::optional<Completion>();
  wait_until(view_, kAnswerHead, kTrustedSleeps, time, kLongestNap, [&] {
    found = poll();
    return !found.ok() || found->has_value();
  });
  return found;
}

void ShmPort::retire(std::uint64_t sequence) {
  if (sequence <= received_ || sequence > submitted_) return;
  Outstanding& o = outstanding(sequence - 1);
  o.retired = true;
  slots_.retire(o.output_offset);
  if (o.has_input) slots_.retire(o.input_offset);
}

}  // namespace slalom::channel

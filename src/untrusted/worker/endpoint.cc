// SPDX-License-Identifier: Apache-2.0
#include "worker/endpoint.h"

#include <bit>
#include <utility>

#include "channel/layout.h"
#include "channel/waiting.h"

namespace slalom::worker {
namespace {

constexpr std::chrono::nanoseconds kLongestNap = std::chrono::milliseconds(5);

}  // namespace

Result<ShmEndpoint> ShmEndpoint::open(outside::Descriptor segment) {
  auto memory = outside::SharedMemory::map(std::move(segment));
  if (!memory) return memory.error();
  const Error malformed{Errc::kMalformed, "the segment is not a channel of this version"};
  const std::size_t size = memory->bytes().size();
  if (size < channel::kHeaderBytes) return malformed;
  const channel::SharedView view(memory->bytes());
  const auto order = std::memory_order_acquire;
  const auto capacity = view.load<std::uint32_t>(channel::kCapacityAt, order);
  const auto offset = view.load<std::uint64_t>(channel::kDataOffsetAt, order);
  const auto bytes = view.load<std::uint64_t>(channel::kDataBytesAt, order);
  if (view.load<std::uint64_t>(channel::kMagicAt, order) != channel::kMagic ||
      view.load<std::uint32_t>(channel::kVersionAt, order) != channel::kVersion ||
      capacity > channel::kMaxCapacity || !std::has_single_bit(capacity) ||
      offset != channel::data_offset(capacity) || offset > size || bytes != size - offset) {
    return malformed;
  }
  const auto data = memory->bytes().subspan(static_cast<std::size_t>(offset));
  return ShmEndpoint(std::move(*memory), capacity, data);
}

ShmEndpoint::ShmEndpoint(outside::SharedMemory memory, std::uint32_t capacity,
                         std::span<std::byte> data)
    : memory_(std::move(memory)), view_(memory_.bytes()), capacity_(capacity), data_(data) {}

ShmEndpoint::~ShmEndpoint() { mark_stopped(memory_.bytes()); }

Result<std::optional<channel::Request>> ShmEndpoint::next(std::chrono::nanoseconds time) {
  bool closed = false;
  std::uint64_t head = taken_;
  channel::wait_until(view_, channel::kRequestHead, channel::kWorkerSleeps, time, kLongestNap, [&] {
    closed = view_.load<std::uint32_t>(channel::kTrustedClosed, std::memory_order_acquire) != 0;
    head = view_.load<std::uint64_t>(channel::kRequestHead, std::memory_order_acquire);
    return closed || head != taken_;
  });
  if (closed) return Error{Errc::kUnavailable, "the channel was closed"};
  if (head == taken_) return std::optional<channel::Request>();
  if (head - answered_ > capacity_) {
    return Error{Errc::kMalformed, "more requests than the channel holds"};
  }
  const auto at = channel::request_at(taken_, capacity_);
  ++taken_;
  return std::optional(view_.copy_in<channel::Request>(at));
}

std::optional<std::span<std::byte>> ShmEndpoint::slot(std::uint64_t offset,
                                                      std::uint64_t bytes) const noexcept {
  if (offset > data_.size() || bytes > data_.size() - offset) return std::nullopt;
  return data_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(bytes));
}

void ShmEndpoint::answer(const channel::Answer& answer) noexcept {
  view_.copy_out(channel::answer_at(answered_, capacity_), answer);
  ++answered_;
  channel::announce(view_, channel::kAnswerHead, channel::kTrustedSleeps, answered_);
}

void mark_stopped(std::span<std::byte> segment) noexcept {
  if (segment.size() < channel::kHeaderBytes) return;
  const channel::SharedView view(segment);
  view.store<std::uint32_t>(channel::kWorkerClosed, 1, std::memory_order_seq_cst);
  outside::wake(view.low_half(channel::kAnswerHead));
}

}  // namespace slalom::worker

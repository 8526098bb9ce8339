// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/round_up.h"
#include "channel/messages.h"

// The layout of a channel segment (docs/channel-format.md): one page of header, the ring of
// requests, the ring of answers, the data area. All offsets are in bytes from the start of the
// segment.
//
// Invariants
// 1. The trusted side writes the header's fixed part, kRequestHead, kTrustedClosed, kTrustedSleeps
// and
//    the request ring; the worker writes the rest.
// 2. A head counts the descriptors ever announced in its ring. Descriptor n lies in entry n mod
//    capacity and is written before the head moves past n (release; the reader acquires).
// 3. Answers come in the order of the requests, one for each, and at most `capacity` requests are
//    unanswered. So neither ring can overflow, and no cursor of a reader needs to cross the border.
// 4. What the trusted side knows of the layout and of its own cursors it keeps in private memory;
// it
//    never reads back what it wrote here.

namespace slalom::channel {

inline constexpr std::uint64_t kMagic = 0x3143'4d4f'4c41'4c53;  // "SLALOMC1"

// The fixed part, written before the segment is handed over.
inline constexpr std::size_t kMagicAt = 0;        // u64
inline constexpr std::size_t kVersionAt = 8;      // u32
inline constexpr std::size_t kCapacityAt = 12;    // u32, a power of two
inline constexpr std::size_t kDataOffsetAt = 16;  // u64
inline constexpr std::size_t kDataBytesAt = 24;   // u64

// Shared words, each on its own pair of cache lines.
inline constexpr std::size_t kRequestHead = 128;    // u64
inline constexpr std::size_t kAnswerHead = 256;     // u64
inline constexpr std::size_t kTrustedClosed = 384;  // u32, not 0: no more requests will come
inline constexpr std::size_t kWorkerClosed = 512;   // u32, not 0: no more answers will come
inline constexpr std::size_t kTrustedSleeps = 640;  // u32, not 0: wake me after an answer
inline constexpr std::size_t kWorkerSleeps = 768;   // u32, not 0: wake me after a request

inline constexpr std::size_t kHeaderBytes = 4096;
inline constexpr std::size_t kRequestStride = 64;
inline constexpr std::size_t kAnswerStride = 32;
static_assert(sizeof(Request) <= kRequestStride && sizeof(Answer) <= kAnswerStride);

inline constexpr std::uint32_t kMaxCapacity = 4096;
inline constexpr std::size_t kSlotAlignment = 64;

[[nodiscard]] constexpr std::size_t request_at(std::uint64_t n, std::uint32_t capacity) noexcept {
  return kHeaderBytes + static_cast<std::size_t>(n % capacity) * kRequestStride;
}
[[nodiscard]] constexpr std::size_t answer_at(std::uint64_t n, std::uint32_t capacity) noexcept {
  return kHeaderBytes + capacity * kRequestStride +
         static_cast<std::size_t>(n % capacity) * kAnswerStride;
}
[[nodiscard]] constexpr std::size_t data_offset(std::uint32_t capacity) noexcept {
  return base::round_up(kHeaderBytes + capacity * (kRequestStride + kAnswerStride), 4096);
}

}  // namespace slalom::channel

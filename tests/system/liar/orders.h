// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace slalom::testing {

// Lie is a way in which a device can be wrong. The first group changes the answer's words, the
// second what is said about them, the third is silence.
enum class Lie : std::uint32_t {
  kNone = 0,
  kBit,         // one bit of one word
  kElement,     // one word becomes another residue
  kPair,        // +d and -d in two channels of one position
  kPositions,   // +d and -d in two positions of one channel: cancels under an all-ones challenge
  kImages,      // two images of the batch change places
  kConstant,    // the same is added to every word
  kLastBatch,   // what this layer answered before
  kOtherLayer,  // what another layer answered
  kZeros,
  kAboveP,      // a word that is not a residue
  kRewrite,     // an honest answer whose words change while they are read
  kShort,       // one byte fewer is announced
  kLong,        // one byte more
  kSequence,    // another request's number
  kOutOfOrder,  // the next request is answered first
  kStatus,      // a status that does not exist
  kTwice,       // the same answer again
  kFailed,      // "cannot compute"
  kLate,        // after the time-out
  kNever,
  kCrash,  // the process ends
};
inline constexpr std::size_t kNumLies = static_cast<std::size_t>(Lie::kCrash) + 1;
inline constexpr std::array<std::string_view, kNumLies> kLieNames = {
    "none",        "bit",   "element", "pair",    "positions", "images", "constant", "last-batch",
    "other-layer", "zeros", "above-p", "rewrite", "short",     "long",   "sequence", "out-of-order",
    "status",      "twice", "failed",  "late",    "never",     "crash"};

inline constexpr std::uint32_t kAnyLayer = UINT32_MAX;
inline constexpr std::size_t kMaxLiars = 8;

// Fingerprint is the start of what one image's request held: at least 8 words.
using Fingerprint = std::array<std::byte, 32>;
inline constexpr std::size_t kMaxSeen = std::size_t{1} << 16U;

// Orders is shared memory between a test and a resident liar: what the i-th connection is to do. A
// connection lies at every request of `layer` (a plan node) after it has let `skip` of them pass.
struct Orders {
  std::atomic<bool> ready;  // set by the liar once it listens
  std::atomic<std::uint32_t> layer;
  std::atomic<std::uint32_t> late_ms;  // how late kLate is
  struct One {
    std::atomic<Lie> lie;
    std::atomic<std::uint32_t> skip;
    std::atomic<std::uint32_t> told;  // counts the lies that made a difference
  };
  std::array<One, kMaxLiars> one;
  // What came in for the plan node `watched`, image by image; kept up to kMaxSeen.
  std::atomic<std::uint32_t> watched;
  std::atomic<std::size_t> images;
  std::array<Fingerprint, kMaxSeen> seen;
};
static_assert(std::atomic<Lie>::is_always_lock_free);

}  // namespace slalom::testing

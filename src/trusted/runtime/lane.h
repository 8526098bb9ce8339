// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/arena.h"
#include "channel/port.h"
#include "field/challenge.h"
#include "field/kernels.h"
#include "runtime/checks.h"
#include "runtime/setup.h"
#include "slalom/result.h"
#include "vault/pads.h"

namespace slalom::runtime {

// kMaxImages bounds a micro-batch.
inline constexpr std::size_t kMaxImages = 256;

// Lane is one micro-batch in flight: a small state machine over the program's steps, with all the
// memory that it will ever need. One thread, but for the tiles of one step.
struct Lane {
  enum class State : std::uint8_t {
    kFree,     // holds no images
    kWaiting,  // lost its device: begins again once there are pads for it
    kRunning,  // between two steps, or waiting for an answer
    // The verdict is in and good, or nothing may be released. Free again when the sink was told and
    // the device owes no answer for the slot (late ones are dropped unread).
    kEnded,
  };
  State state = State::kFree;
  Status outcome;         // of kEnded
  bool reported = false;  // of kEnded: the sink was told

  std::uint64_t first_image = 0;
  std::size_t images = 0;

  // One attempt: from the inputs to a verdict, on one port, under one challenge set.
  std::uint64_t attempt = 0;
  std::size_t step = 0;
  std::size_t port = 0;
  Checks::Set set;
  field::Verdict verdict;
  std::vector<vault::PadTicket> tickets;  // one an image; empty when none was taken
  std::vector<std::uint64_t> awaited;     // by link: the request without an answer, or 0
  std::span<field::Residues> input_sums;  // by link, then image

  std::byte* arena = nullptr;        // the program's tensors
  std::vector<channel::Slot> slots;  // by port

  [[nodiscard]] bool running() const noexcept { return state == State::kRunning; }
  [[nodiscard]] bool owed() const noexcept {
    return std::ranges::any_of(awaited, [](std::uint64_t s) { return s != 0; });
  }
};

// make_lanes makes the lanes of a setup, constants in place, without slots; `input` becomes room
// for one image's inputs. All lies in the arena that is returned. kUnavailable: no memory.
[[nodiscard]] Result<base::SecretArena> make_lanes(const Setup& setup, std::vector<Lane>& lanes,
                                                   std::span<std::uint8_t>& input);

}  // namespace slalom::runtime

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "channel/port.h"
#include "field/challenge.h"
#include "field/kernels.h"
#include "model/plan.h"
#include "runtime/checks.h"
#include "runtime/program.h"
#include "slalom/result.h"
#include "vault/pads.h"

namespace slalom::runtime {

// kMaxImages bounds a micro-batch.
inline constexpr std::size_t kMaxImages = 256;

// Lane is one micro-batch in flight: a small state machine over the program's steps, with all the
// memory that it will ever need. One thread, but for the tiles of one step.
struct Lane {
  enum class State : std::uint8_t {
    kFree,      // holds no images
    kRunning,   // between two steps, or waiting for an answer
    kFinished,  // the verdict is in and good; waits for its turn to be delivered
    kFailed,    // nothing may be released; waits for its turn to be reported
    kDraining,  // failed, and the device still owes answers for its slot: they are dropped unread
  };
  State state = State::kFree;
  Error error;            // of kFailed and kDraining
  bool reported = false;  // of kDraining: the sink was told already

  std::uint64_t first_image = 0;
  std::size_t images = 0;

  // One attempt: from the inputs to a verdict, on one port, under one challenge set.
  std::uint64_t attempt = 0;
  std::size_t step = 0;
  std::size_t port = 0;
  Checks::Set set;
  field::Verdict verdict;
  std::vector<vault::PadTicket> tickets;  // one an image; empty when none was taken
  struct Answer {
    std::uint64_t sequence = 0;  // 0: not asked
    bool arrived = false;
  };
  std::vector<Answer> answers;            // by link
  std::span<field::Residues> input_sums;  // by link, then image

  std::byte* arena = nullptr;        // the program's tensors
  std::vector<channel::Slot> slots;  // by port

  [[nodiscard]] bool waits(std::uint32_t link) const noexcept {
    return answers[link].sequence != 0 && !answers[link].arrived;
  }
  [[nodiscard]] bool owed() const noexcept {
    for (std::uint32_t l = 0; l < answers.size(); ++l) {
      if (waits(l)) return true;
    }
    return false;
  }
};

}  // namespace slalom::runtime

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "channel/shared.h"
#include "outside.h"

namespace slalom::channel {

inline constexpr std::chrono::nanoseconds kSpin = std::chrono::microseconds(100);
inline constexpr std::chrono::nanoseconds kFirstNap = std::chrono::microseconds(50);

// wait_until calls attempt() until it returns true or the time is over: at once, then spinning for
// kSpin, then between naps that double up to longest_nap. While it naps, the word at `sleeps` asks
// the other side for a wake-up after it has moved the head at `head`; the other side looks at
// `sleeps` after moving the head and attempt() runs after `sleeps` is set, so one of the two sees
// the other. If no wake-up comes, or there is no futex across the border, naps end by themselves.
template <class Attempt>
void wait_until(const SharedView& view, std::size_t head, std::size_t sleeps,
                std::chrono::nanoseconds time, std::chrono::nanoseconds longest_nap,
                Attempt attempt) {
  using Clock = std::chrono::steady_clock;
  if (attempt()) return;
  const auto start = Clock::now();
  std::chrono::nanoseconds nap = kFirstNap;
  for (;;) {
    const std::chrono::nanoseconds spent = Clock::now() - start;
    if (spent >= time) {
      static_cast<void>(attempt());
      return;
    }
    if (spent < kSpin) {
      for (int i = 0; i < 64; ++i) __builtin_ia32_pause();
      if (attempt()) return;
      continue;
    }
    const auto seen = view.load<std::uint64_t>(head, std::memory_order_seq_cst);
    view.store<std::uint32_t>(sleeps, 1, std::memory_order_seq_cst);
    const bool over = attempt();
    if (!over) {
      outside::sleep_on(view.low_half(head), static_cast<std::uint32_t>(seen),
                        std::min(nap, time - spent));
      nap = std::min(nap * 2, longest_nap);
    }
    view.store<std::uint32_t>(sleeps, 0, std::memory_order_relaxed);
    if (over || attempt()) return;
  }
}

// announce moves the head of a ring, after everything that was written before it, and wakes the
// reader if it asks for that.
inline void announce(const SharedView& view, std::size_t head, std::size_t sleeps,
                     std::uint64_t count) {
  view.store(head, count, std::memory_order_seq_cst);
  if (view.load<std::uint32_t>(sleeps, std::memory_order_seq_cst) != 0) {
    outside::wake(view.low_half(head));
  }
}

}  // namespace slalom::channel

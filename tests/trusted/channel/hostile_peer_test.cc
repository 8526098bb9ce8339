// SPDX-License-Identifier: Apache-2.0
// A peer that breaks every rule of docs/channel-format.md. What is expected is always the same: the
// port closes with kRejected, stays closed, and nothing that the peer wrote was used.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <functional>
#include <random>
#include <thread>

#include "base/round_up.h"
#include "support/change_behind.h"
#include "support/channel_peer.h"
#include "support/sanitizers.h"

namespace slalom::channel {
namespace {

using testing::make_port;
using testing::Peer;
using testing::request_for;

// Runs `attack` against a port with `requests` unanswered requests of 64 bytes and expects
// kRejected.
void expect_rejected(const char* what, int requests,
                     const std::function<void(const Peer&)>& attack) {
  SCOPED_TRACE(what);
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot slot = *port->allocate(64);
  for (int i = 0; i < requests; ++i) ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
  ASSERT_FALSE(port->poll()->has_value());
  attack(peer);
  for (int again = 0; again < 3; ++again) {
    const auto got = port->poll();
    ASSERT_FALSE(got.ok());
    EXPECT_EQ(got.error().code, Errc::kRejected);
    peer.put(0, {1, AnswerStatus::kDone, 64, 0});  // what it should have been comes too late
    peer.head(1);
  }
  EXPECT_EQ(port->wait(std::chrono::seconds(5)).error().code, Errc::kRejected);
  EXPECT_EQ(port->submit(request_for(slot, slot)).error().code, Errc::kRejected);
  EXPECT_EQ(port->allocate(64).error().code, Errc::kRejected);
  EXPECT_EQ(port->bytes_in(), 0U);
  EXPECT_EQ(peer.view().load<std::uint32_t>(kTrustedClosed, std::memory_order_acquire), 1U);
}

TEST(HostilePeer, EveryBreachClosesThePort) {
  const auto done = AnswerStatus::kDone;
  expect_rejected("an answer to nothing", 0, [&](const Peer& p) {
    p.put(0, {1, done, 64, 0});
    p.head(1);
  });
  expect_rejected("more answers than requests", 2, [&](const Peer& p) {
    p.put(0, {1, done, 64, 0});
    p.put(1, {2, done, 64, 0});
    p.head(3);
  });
  expect_rejected("a head far ahead", 2, [](const Peer& p) { p.head(UINT64_MAX); });
  expect_rejected("a head that went back", 1, [](const Peer& p) { p.head(UINT64_MAX - 5); });
  expect_rejected("sequence zero", 1, [&](const Peer& p) {
    p.put(0, {0, done, 64, 0});
    p.head(1);
  });
  expect_rejected("a sequence of the future", 2, [&](const Peer& p) {
    p.put(0, {3, done, 64, 0});
    p.head(1);
  });
  expect_rejected("out of order", 2, [&](const Peer& p) {
    p.put(0, {2, done, 64, 0});
    p.put(1, {1, done, 64, 0});
    p.head(2);
  });
  expect_rejected("short", 1, [&](const Peer& p) {
    p.put(0, {1, done, 63, 0});
    p.head(1);
  });
  expect_rejected("long", 1, [&](const Peer& p) {
    p.put(0, {1, done, 65, 0});
    p.head(1);
  });
  expect_rejected("empty", 1, [&](const Peer& p) {
    p.put(0, {1, done, 0, 0});
    p.head(1);
  });
  expect_rejected("failed with bytes", 1, [&](const Peer& p) {
    p.put(0, {1, AnswerStatus::kFailed, 64, 0});
    p.head(1);
  });
  for (const std::uint32_t status : {0U, 3U, 0x8000'0001U, UINT32_MAX}) {
    for (const std::uint32_t bytes : {64U, 0U}) {  // as a done one's and as a failed one's
      expect_rejected("an unknown status", 1, [&](const Peer& p) {
        p.put(0, {1, static_cast<AnswerStatus>(status), bytes, 0});
        p.head(1);
      });
    }
  }
}

TEST(HostilePeer, ADuplicateIsRejected) {
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot slot = *port->allocate(64);
  ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
  ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
  peer.answer(0);
  ASSERT_TRUE(port->poll()->has_value());
  peer.put(1, {1, AnswerStatus::kDone, 64, 0});
  peer.head(2);
  EXPECT_EQ(port->poll().error().code, Errc::kRejected);
}

TEST(HostilePeer, EachAnswerHasTheSizeOfItsOwnRequest) {
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot large = *port->allocate(64);
  const Slot small = *port->allocate(32);
  ASSERT_TRUE(port->submit(request_for(large, large)).ok());
  ASSERT_TRUE(port->submit(request_for(large, small)).ok());
  peer.answer(0);
  ASSERT_TRUE(port->poll()->has_value());
  peer.put(1, {2, AnswerStatus::kDone, 64, 0});
  peer.head(2);
  EXPECT_EQ(port->poll().error().code, Errc::kRejected);
}

TEST(HostilePeer, AnAnswerAfterTheLastIsRejected) {
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot slot = *port->allocate(64);
  ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
  peer.answer(0);
  ASSERT_TRUE(port->poll()->has_value());
  peer.head(0);  // going back
  EXPECT_EQ(port->poll().error().code, Errc::kRejected);
}

// What the trusted side wrote into the header and the request ring is never read back: a peer that
// destroys all of it changes nothing.
TEST(HostilePeer, RewritingWhatTheTrustedSideWroteChangesNothing) {
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot slot = *port->allocate(64);
  ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
  for (std::size_t at = 0; at < answer_at(0, 8); at += 8) {
    if (at == kAnswerHead || at == kWorkerClosed) continue;
    peer.view().store<std::uint64_t>(at, 0xdead'beef'dead'beef, std::memory_order_relaxed);
  }
  peer.put(0, {1, AnswerStatus::kDone, 64, 0});
  peer.head(1);
  const auto got = port->poll();
  ASSERT_TRUE(got.ok() && got->has_value());
  EXPECT_TRUE(port->submit(request_for(slot, slot)).ok());
  EXPECT_EQ(port->allocate(64)->offset, 64U);
}

// A thread that changes an answer without end between two that are both good: what is reported must
// be one of them, whole, as it was when it was checked.
TEST(HostilePeer, WhatWasCheckedIsWhatIsReported) {
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot slot = *port->allocate(64);
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::thread flipper([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      // Status and size share eight bytes, so that nobody sees a mixture of the two.
      const std::size_t at = answer_at(next.load(std::memory_order_relaxed), 8) + 8;
      peer.view().store<std::uint64_t>(at, std::uint64_t{64} << 32 | 1, std::memory_order_relaxed);
      peer.view().store<std::uint64_t>(at, 2, std::memory_order_relaxed);
    }
  });
  std::uint64_t bytes = 0;
  for (std::uint64_t n = 0; n < 200'000 && !HasFailure(); ++n) {
    const bool sent = port->submit(request_for(slot, slot)).ok();
    peer.put(n, {n + 1, AnswerStatus::kFailed, 0, 0});
    next = n;
    peer.head(n + 1);
    const auto got = port->poll();
    const bool taken = sent && got.ok() && got->has_value();
    EXPECT_TRUE(taken);
    if (!taken) break;
    EXPECT_EQ((*got)->sequence, n + 1);
    EXPECT_EQ(port->bytes_in() - bytes, (*got)->done ? 64U : 0U);
    bytes = port->bytes_in();
  }
  stop = true;
  flipper.join();
}

// The same with an answer that is another one behind every load.
TEST(HostilePeer, AnAnswerIsLoadedOnce) {
  if (slalom::testing::kAddressSanitizer || slalom::testing::kThreadSanitizer) {
    GTEST_SKIP() << "a sanitizer handles faults itself";
  }
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot slot = *port->allocate(64);
  const std::size_t rings = base::round_up(data_offset(8), std::size_t{4096});
  const std::span pages(slot.memory.data() - slot.offset - data_offset(8), rings);
  std::uint64_t bytes = 0;
  std::uint64_t changes = 0;
  for (std::uint64_t n = 0; n < 64; ++n) {
    ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
    peer.put(n, {n + 1, AnswerStatus::kFailed, 0, 0});
    peer.head(n + 1);
    const auto change = [&, at = answer_at(n, 8) + 8] {
      const std::uint64_t good = ++changes % 2 == 0 ? std::uint64_t{64} << 32 | 1 : 2;
      peer.view().store<std::uint64_t>(at, good, std::memory_order_relaxed);
    };
    if (n % 2 == 1) change();
    const auto got = [&] {
      const slalom::testing::ChangeBehind behind(pages, change);
      return port->poll();
    }();
    ASSERT_TRUE(got.ok() && got->has_value());
    EXPECT_EQ(port->bytes_in() - bytes, (*got)->done ? 64U : 0U);
    bytes = port->bytes_in();
  }
  EXPECT_GE(changes, 3 * 64U);
}

TEST(SharedView, AnAccessOutsideTheSegmentEndsTheProcess) {
  alignas(8) std::array<std::byte, 16> memory{};
  const SharedView view(memory);
  const auto load = [&](std::size_t at) {
    return view.load<std::uint64_t>(at, std::memory_order_relaxed);
  };
  EXPECT_EQ(load(8), 0U);
  for (const std::size_t at : {9UL, 12UL, 16UL, SIZE_MAX - 7}) EXPECT_DEATH(load(at), "");
}

// A thread that scribbles random words over the header and both rings while the trusted side works.
// Whatever is reported must name a request that was made, once, in order; then the port closes.
TEST(HostilePeer, ScribblingWhileTheTrustedSidePolls) {
  int completions = 0;
  int rejected = 0;
  for (unsigned seed = 0; seed < 60; ++seed) {
    const auto port = make_port(1 << 16, 8);
    const Peer peer(*port, 8);
    const Slot slot = *port->allocate(64);
    std::atomic<bool> stop{false};
    std::thread scribbler([&] {
      std::mt19937_64 random(seed);
      while (!stop.load()) {
        const std::uint64_t dice = random() % 8;
        if (dice < 4) {  // plausible: the next answer, perhaps twice
          peer.put(random() % 8, {random() % 6, static_cast<AnswerStatus>(random() % 3), 64, 0});
          peer.head(random() % 4);
        } else {
          const std::size_t at = (random() % (data_offset(8) / 8)) * 8;
          if (at == kWorkerClosed) continue;
          peer.view().store<std::uint64_t>(at, random(), std::memory_order_relaxed);
        }
      }
    });
    std::uint64_t last = 0;
    std::uint64_t submitted = 0;
    for (int step = 0; step < 2000; ++step) {
      const auto sent = port->submit(request_for(slot, slot));
      if (sent.ok()) submitted = *sent;
      const auto got = step % 2 == 0 ? port->poll() : port->wait(std::chrono::microseconds(20));
      if (!got.ok()) {
        EXPECT_EQ(got.error().code, Errc::kRejected);
        ++rejected;
        break;
      }
      if (!got->has_value()) continue;
      ++completions;
      EXPECT_EQ((*got)->sequence, last + 1);
      EXPECT_LE((*got)->sequence, submitted);
      last = (*got)->sequence;
    }
    stop = true;
    scribbler.join();
  }
  EXPECT_GT(rejected, 30) << "the scribbler was never caught: the test does not bite";
  RecordProperty("completions", completions);
}

}  // namespace
}  // namespace slalom::channel

// SPDX-License-Identifier: Apache-2.0
#include "worker/endpoint.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/channel_peer.h"
#include "worker/worker.h"

namespace slalom::worker {
namespace {

using channel::Request;
using channel::Slot;
using channel::testing::make_port;
using channel::testing::Peer;
using channel::testing::request_for;

outside::Descriptor segment_of(const channel::ShmPort& port) {
  return outside::Descriptor(dup(port.descriptor()));
}

TEST(ShmEndpoint, RefusesWhatIsNoSegment) {
  const int empty = memfd_create("empty", 0);
  EXPECT_EQ(ShmEndpoint::open(outside::Descriptor(empty)).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(ShmEndpoint::open(outside::Descriptor(-1)).error().code, Errc::kInvalidArgument);
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(pipe(pipe_ends.data()), 0);
  outside::Descriptor other(pipe_ends[1]);
  EXPECT_EQ(ShmEndpoint::open(outside::Descriptor(pipe_ends[0])).error().code,
            Errc::kInvalidArgument);
  const int zeros = memfd_create("zeros", 0);
  ASSERT_EQ(ftruncate(zeros, 1 << 20), 0);
  EXPECT_EQ(ShmEndpoint::open(outside::Descriptor(zeros)).error().code, Errc::kMalformed);
  const int small = memfd_create("small", 0);
  ASSERT_EQ(ftruncate(small, 100), 0);
  EXPECT_EQ(ShmEndpoint::open(outside::Descriptor(small)).error().code, Errc::kMalformed);
}

TEST(ShmEndpoint, RefusesEveryWrongHeader) {
  const auto order = std::memory_order_relaxed;
  const auto with = [&](std::size_t at, std::uint32_t value) {
    const auto port = make_port();
    const Peer peer(*port, 8);
    peer.view().store<std::uint32_t>(at, value, order);
    auto opened = ShmEndpoint::open(segment_of(*port));
    return opened.ok() ? Errc{} : opened.error().code;
  };
  EXPECT_EQ(with(channel::kMagicAt, 1), Errc::kMalformed);
  EXPECT_EQ(with(channel::kVersionAt, 2), Errc::kMalformed);
  EXPECT_EQ(with(channel::kCapacityAt, 7), Errc::kMalformed);
  EXPECT_EQ(with(channel::kCapacityAt, 0), Errc::kMalformed);
  EXPECT_EQ(with(channel::kCapacityAt, 1U << 30), Errc::kMalformed);
  EXPECT_EQ(with(channel::kDataOffsetAt, 64), Errc::kMalformed);
  EXPECT_EQ(with(channel::kDataBytesAt, 1U << 31), Errc::kMalformed);
  EXPECT_EQ(with(channel::kVersionAt, channel::kVersion), Errc{});
}

TEST(ShmEndpoint, SlotsLieInTheDataArea) {
  const auto port = make_port(4096);
  const auto end = ShmEndpoint::open(segment_of(*port));
  ASSERT_TRUE(end.ok());
  EXPECT_TRUE(end->slot(0, 4096));
  EXPECT_TRUE(end->slot(4096, 0));
  EXPECT_FALSE(end->slot(1, 4096));
  EXPECT_FALSE(end->slot(4097, 0));
  EXPECT_FALSE(end->slot(UINT64_MAX, 2));
  EXPECT_FALSE(end->slot(2, UINT64_MAX));
  Request r{};
  r.output_offset = 4000;
  r.output_bytes = 97;
  EXPECT_FALSE(job_of(*end, r));
  r.output_bytes = 96;
  EXPECT_TRUE(job_of(*end, r));
}

TEST(ShmEndpoint, ClosesWithTheTrustedSideAndNoticesAWildHead) {
  auto port = make_port();
  auto end = ShmEndpoint::open(segment_of(*port));
  ASSERT_TRUE(end.ok());
  EXPECT_FALSE(end->next(std::chrono::milliseconds(1))->has_value());
  const Peer peer(*port, 8);
  peer.view().store<std::uint64_t>(channel::kRequestHead, 9, std::memory_order_release);
  EXPECT_EQ(end->next(std::chrono::milliseconds(1)).error().code, Errc::kMalformed);
  port.reset();
  EXPECT_EQ(end->next(std::chrono::seconds(5)).error().code, Errc::kUnavailable);
}

TEST(ShmEndpoint, ItsEndIsSeenByTheTrustedSide) {
  const auto port = make_port();
  const Slot slot = *port->allocate(64);
  ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
  {
    auto end = ShmEndpoint::open(segment_of(*port));
    ASSERT_TRUE(end.ok());
    auto moved = std::move(*end);  // a moved-from endpoint marks nothing
    EXPECT_FALSE(port->poll()->has_value());
  }
  EXPECT_EQ(port->wait(std::chrono::seconds(5)).error().code, Errc::kUnavailable);
}

}  // namespace
}  // namespace slalom::worker

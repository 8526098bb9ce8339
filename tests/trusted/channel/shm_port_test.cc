// SPDX-License-Identifier: Apache-2.0
#include "channel/shm_port.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "support/channel_peer.h"

namespace slalom::channel {
namespace {

using namespace std::chrono_literals;
using testing::make_port;
using testing::Peer;
using testing::request_for;

TEST(ShmPort, RefusesSizesOutOfRange) {
  for (const ShmPort::Sizes& sizes :
       {ShmPort::Sizes{0, 8}, ShmPort::Sizes{64, 0}, ShmPort::Sizes{64, 3},
        ShmPort::Sizes{64, 8192}, ShmPort::Sizes{SIZE_MAX, 8},
        ShmPort::Sizes{(std::size_t{1} << 46) + 1, 8}}) {
    const auto port = ShmPort::create(sizes);
    ASSERT_FALSE(port.ok());
    EXPECT_EQ(port.error().code, Errc::kInvalidArgument);
  }
}

TEST(ShmPort, TheSegmentCannotChangeItsSize) {
  const auto port = make_port();
  const int fd = port->descriptor();
  EXPECT_NE(ftruncate(fd, 10), 0);
  EXPECT_NE(ftruncate(fd, 1 << 30), 0);
  EXPECT_NE(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0) << "nobody can add a seal";
  const int seals = fcntl(fd, F_GET_SEALS);
  EXPECT_EQ(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

TEST(ShmPort, TheSegmentIsNotForCode) {
  constexpr unsigned kNoExecSeal = 8;  // of Linux 6.3; it brings the seal 0x20
  const int probe = memfd_create("probe", kNoExecSeal);
  if (probe < 0) GTEST_SKIP() << "this kernel does not know the flag";
  close(probe);
  const auto port = make_port();
  EXPECT_NE(fcntl(port->descriptor(), F_GET_SEALS) & 0x20, 0);
}

TEST(ShmPort, TheHeaderIsAsDocumented) {
  const auto port = make_port(1 << 16, 8);
  const Peer peer(*port, 8);
  const auto order = std::memory_order_acquire;
  EXPECT_EQ(std::memcmp(peer.bytes().data(), "SLALOMC1", 8), 0);
  EXPECT_EQ(peer.view().load<std::uint32_t>(8, order), kVersion);
  EXPECT_EQ(peer.view().load<std::uint32_t>(12, order), 8U);
  EXPECT_EQ(peer.view().load<std::uint64_t>(16, order), 8192U);
  EXPECT_EQ(peer.view().load<std::uint64_t>(24, order), std::uint64_t{1} << 16);
}

TEST(ShmPort, ARequestArrivesWholeAndItsAnswerComesBack) {
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot in = *port->allocate(100);
  const Slot out = *port->allocate(30);
  in.memory[7] = std::byte{42};
  Request r = request_for(in, out);
  r.attempt = 77;
  r.layer = 3;
  r.pad_code = 9;
  r.zero = {1, 2, 3, 4, 5};
  const auto sequence = port->submit(r);
  ASSERT_TRUE(sequence.ok());
  ASSERT_EQ(peer.requests(), 1U);
  const Request seen = peer.request(0);
  EXPECT_EQ(seen.sequence, *sequence);
  EXPECT_EQ(seen.attempt, 77U);
  EXPECT_EQ(seen.layer, 3U);
  EXPECT_EQ(seen.pad_code, 9);
  EXPECT_EQ(seen.input_bytes, 100U);
  EXPECT_EQ(seen.output_bytes, 30U);
  EXPECT_EQ(seen.zero, (std::array<std::uint8_t, 5>{}));
  EXPECT_EQ(peer.data()[seen.input_offset + 7], std::byte{42});
  EXPECT_FALSE(port->poll()->has_value());

  peer.data()[seen.output_offset] = std::byte{17};
  peer.answer(0);
  const auto got = port->poll();
  ASSERT_TRUE(got.ok() && got->has_value());
  EXPECT_EQ((*got)->sequence, *sequence);
  EXPECT_TRUE((*got)->done);
  EXPECT_EQ((*got)->device_ns, 5U);
  EXPECT_EQ(out.memory[0], std::byte{17});
  EXPECT_EQ(port->bytes_out(), 100U);
  EXPECT_EQ(port->bytes_in(), 30U);
  EXPECT_FALSE(port->poll()->has_value());
}

TEST(ShmPort, AWorkerMaySayThatItFailed) {
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot in = *port->allocate(64);
  const Slot out = *port->allocate(64);
  ASSERT_TRUE(port->submit(request_for(in, out)).ok());
  peer.put(0, {1, AnswerStatus::kFailed, 0, 0});
  peer.head(1);
  const auto got = port->poll();
  ASSERT_TRUE(got.ok() && got->has_value());
  EXPECT_FALSE((*got)->done);
  EXPECT_EQ(port->bytes_in(), 0U);
}

TEST(ShmPort, RequestsMustNameTheirOwnSlots) {
  const auto port = make_port();
  const Slot in = *port->allocate(64);
  const Slot out = *port->allocate(64);
  const auto refused = [&](Request r) {
    const auto sent = port->submit(r);
    return !sent.ok() && sent.error().code == Errc::kInvalidArgument;
  };
  Request r = request_for(in, out);
  r.input_bytes = 65;
  EXPECT_TRUE(refused(r));
  r = request_for(in, out);
  r.output_offset = 128;
  EXPECT_TRUE(refused(r));
  r = request_for(in, out);
  r.output_offset = in.offset;
  r.output_bytes = 128;
  EXPECT_TRUE(refused(r)) << "two slots";
  r = request_for(in, out);
  r.input_offset = in.offset + 32;
  EXPECT_TRUE(refused(r)) << "half of one slot and half of the next";
  r = request_for(in, out);
  r.input_offset = ~std::uint64_t{0} - 8;
  EXPECT_TRUE(refused(r));
  r = request_for(in, out);
  r.output_bytes = 0;
  EXPECT_TRUE(refused(r));
  r = request_for(in, out);
  r.kind = InputKind::kRetained;
  EXPECT_TRUE(refused(r)) << "a retained input has no bytes";
  r.input_bytes = 0;
  EXPECT_TRUE(port->submit(r).ok());
  EXPECT_TRUE(port->submit(request_for(in, out)).ok()) << "a mistake does not close the port";
}

TEST(ShmPort, TheRingHoldsCapacityRequestsAndWrapsAround) {
  const auto port = make_port(1 << 16, 4);
  const Peer peer(*port, 4);
  const Slot in = *port->allocate(64);
  const Slot out = *port->allocate(64);
  std::uint64_t answered = 0;
  for (int round = 0; round < 50; ++round) {
    std::vector<std::uint64_t> sent;
    for (int i = 0; i < 4; ++i) sent.push_back(*port->submit(request_for(in, out)));
    const auto more = port->submit(request_for(in, out));
    ASSERT_FALSE(more.ok());
    EXPECT_EQ(more.error().code, Errc::kUnavailable);
    for (const auto sequence : sent) {
      peer.answer(answered++);
      const auto got = port->poll();
      ASSERT_TRUE(got.ok() && got->has_value());
      EXPECT_EQ((*got)->sequence, sequence);
    }
  }
}

TEST(ShmPort, SlotsAreAlignedApartAndInside) {
  const auto port = make_port(256, 8);
  const Peer peer(*port, 8);
  EXPECT_FALSE(port->allocate(0).ok());
  EXPECT_FALSE(port->allocate(257).ok());
  EXPECT_FALSE(port->allocate(SIZE_MAX).ok());
  const Slot first = *port->allocate(100);
  const Slot second = *port->allocate(64);
  EXPECT_EQ(first.offset, 0U);
  EXPECT_EQ(second.offset, 128U);
  second.memory[63] = std::byte{9};
  EXPECT_EQ(peer.data()[191], std::byte{9});
  EXPECT_EQ(port->allocate(65).error().code, Errc::kUnavailable);
  EXPECT_EQ(port->allocate(64)->offset, 192U);
  EXPECT_FALSE(port->allocate(1).ok());
}

TEST(ShmPort, RequestsMayNamePartsOfASlot) {
  const auto port = make_port(256, 8);
  const Peer peer(*port, 8);
  const Slot whole = *port->allocate(192);
  Request r = request_for(whole, whole);
  r.input_offset += 10;
  r.input_bytes = 20;
  r.output_offset += 100;
  r.output_bytes = 92;
  ASSERT_TRUE(port->submit(r).ok());
  peer.answer(0);
  EXPECT_TRUE(port->poll()->has_value());
}

TEST(ShmPort, WaitReturnsWhenTheAnswerComesAndNotMuchAfterItsTime) {
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot slot = *port->allocate(64);
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
  EXPECT_FALSE(port->wait(30ms)->has_value());
  EXPECT_GE(std::chrono::steady_clock::now() - start, 30ms);
  EXPECT_FALSE(port->wait(0ns)->has_value());
  EXPECT_FALSE(port->wait(-1s)->has_value());
  // This peer never wakes anybody: naps end by themselves.
  std::thread late([&] {
    std::this_thread::sleep_for(20ms);
    peer.answer(0);
  });
  const auto got = port->wait(20s);
  late.join();
  ASSERT_TRUE(got.ok() && got->has_value());
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
}

TEST(ShmPort, AStoppedWorkerIsUnavailableAfterItsLastAnswer) {
  const auto port = make_port();
  const Peer peer(*port, 8);
  const Slot slot = *port->allocate(64);
  ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
  ASSERT_TRUE(port->submit(request_for(slot, slot)).ok());
  peer.answer(0);
  peer.view().store<std::uint32_t>(kWorkerClosed, 1, std::memory_order_seq_cst);
  EXPECT_TRUE(port->wait(1s)->has_value());
  const auto got = port->wait(20s);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, Errc::kUnavailable);
  EXPECT_EQ(port->submit(request_for(slot, slot)).error().code, Errc::kUnavailable);
  EXPECT_EQ(port->allocate(64).error().code, Errc::kUnavailable);
}

TEST(ShmPort, ItsEndIsMarkedInTheSegment) {
  auto port = make_port();
  const Peer peer(*port, 8);
  EXPECT_EQ(peer.view().load<std::uint32_t>(kTrustedClosed, std::memory_order_acquire), 0U);
  port.reset();
  EXPECT_EQ(peer.view().load<std::uint32_t>(kTrustedClosed, std::memory_order_acquire), 1U);
}

}  // namespace
}  // namespace slalom::channel

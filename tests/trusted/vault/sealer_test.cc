// SPDX-License-Identifier: Apache-2.0
#include "vault/sealer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "support/memory_scan.h"
#include "support/sanitizers.h"
#include "support/vectors.h"

namespace slalom::vault {
namespace {

field::StreamKey key_of(const std::vector<std::byte>& bytes) {
  field::StreamKey key{};
  std::copy(bytes.begin(), bytes.end(), key.begin());
  return key;
}

TEST(Sealers, AgreeWithAnotherImplementation) {
  const auto vectors = testing::read_vectors(SLALOM_VECTORS "/sealer.txt");
  ASSERT_EQ(vectors.size(), 5U);
  for (const auto& v : vectors) {
    field::Address address;
    std::memcpy(address.model.data(), v.bytes("model").data(), 32);
    address.epoch = v.number("epoch");
    address.inference = v.number("inference");
    address.index = static_cast<std::uint32_t>(v.number("node"));
    const auto chunk = static_cast<std::uint32_t>(v.number("chunk"));
    Sealer sealer(key_of(v.bytes("epoch_key")), address);
    auto bytes = v.bytes("plain");
    std::array<std::byte, kTagBytes> tag{};
    sealer.seal(chunk, bytes, tag);
    EXPECT_EQ(bytes, v.bytes("sealed"));
    EXPECT_EQ(std::vector<std::byte>(tag.begin(), tag.end()), v.bytes("tag"));
    EXPECT_TRUE(sealer.open(chunk, bytes, tag).ok());
    EXPECT_EQ(bytes, v.bytes("plain"));
  }
}

class SealedChunk : public ::testing::Test {
 protected:
  void SetUp() override {
    for (std::size_t i = 0; i < 32; ++i) key_[i] = static_cast<std::byte>(i);
    address_.inference = 7;
    address_.index = 3;
    sealed_.assign(200, std::byte{42});
    Sealer(key_, address_).seal(5, sealed_, tag_);
  }
  // opens tries to open the sealed chunk, as changed by the test, under an address.
  [[nodiscard]] bool opens(const field::Address& address, std::uint32_t chunk) {
    auto bytes = sealed_;
    auto tag = tag_;
    const auto status = Sealer(key_, address).open(chunk, bytes, tag);
    const bool plain = std::count(bytes.begin(), bytes.end(), std::byte{42}) == 200;
    const bool wiped = std::count(bytes.begin(), bytes.end(), std::byte{0}) == 200;
    EXPECT_TRUE(status.ok() ? plain : (wiped && status.error().code == Errc::kRejected));
    return status.ok();
  }

  field::StreamKey key_{};
  field::Address address_;
  std::vector<std::byte> sealed_;
  std::array<std::byte, kTagBytes> tag_{};
};

TEST_F(SealedChunk, OpensOnlyUnderItsOwnAddress) {
  EXPECT_TRUE(opens(address_, 5));
  EXPECT_FALSE(opens(address_, 6));
  for (int part = 0; part < 5; ++part) {
    field::Address other = address_;
    if (part == 0) other.inference += 1;
    if (part == 1) other.index += 1;
    if (part == 2) other.epoch += 1;
    if (part == 3) other.model[31] ^= std::byte{1};
    if (part == 4) other.mode = model::Privacy::kSplit;
    EXPECT_FALSE(opens(other, 5)) << part;
  }
}

TEST_F(SealedChunk, EveryFlippedBitIsRejected) {
  for (std::size_t bit = 0; bit < sealed_.size() * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    sealed_[bit / 8] ^= mask;
    EXPECT_FALSE(opens(address_, 5)) << bit;
    sealed_[bit / 8] ^= mask;
  }
  for (std::size_t bit = 0; bit < kTagBytes * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    tag_[bit / 8] ^= mask;
    EXPECT_FALSE(opens(address_, 5)) << bit;
    tag_[bit / 8] ^= mask;
  }
}

// scrub_stack overwrites what the calls before have left on this thread's stack.
[[gnu::noinline]] void scrub_stack() {
  std::array<std::byte, 64 * 1024> room;  // NOLINT: wiped
  base::wipe(room.data(), room.size());
}

// trace_of is what gives away the key of an address.
[[gnu::noinline]] testing::Trace trace_of(const field::StreamKey& epoch_key,
                                          const field::Address& address) {
  base::Wiped<field::StreamKey> key;
  field::derive_key("slalom unblinding factors v1", epoch_key, address, key.reveal());
  return testing::Trace(key.bytes().first<16>());
}

// A thread keeps its cipher (libcrypto's context begins its round keys with the key itself), but
// not what the cipher knew.
TEST_F(SealedChunk, TheThreadForgetsTheKey) {
  if (testing::kAddressSanitizer || testing::kThreadSanitizer) {
    GTEST_SKIP() << "sanitizers keep memory of their own";
  }
  // Another key goes this way before: a library's function that is bound at its first call finds
  // the processor's registers on the stack.
  ASSERT_TRUE(opens(address_, 5));
  ASSERT_GE(trace_of(key_, address_).count(), 0U);
  address_.index += 1;
  const testing::Trace trace = trace_of(key_, address_);
  scrub_stack();
  ASSERT_EQ(trace.count(), 0U);
  {
    Sealer sealer(key_, address_);
    sealer.seal(5, sealed_, tag_);
    EXPECT_GE(trace.count(), 2U) << "the sealer's own, and the cipher's";
    ASSERT_TRUE(sealer.open(5, sealed_, tag_).ok());
  }
  scrub_stack();
  EXPECT_EQ(trace.count(), 0U);
}

}  // namespace
}  // namespace slalom::vault

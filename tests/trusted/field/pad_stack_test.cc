// SPDX-License-Identifier: Apache-2.0
// A thread that made pads has neither a key nor a word of them left on its stack.
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "field/pad_stream.h"
#include "support/own_stack.h"
#include "support/sanitizers.h"
#include "trusted/field/support.h"

namespace slalom::field {
namespace {

class PadStack : public ::testing::Test {
 protected:
  void SetUp() override {
    if (testing::kAddressSanitizer || testing::kThreadSanitizer) {
      GTEST_SKIP() << "sanitizers keep stacks of their own";
    }
  }
};

TEST_F(PadStack, NoKeyAndNoPadIsLeft) {
  const StreamKey epoch_key{std::byte{7}};
  Address address;
  address.inference = 42;
  StreamKey key{};
  derive_stream_key(epoch_key, address, key);
  for (const Kernels* kernels : test::supported_kernels()) {
    testing::Pieces keys;
    keys.add(key);
    if (kernels->expand_key != nullptr) {
      std::array<std::byte, 240> round_keys{};
      kernels->expand_key(key.data(), round_keys.data());
      keys.add(round_keys);
    }
    for (const Field f : test::kFields) {
      std::vector<std::uint32_t> words(5'000);
      std::vector<std::byte> packed(words.size() * word_bytes(f));
      const auto work = [&] {
        base::Wiped<StreamKey> own;
        derive_stream_key(epoch_key, address, own.reveal());
        std::optional<PadStream> stream(std::in_place, own.reveal(), f, *kernels);
        stream->fill(70, std::span(words).subspan(70, 300));
        stream->fill(0, words);
        stream.reset();
      };
      work();  // a library's function that is bound at its first call leaves registers behind
      const auto left = testing::left_on_stack(work);
      ASSERT_FALSE(left.empty());
      kernels->pack(f, words.data(), words.size(), packed.data());
      testing::Pieces pads;
      pads.add(std::as_bytes(std::span(words)));
      pads.add(packed);
      EXPECT_EQ(keys.in(left), 0U) << kernels->name;
      EXPECT_EQ(pads.in(left), 0U) << kernels->name;
    }
  }
}

[[gnu::noinline]] void keep_many(const StreamKey& key) {
  std::array<StreamKey, 100> copies;  // NOLINT: filled
  copies.fill(key);
  __asm__ volatile("" : : "r"(copies.data()) : "memory");
}

// The test above can fail.
TEST_F(PadStack, WhatIsLeftIsSeen) {
  StreamKey key{};
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<std::byte>(i + 1);
  testing::Pieces keys;
  keys.add(key);
  EXPECT_GE(keys.in(testing::left_on_stack([&] { keep_many(key); })), 10 * (key.size() - 7));
}

}  // namespace
}  // namespace slalom::field

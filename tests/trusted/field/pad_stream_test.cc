// SPDX-License-Identifier: Apache-2.0
#include "field/pad_stream.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "field/random.h"
#include "trusted/field/support.h"

namespace slalom::field {
namespace {

using Record = std::map<std::string, std::string>;

std::vector<Record> read_vectors(const std::string& kind) {
  std::ifstream in(SLALOM_VECTORS "/pad_stream.txt");
  std::vector<Record> out(1);
  std::string line;
  while (std::getline(in, line)) {
    const std::size_t at = line.find(" = ");
    if (line.empty()) out.emplace_back();
    if (at != std::string::npos) out.back()[line.substr(0, at)] = line.substr(at + 3);
  }
  std::erase_if(out, [&](const Record& r) { return !r.contains("Kind") || r.at("Kind") != kind; });
  return out;
}

StreamKey unhex(const std::string& text) {
  StreamKey out{};
  EXPECT_EQ(text.size(), 2 * out.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<std::byte>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return out;
}

TEST(PadStreamTest, MatchesTheVectors) {
  const std::vector<Record> records = read_vectors("stream");
  ASSERT_GE(records.size(), 12U);
  for (const Kernels* kernels : test::supported_kernels()) {
    for (const Record& r : records) {
      const Field f = r.at("Field") == "p24" ? Field::kP24 : Field::kP31;
      const PadStream stream(unhex(r.at("Key")), f, *kernels);
      std::vector<std::uint32_t> want;
      std::istringstream words(r.at("Words"));
      for (std::uint32_t w = 0; words >> w;) want.push_back(w);
      std::vector<std::uint32_t> got(want.size());
      stream.fill(std::stoull(r.at("First")), got);
      EXPECT_EQ(got, want) << kernels->name << " first " << r.at("First");
    }
  }
}

TEST(PadStreamTest, KeysMatchTheVectors) {
  const std::vector<Record> records = read_vectors("key");
  ASSERT_GE(records.size(), 4U);
  for (const Record& r : records) {
    Address address;
    address.mode = static_cast<model::Privacy>(std::stoi(r.at("Mode")));
    address.model = unhex(r.at("Model"));
    address.epoch = std::stoull(r.at("Epoch"));
    address.inference = std::stoull(r.at("Inference"));
    address.index = static_cast<model::TensorId>(std::stoul(r.at("Tensor")));
    StreamKey key{};
    derive_stream_key(unhex(r.at("EpochKey")), address, key);
    EXPECT_EQ(key, unhex(r.at("StreamKey")));
  }
}

// Every part of the address changes the key.
TEST(PadStreamTest, EveryPartOfTheAddressCounts) {
  const StreamKey epoch_key{};
  const Address base{};
  std::vector<Address> addresses(6, base);
  addresses[1].mode = model::Privacy::kSplit;
  addresses[2].model[31] = std::byte{1};
  addresses[3].epoch = 1;
  addresses[4].inference = 1;
  addresses[5].index = 1;
  std::vector<StreamKey> keys(addresses.size());
  for (std::size_t i = 0; i < keys.size(); ++i) derive_stream_key(epoch_key, addresses[i], keys[i]);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(keys[i], keys[j]) << i << " " << j;
  }
}

TEST(PadStreamTest, AnyPieceIsThePieceOfTheWhole) {
  test::Dice dice(1);
  StreamKey key{};
  for (auto& b : key) b = static_cast<std::byte>(dice.bits());
  for (const Field f : test::kFields) {
    std::vector<std::uint32_t> whole(5000);
    PadStream(key, f, test::portable()).fill(0, whole);
    for (const Kernels* kernels : test::supported_kernels()) {
      const PadStream stream(key, f, *kernels);
      for (int round = 0; round < 200; ++round) {
        const std::size_t first = dice.below(whole.size());
        const std::size_t n = dice.below(whole.size() - first + 1);
        std::vector<std::uint32_t> piece(n + 1, 5);
        stream.fill(first, std::span(piece).first(n));
        ASSERT_EQ(piece[n], 5U);
        piece.pop_back();
        ASSERT_TRUE(
            std::equal(piece.begin(), piece.end(), whole.begin() + static_cast<long>(first)))
            << kernels->name << " " << first << " " << n;
      }
    }
  }
}

// Candidates of made-up streams: word i is rejected in its first i % 4 streams.
bool scripted(Field f, const std::byte*, std::uint64_t stream, std::uint64_t first, std::size_t n,
              std::uint32_t* out) noexcept {
  bool rejected = false;
  for (std::size_t i = 0; i < n; ++i) {
    const bool reject = stream < (first + i) % 4;
    out[i] = reject ? modulus(f) + static_cast<std::uint32_t>(i % 2)
                    : static_cast<std::uint32_t>(1000 * stream + (first + i) % 1000);
    rejected |= reject;
  }
  return rejected;
}

TEST(PadStreamTest, ARejectedWordComesFromTheNextStreamWithItsIndex) {
  Kernels kernels = test::portable();
  kernels.expand_key = [](const std::byte*, std::byte*) noexcept {};
  kernels.pad_candidates = scripted;
  for (const Field f : test::kFields) {
    std::vector<std::uint32_t> words(100);
    PadStream(StreamKey{}, f, kernels).fill(7, words);
    for (std::size_t i = 0; i < words.size(); ++i) {
      const std::size_t index = 7 + i;
      EXPECT_EQ(words[i], 1000 * (index % 4) + index % 1000);
    }
  }
}

// Where stream 0 of the key of zeros has p, p + 1 and p + 2 (openssl enc -aes-256-ctr on zeros).
TEST(PadStreamTest, EveryCandidateThatIsNotBelowPIsReplaced) {
  const StreamKey key{};
  for (const std::uint64_t index : {4'298'708U, 20'881'080U, 11'392'823U}) {
    const std::uint64_t at = 3 * index;
    std::array<std::byte, 32> second{};  // of stream 1, from the block of the word on
    keystream(key, 1, at / 16 * 16, second);
    std::uint32_t want = 0;
    std::memcpy(&want, second.data() + at % 16, 3);
    for (const Kernels* kernels : test::supported_kernels()) {
      const PadStream stream(key, Field::kP24, *kernels);
      for (const std::size_t before : {0U, 1U, 700U}) {
        std::vector<std::uint32_t> words(2 * before + 1);
        stream.fill(index - before, words);
        EXPECT_EQ(words[before], want) << kernels->name << " " << index << " " << before;
      }
    }
  }
}

// Words look uniform: chi-squared on 256 buckets of the top and of the low bits, five sigma.
TEST(PadStreamTest, WordsLookUniform) {
  for (const Field f : test::kFields) {
    std::vector<std::uint32_t> words(1 << 20);
    PadStream(StreamKey{std::byte{9}}, f, *test::supported_kernels().front()).fill(0, words);
    std::array<double, 256> top{};
    std::array<double, 256> low{};
    for (const std::uint32_t w : words) {
      ASSERT_LT(w, modulus(f));
      ++top[static_cast<std::size_t>(static_cast<std::uint64_t>(w) * 256 / modulus(f))];
      ++low[w % 256];
    }
    for (const auto& counts : {top, low}) {
      double chi = 0;
      const double want = static_cast<double>(words.size()) / 256;
      for (const double c : counts) chi += (c - want) * (c - want) / want;
      EXPECT_NEAR(chi, 255, 5 * 22.6);
    }
  }
}

}  // namespace
}  // namespace slalom::field

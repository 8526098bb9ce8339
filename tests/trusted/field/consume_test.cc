// SPDX-License-Identifier: Apache-2.0
// The kernels that take words from slots, against what kernels.h says in words.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cfenv>
#include <cstring>
#include <vector>

#include "field/arithmetic.h"
#include "field/kernels.h"
#include "trusted/field/kernels_test.h"
#include "trusted/field/support.h"

namespace slalom::field {
namespace {

using test::Dice;
using test::kFields;
using test::mod;
using test::Wide;

class ConsumeTest : public test::EachKernels {};
INSTANTIATE_TEST_SUITE_P(All, ConsumeTest,
                         testing::ValuesIn(all_kernels().begin(), all_kernels().end()),
                         test::kernels_name);

// ---- the plain meaning of each kernel, in 128-bit integers and libm ----

std::int32_t rounded(std::int32_t y, float multiplier, const Epilogue& e) {
  const float v = std::clamp(static_cast<float>(y) * multiplier, -0x1p30F, 0x1p30F);
  const long long q = std::llrint(v) + e.zero_point;
  return static_cast<std::int32_t>(std::clamp<long long>(q, e.lo, e.hi));
}

struct Expected {
  std::vector<std::int32_t> values;
  OutputSum sum;
};

enum class Kind { kCodes, kIntegers };

Expected consume_reference(const OutputTile& t, const OutputChallenge& c, const Epilogue& e,
                           Kind kind) {
  Expected out;
  const std::size_t bytes = word_bytes(t.field);
  const std::uint32_t mask = t.field == Field::kP24 ? 0xff'ffff : 0x7fff'ffff;
  std::array<Wide, kMaxRepetitions> sums{};
  for (std::size_t i = 0; i < t.positions * t.channels; ++i) {
    const std::size_t pos = i / t.channels;
    const std::size_t ch = i % t.channels;
    std::uint32_t w = 0;
    std::memcpy(&w, t.words + i * bytes, bytes);
    if (w >= modulus(t.field)) out.sum.bad = 1;
    std::int64_t unblinded = std::int64_t{w & mask} - (t.u != nullptr ? t.u[i] : 0);
    if (unblinded < 0) unblinded += modulus(t.field);
    const auto v = static_cast<std::uint32_t>(unblinded);
    for (std::size_t k = 0; k < c.repetitions; ++k) {
      sums[k] = (sums[k] + static_cast<Wide>(v) * c.a[k * c.a_stride + ch] % modulus(t.field) *
                               c.c[k * c.c_stride + pos]) %
                modulus(t.field);
    }
    const Wide wide = static_cast<Wide>(v) + e.offset[ch] -
                      (v > e.threshold[ch] ? static_cast<Wide>(modulus(t.field)) : 0);
    const auto y =
        static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint64_t>(wide)));
    std::int32_t q = rounded(y, e.multiplier[ch], e);
    if (kind == Kind::kCodes && e.table != nullptr) q = e.table[q];
    out.values.push_back(q);
  }
  for (std::size_t k = 0; k < c.repetitions; ++k) {
    out.sum.residues.value[k] = mod(sums[k], t.field);
  }
  return out;
}

// OutputCase is one random call of consume_*. The slot is placed at an odd address and surrounded
// by bytes that must not be read (other words) or written.
struct OutputCase {
  OutputTile tile;
  OutputChallenge challenge;
  Epilogue epilogue;
  std::vector<std::byte> slot;
  std::vector<std::uint32_t> u, a, c, threshold;
  std::vector<std::int32_t> offset;
  std::vector<float> multiplier;
  std::vector<std::uint8_t> table;

  OutputCase(Dice& dice, Field f, std::size_t positions, std::size_t channels,
             std::size_t repetitions, bool unblind, bool bad_words, Kind kind) {
    const std::size_t n = positions * channels;
    const std::size_t bytes = word_bytes(f);
    const std::size_t shift = dice.below(8);
    slot.resize(n * bytes + shift);
    for (std::size_t i = 0; i < n; ++i) {
      std::uint32_t w = dice.word(f);
      if (bad_words && dice.below(7) == 0) {
        w = f == Field::kP24 ? kP24 + static_cast<std::uint32_t>(dice.below(3))
                             : kP31 + static_cast<std::uint32_t>(dice.below(0x8000'0001));
      }
      std::memcpy(slot.data() + shift + i * bytes, &w, bytes);
    }
    if (unblind) u = dice.words(f, n);
    tile = {f, positions, channels, slot.data() + shift, unblind ? u.data() : nullptr};
    const std::size_t padded = (channels + kChannelPad - 1) / kChannelPad * kChannelPad;
    a.resize(repetitions * padded);
    c.resize(repetitions * (positions + 3));
    for (std::size_t k = 0; k < repetitions; ++k) {
      for (std::size_t i = 0; i < channels; ++i) a[k * padded + i] = challenge_word(dice);
      for (std::size_t i = 0; i < positions; ++i) c[k * (positions + 3) + i] = challenge_word(dice);
    }
    challenge = {repetitions, a.data(), padded, c.data(), positions + 3};
    threshold.resize(padded);
    offset.resize(padded);
    multiplier.resize(padded);
    const auto half = static_cast<std::int64_t>(modulus(f) / 2);
    const bool tame = dice.coin();
    for (std::size_t i = 0; i < channels; ++i) {
      const std::int64_t shift_word = dice.below(3) == 0 ? dice.between(-half, half) : 0;
      threshold[i] = static_cast<std::uint32_t>(half - shift_word);
      offset[i] = static_cast<std::int32_t>(shift_word + dice.between(-(1 << 29), 1 << 29));
      multiplier[i] = scale(dice, f);
      if (tame && multiplier[i] > 0.5F) multiplier[i] = 0.5F;
    }
    epilogue = {threshold.data(), offset.data(), multiplier.data(), 0, 0, 255, nullptr, tame};
    if (kind == Kind::kCodes) {
      epilogue.zero_point = static_cast<std::int32_t>(dice.below(256));
      epilogue.lo = static_cast<std::int32_t>(dice.below(256));
      epilogue.hi = static_cast<std::int32_t>(dice.between(epilogue.lo, 255));
      if (dice.coin()) {
        table = dice.codes(256);
        epilogue.table = table.data();
      }
    } else {
      epilogue.lo = static_cast<std::int32_t>(dice.between(-(1 << 30), 1 << 30));
      epilogue.hi = static_cast<std::int32_t>(dice.between(epilogue.lo, 1 << 30));
    }
  }

  static std::uint32_t challenge_word(Dice& dice) {
    switch (dice.below(6)) {
      case 0:
        return 0;
      case 1:
        return kChallengeRange - 1;
      default:
        return static_cast<std::uint32_t>(dice.below(kChallengeRange));
    }
  }
  // scale gives products that round (ties too), saturate, vanish or overflow 2^30.
  static float scale(Dice& dice, Field f) {
    switch (dice.below(6)) {
      case 0:
        return 0.5F;
      case 1:
        return 1e-30F;
      case 2:
        return 1e29F;
      case 3:
        return 1.0F;
      default:
        return static_cast<float>(dice.between(1, 4000)) / static_cast<float>(modulus(f));
    }
  }
};

template <class T>
std::vector<std::int32_t> run(void (*consume)(const OutputTile&, const OutputChallenge&,
                                              const Epilogue&, T*, OutputSum&) noexcept,
                              const OutputCase& in, OutputSum& sum) {
  constexpr T kGuard = static_cast<T>(0x5a);
  const std::size_t n = in.tile.positions * in.tile.channels;
  std::vector<T> out(n + 96, kGuard);
  consume(in.tile, in.challenge, in.epilogue, out.data() + 32, sum);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (i >= 32 && i < n + 32) continue;
    EXPECT_EQ(out[i], kGuard) << "wrote outside at " << i;
  }
  return {out.begin() + 32, out.begin() + 32 + static_cast<std::ptrdiff_t>(n)};
}

std::vector<std::int32_t> run(const Kernels& k, Kind kind, const OutputCase& in, OutputSum& sum) {
  return kind == Kind::kCodes ? run<std::uint8_t>(k.consume_codes, in, sum)
                              : run<std::int32_t>(k.consume_integers, in, sum);
}

void check_output(const Kernels& kernels, Dice& dice, Field f, Kind kind, std::size_t positions,
                  std::size_t channels) {
  const std::size_t repetitions = dice.below(kMaxRepetitions + 1);
  const OutputCase in(dice, f, positions, channels, repetitions, dice.coin(), dice.below(3) == 0,
                      kind);
  const Expected want = consume_reference(in.tile, in.challenge, in.epilogue, kind);
  // Sums are added to what is there.
  OutputSum sum;
  Residues before;
  for (std::size_t k = 0; k < repetitions; ++k) before.value[k] = dice.word(f);
  sum.residues = before;
  const std::vector<std::int32_t> got = run(kernels, kind, in, sum);
  ASSERT_EQ(got, want.values) << positions << "x" << channels << " k=" << repetitions;
  merge(f, before, want.sum.residues);
  ASSERT_EQ(sum.residues.value, before.value)
      << positions << "x" << channels << " k=" << repetitions;
  ASSERT_EQ(sum.bad != 0, want.sum.bad != 0);
}

TEST_P(ConsumeTest, MeansWhatItSays) {
  Dice dice(1);
  for (int round = 0; round < 1500; ++round) {
    const Kind kind = static_cast<Kind>(dice.below(2));
    check_output(kernels(), dice, kFields[dice.below(2)], kind, 1 + dice.below(40),
                 1 + dice.below(70));
    if (HasFatalFailure()) return;
  }
  // Long rows and many positions: every settling of sums inside.
  for (const Field f : kFields) {
    check_output(kernels(), dice, f, Kind::kIntegers, 1, 20'011);
    check_output(kernels(), dice, f, Kind::kCodes, 700, 33);
  }
}

TEST_P(ConsumeTest, HoldsTheWorstCase) {
  // Every word, challenge and length at its largest: an accumulator that wrapped would show.
  Dice dice(2);
  for (const Field f : kFields) {
    OutputCase in(dice, f, 64, 4096, 3, false, false, Kind::kIntegers);
    const std::uint32_t top = modulus(f) - 1;
    for (std::size_t i = 0; i < 64 * 4096; ++i) {
      std::memcpy(const_cast<std::byte*>(in.tile.words) + i * word_bytes(f), &top, word_bytes(f));
    }
    std::fill(in.a.begin(), in.a.end(), kChallengeRange - 1);
    std::fill(in.c.begin(), in.c.end(), kChallengeRange - 1);
    const Expected want = consume_reference(in.tile, in.challenge, in.epilogue, Kind::kIntegers);
    OutputSum sum;
    EXPECT_EQ(run(kernels(), Kind::kIntegers, in, sum), want.values);
    EXPECT_EQ(sum.residues.value, want.sum.residues.value);
    EXPECT_EQ(sum.bad, 0U);
  }
}

TEST_P(ConsumeTest, OneBadWordAnywhereIsSeen) {
  Dice dice(3);
  for (const Field f : kFields) {
    for (std::size_t channels : {1U, 15U, 16U, 17U, 64U}) {
      const std::size_t n = 3 * channels;
      for (std::size_t at = 0; at < n; ++at) {
        for (const std::uint32_t word : {modulus(f), modulus(f) + 1, modulus(f) - 1}) {
          OutputCase in(dice, f, 3, channels, 0, false, false, Kind::kIntegers);
          std::memcpy(const_cast<std::byte*>(in.tile.words) + at * word_bytes(f), &word,
                      word_bytes(f));
          OutputSum sum;
          run(kernels(), Kind::kIntegers, in, sum);
          ASSERT_EQ(sum.bad != 0, word >= modulus(f));
        }
      }
    }
  }
}

TEST_P(ConsumeTest, AGoodTileDoesNotHideABadOneBeforeIt) {
  Dice dice(5);
  for (const Field f : kFields) {
    for (const std::size_t channels : {1U, 17U, 64U}) {
      OutputSum sum;
      OutputCase bad(dice, f, 2, channels, 0, false, false, Kind::kIntegers);
      const std::uint32_t word = modulus(f);
      std::memcpy(const_cast<std::byte*>(bad.tile.words), &word, word_bytes(f));
      run(kernels(), Kind::kIntegers, bad, sum);
      OutputCase good(dice, f, 2, channels, 0, false, false, Kind::kIntegers);
      run(kernels(), Kind::kIntegers, good, sum);
      ASSERT_NE(sum.bad, 0U);
    }
  }
}

TEST_P(ConsumeTest, RequantiseRoundsToEven) {
  Dice dice(4);
  for (int round = 0; round < 400; ++round) {
    const std::size_t positions = 1 + dice.below(5);
    const std::size_t channels = 1 + dice.below(200);
    const std::size_t y_stride = channels + dice.below(3) * 16;
    const std::size_t stride = channels + dice.below(3) * 16;
    const OutputCase in(dice, Field::kP24, positions, channels, 0, false, false, Kind::kCodes);
    std::vector<std::int32_t> y(positions * y_stride);
    for (auto& v : y) {
      v = static_cast<std::int32_t>(dice.coin() ? dice.bits() : dice.below(2048) - 1024);
    }
    constexpr std::uint8_t kUntouched = 0xa5;
    std::vector<std::uint8_t> codes(positions * stride, kUntouched);
    kernels().requantise_codes({y.data(), y_stride, positions, channels}, in.epilogue, codes.data(),
                               stride);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const std::size_t ch = i % stride;
      if (ch >= channels) {
        ASSERT_EQ(codes[i], kUntouched);
        continue;
      }
      const std::int32_t q = rounded(y[i / stride * y_stride + ch], in.multiplier[ch], in.epilogue);
      ASSERT_EQ(codes[i], in.epilogue.table != nullptr ? in.epilogue.table[q] : q);
    }
  }
}

TEST_P(ConsumeTest, TableLooksUpEveryCode) {
  Dice dice(5);
  for (std::size_t n : {0U, 1U, 31U, 63U, 64U, 65U, 256U, 1000U}) {
    const std::vector<std::uint8_t> table = dice.codes(256);
    std::vector<std::uint8_t> codes(n);
    for (std::size_t i = 0; i < n; ++i) codes[i] = static_cast<std::uint8_t>(i * 7);
    const std::vector<std::uint8_t> before = codes;
    kernels().apply_table(table.data(), codes.data(), n);
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(codes[i], table[before[i]]);
  }
}

}  // namespace
}  // namespace slalom::field

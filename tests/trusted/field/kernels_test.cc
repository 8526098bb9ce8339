// SPDX-License-Identifier: Apache-2.0
#include "field/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <string>

#include "field/arithmetic.h"
#include "trusted/field/support.h"

namespace slalom::field {
namespace {

using test::Dice;
using test::kFields;
using Wide = __int128;

std::uint32_t mod(Wide x, Field f) {
  const auto p = static_cast<Wide>(modulus(f));
  return static_cast<std::uint32_t>(((x % p) + p) % p);
}

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

enum class Kind { kCodes, kIntegers, kRaw };

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
    std::int32_t q = kind == Kind::kRaw ? y : rounded(y, e.multiplier[ch], e);
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
  switch (kind) {
    case Kind::kCodes:
      return run<std::uint8_t>(k.consume_codes, in, sum);
    case Kind::kIntegers:
      return run<std::int32_t>(k.consume_integers, in, sum);
    default:
      return run<std::int32_t>(k.consume_raw, in, sum);
  }
}

class KernelsTest : public testing::TestWithParam<const Kernels*> {
 protected:
  void SetUp() override {
    if (!GetParam()->supported(base::detect_cpu())) GTEST_SKIP() << "this CPU lacks it";
  }
  const Kernels& kernels() { return *GetParam(); }
};

std::string kernels_name(const testing::TestParamInfo<const Kernels*>& info) {
  return std::string(info.param->name);
}
INSTANTIATE_TEST_SUITE_P(All, KernelsTest,
                         testing::ValuesIn(all_kernels().begin(), all_kernels().end()),
                         kernels_name);

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

TEST_P(KernelsTest, ConsumeMeansWhatItSays) {
  Dice dice(1);
  for (int round = 0; round < 1500; ++round) {
    const Kind kind = static_cast<Kind>(dice.below(3));
    check_output(kernels(), dice, kFields[dice.below(2)], kind, 1 + dice.below(40),
                 1 + dice.below(70));
    if (HasFatalFailure()) return;
  }
  // Long rows and many positions: every settling of sums inside.
  for (const Field f : kFields) {
    check_output(kernels(), dice, f, Kind::kRaw, 1, 20'011);
    check_output(kernels(), dice, f, Kind::kCodes, 700, 33);
  }
}

TEST_P(KernelsTest, ConsumeHoldsTheWorstCase) {
  // Every word, challenge and length at its largest: an accumulator that wrapped would show.
  Dice dice(2);
  for (const Field f : kFields) {
    OutputCase in(dice, f, 64, 4096, 3, false, false, Kind::kRaw);
    const std::uint32_t top = modulus(f) - 1;
    for (std::size_t i = 0; i < 64 * 4096; ++i) {
      std::memcpy(const_cast<std::byte*>(in.tile.words) + i * word_bytes(f), &top, word_bytes(f));
    }
    std::fill(in.a.begin(), in.a.end(), kChallengeRange - 1);
    std::fill(in.c.begin(), in.c.end(), kChallengeRange - 1);
    const Expected want = consume_reference(in.tile, in.challenge, in.epilogue, Kind::kRaw);
    OutputSum sum;
    EXPECT_EQ(run(kernels(), Kind::kRaw, in, sum), want.values);
    EXPECT_EQ(sum.residues.value, want.sum.residues.value);
    EXPECT_EQ(sum.bad, 0U);
  }
}

TEST_P(KernelsTest, OneBadWordAnywhereIsSeen) {
  Dice dice(3);
  for (const Field f : kFields) {
    for (std::size_t channels : {1U, 15U, 16U, 17U, 64U}) {
      const std::size_t n = 3 * channels;
      for (std::size_t at = 0; at < n; ++at) {
        for (const std::uint32_t word : {modulus(f), modulus(f) + 1, modulus(f) - 1}) {
          OutputCase in(dice, f, 3, channels, 0, false, false, Kind::kRaw);
          std::memcpy(const_cast<std::byte*>(in.tile.words) + at * word_bytes(f), &word,
                      word_bytes(f));
          OutputSum sum;
          run(kernels(), Kind::kRaw, in, sum);
          ASSERT_EQ(sum.bad != 0, word >= modulus(f));
        }
      }
    }
  }
}

TEST_P(KernelsTest, RequantiseRoundsToEven) {
  Dice dice(4);
  for (int round = 0; round < 400; ++round) {
    const std::size_t positions = 1 + dice.below(5);
    const std::size_t channels = 1 + dice.below(70);
    const Kind kind = dice.coin() ? Kind::kCodes : Kind::kIntegers;
    const OutputCase in(dice, Field::kP24, positions, channels, 0, false, false, kind);
    std::vector<std::int32_t> y(positions * channels);
    for (auto& v : y) {
      v = static_cast<std::int32_t>(dice.coin() ? dice.bits() : dice.below(2048) - 1024);
    }
    std::vector<std::uint8_t> codes(y.size());
    std::vector<std::int32_t> integers(y.size());
    if (kind == Kind::kCodes) {
      kernels().requantise_codes(y.data(), positions, channels, in.epilogue, codes.data());
    } else {
      kernels().requantise_integers(y.data(), positions, channels, in.epilogue, integers.data());
    }
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::int32_t q = rounded(y[i], in.multiplier[i % channels], in.epilogue);
      if (kind == Kind::kIntegers) {
        ASSERT_EQ(integers[i], q);
      } else {
        ASSERT_EQ(codes[i], in.epilogue.table != nullptr ? in.epilogue.table[q] : q);
      }
    }
  }
}

TEST_P(KernelsTest, TableLooksUpEveryCode) {
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

// ---- the input side ----

struct PackedCheck {
  std::vector<std::vector<std::uint32_t>> words;
  std::vector<std::byte> packed;
  CheckVector vector;

  PackedCheck(const Kernels& kernels, Dice& dice, Field f, std::size_t repetitions, std::size_t n) {
    std::vector<const std::uint32_t*> rows;
    for (std::size_t k = 0; k < repetitions; ++k) words.push_back(dice.words(f, n));
    packed.resize(kernels.check_bytes(f, repetitions, n));
    vector = {f, repetitions, n, packed.data()};
    // In pieces, as the rows of a layer come.
    for (std::size_t first = 0; first < n; first += 128) {
      rows.clear();
      for (const auto& w : words) rows.push_back(w.data() + first);
      kernels.pack_check(vector, first, std::min<std::size_t>(128, n - first), rows.data(),
                         packed.data());
    }
  }
};

TEST_P(KernelsTest, CheckInputIsAnExactDotProduct) {
  Dice dice(6);
  for (int round = 0; round < 300; ++round) {
    const Field f = kFields[dice.below(2)];
    const std::size_t elements = 1 + dice.below(700);
    const std::size_t repetitions = 1 + dice.below(kMaxRepetitions);
    const PackedCheck check(kernels(), dice, f, repetitions, elements);
    const std::size_t first = dice.below(elements);
    const std::size_t n = dice.below(elements - first + 1);
    const std::size_t images = 1 + dice.below(9);
    std::vector<std::vector<std::uint8_t>> codes;
    std::vector<const std::uint8_t*> starts;
    std::vector<Residues> sums(images);
    std::vector<Residues> want(images);
    for (std::size_t b = 0; b < images; ++b) codes.push_back(dice.codes(n));
    for (std::size_t b = 0; b < images; ++b) {
      starts.push_back(codes[b].data());
      for (std::size_t k = 0; k < repetitions; ++k) {
        Wide sum = sums[b].value[k] = dice.word(f);
        for (std::size_t i = 0; i < n; ++i)
          sum += static_cast<Wide>(codes[b][i]) * check.words[k][first + i];
        want[b].value[k] = mod(sum, f);
      }
    }
    kernels().check_input(check.vector, first, n, starts.data(), images, sums.data());
    for (std::size_t b = 0; b < images; ++b) ASSERT_EQ(sums[b].value, want[b].value);
  }
}

TEST_P(KernelsTest, CheckInputHoldsTheWorstCase) {
  // Longer than any accumulator's span, all codes 255, words at the limbs' extremes.
  if (kernels().name == "portable") GTEST_SKIP() << "no accumulator to overflow";
  Dice dice(7);
  constexpr std::size_t kN = 1'100'000;
  const std::vector<std::uint8_t> codes(kN, 255);
  for (const Field f : kFields) {
    for (const std::uint32_t w :
         {limb_centre(f), limb_centre(f) + 1, modulus(f) - 1, 0x80'8080U % modulus(f)}) {
      const std::vector<std::uint32_t> words(kN, w);
      std::vector<std::byte> packed(kernels().check_bytes(f, 1, kN));
      const CheckVector vector{f, 1, kN, packed.data()};
      const std::uint32_t* rows[] = {words.data()};
      kernels().pack_check(vector, 0, kN, rows, packed.data());
      Residues sum;
      const std::uint8_t* starts[] = {codes.data()};
      kernels().check_input(vector, 0, kN, starts, 1, &sum);
      ASSERT_EQ(sum.value[0], mod(static_cast<Wide>(w) * 255 * kN, f)) << w;
    }
  }
}

TEST_P(KernelsTest, SlotsAreFilledExactly) {
  Dice dice(8);
  for (int round = 0; round < 600; ++round) {
    const Field f = kFields[dice.below(2)];
    const std::size_t n = dice.below(600);
    const std::size_t shift = dice.below(130);
    const std::vector<std::uint8_t> codes = dice.codes(n);
    const auto check = [&](std::size_t bytes, const std::vector<std::byte>& slot, auto expected) {
      for (std::size_t i = 0; i < slot.size(); ++i) {
        const bool inside = i >= shift && i < shift + bytes;
        ASSERT_EQ(slot[i], inside ? expected(i - shift) : std::byte{0xa5}) << i;
      }
    };
    std::vector<std::byte> slot(n + 300, std::byte{0xa5});
    kernels().send_codes(codes.data(), n, slot.data() + shift);
    kernels().fence();
    check(n, slot, [&](std::size_t i) { return static_cast<std::byte>(codes[i]); });

    const std::vector<std::uint32_t> r = dice.words(f, n);
    const auto zero = static_cast<std::uint8_t>(dice.bits());
    const std::size_t bytes = word_bytes(f);
    slot.assign(n * bytes + 300, std::byte{0xa5});
    kernels().blind(f, codes.data(), zero, r.data(), n, slot.data() + shift);
    kernels().fence();
    check(n * bytes, slot, [&](std::size_t i) {
      const std::uint32_t w = mod(static_cast<Wide>(codes[i / bytes]) - zero + r[i / bytes], f);
      return static_cast<std::byte>(w >> (8 * (i % bytes)));
    });
    if (HasFatalFailure()) return;
  }
}

// ---- linear combinations, dot products, words ----

TEST_P(KernelsTest, CombinationsAreExact) {
  Dice dice(9);
  for (int round = 0; round < 300; ++round) {
    const Field f = kFields[dice.below(2)];
    const std::size_t rows = dice.below(round == 0 ? 40'000 : 40);
    const std::size_t n = dice.below(round == 0 ? 4 : 150);
    const auto zero = static_cast<std::uint8_t>(dice.bits());
    std::vector<std::uint32_t> c = dice.words(f, rows);
    std::vector<std::vector<std::uint32_t>> words;
    std::vector<std::vector<std::uint8_t>> codes;
    std::vector<std::vector<std::int8_t>> weights;
    std::vector<const std::uint32_t*> word_rows;
    std::vector<const std::uint8_t*> code_rows;
    std::vector<const std::int8_t*> weight_rows;
    for (std::size_t t = 0; t < rows; ++t) {
      words.push_back(dice.words(f, n));
      codes.push_back(dice.codes(n));
      weights.emplace_back();
      for (std::size_t i = 0; i < n; ++i)
        weights[t].push_back(static_cast<std::int8_t>(dice.between(-128, 127)));
    }
    for (std::size_t t = 0; t < rows; ++t) {
      word_rows.push_back(words[t].data());
      code_rows.push_back(codes[t].data());
      weight_rows.push_back(weights[t].data());
    }
    std::vector<std::uint32_t> got[3];
    for (auto& g : got) g.assign(n + 1, 77);
    kernels().combine_words(f, c.data(), word_rows.data(), rows, n, got[0].data());
    kernels().combine_weights(f, c.data(), weight_rows.data(), rows, n, got[1].data());
    kernels().combine_codes(f, c.data(), code_rows.data(), rows, zero, n, got[2].data());
    for (std::size_t i = 0; i < n; ++i) {
      Wide want[3] = {0, 0, 0};
      for (std::size_t t = 0; t < rows; ++t) {
        want[0] += static_cast<Wide>(c[t]) * words[t][i];
        want[1] += static_cast<Wide>(c[t]) * weights[t][i];
        want[2] += static_cast<Wide>(c[t]) * (codes[t][i] - zero);
      }
      for (std::size_t j = 0; j < 3; ++j)
        ASSERT_EQ(got[j][i], mod(want[j], f)) << j << " rows " << rows;
    }
    for (const auto& g : got) ASSERT_EQ(g[n], 77U);
  }
}

TEST_P(KernelsTest, DotProductsAreExact) {
  Dice dice(10);
  for (int round = 0; round < 200; ++round) {
    const Field f = kFields[dice.below(2)];
    const std::size_t n = round < 3 ? 600'000 : dice.below(300);
    std::vector<std::uint32_t> x = dice.words(f, n);
    std::vector<std::uint32_t> s = dice.words(f, n);
    std::vector<std::uint8_t> q = dice.codes(n);
    if (round == 0 || round == 1) {
      std::fill(x.begin(), x.end(), modulus(f) - 1);
      std::fill(s.begin(), s.end(), modulus(f) - 1);
      std::fill(q.begin(), q.end(), 255);
    }
    Wide words = 0;
    Wide codes = 0;
    for (std::size_t i = 0; i < n; ++i) {
      words += static_cast<Wide>(x[i]) * s[i];
      codes += static_cast<Wide>(q[i]) * s[i];
    }
    ASSERT_EQ(kernels().dot_words(f, x.data(), s.data(), n), mod(words, f));
    ASSERT_EQ(kernels().dot_codes(f, q.data(), s.data(), n), mod(codes, f));
  }
}

TEST_P(KernelsTest, PackAndUnpack) {
  Dice dice(11);
  for (int round = 0; round < 200; ++round) {
    const Field f = kFields[dice.below(2)];
    const std::size_t n = dice.below(200);
    const std::vector<std::uint32_t> words = dice.words(f, n);
    std::vector<std::byte> packed(n * word_bytes(f) + 8, std::byte{0xee});
    kernels().pack(f, words.data(), n, packed.data());
    for (std::size_t i = 0; i < n; ++i) {
      std::uint32_t w = 0;
      std::memcpy(&w, packed.data() + i * word_bytes(f), word_bytes(f));
      ASSERT_EQ(w, words[i]);
    }
    for (std::size_t i = n * word_bytes(f); i < packed.size(); ++i)
      ASSERT_EQ(packed[i], std::byte{0xee});
    std::vector<std::uint32_t> back(n + 1, 9);
    kernels().unpack(f, packed.data(), n, back.data());
    ASSERT_EQ(back[n], 9U);
    back.pop_back();
    ASSERT_EQ(back, words);
  }
}

TEST_P(KernelsTest, LimbsSplitAndRecombine) {
  Dice dice(12);
  for (int round = 0; round < 200; ++round) {
    const Field f = kFields[dice.below(2)];
    const std::size_t n = dice.below(150);
    const std::size_t stride = n + dice.below(9);
    const std::vector<std::uint32_t> words = dice.words(f, n);
    std::vector<std::int8_t> limbs(num_limbs(f) * stride + 1, 99);
    kernels().split_limbs(f, words.data(), n, limbs.data(), stride);
    for (std::size_t i = 0; i < n; ++i) {
      std::int64_t z = 0;
      for (std::size_t l = num_limbs(f); l-- > 0;) z = z * 256 + limbs[l * stride + i];
      ASSERT_EQ(z, words[i] <= limb_centre(f) ? words[i] : std::int64_t{words[i]} - modulus(f));
    }
    ASSERT_EQ(limbs.back(), 99);
    std::vector<std::int32_t> sums(num_limbs(f) * stride);
    for (auto& s : sums) {
      s = static_cast<std::int32_t>(dice.below(5) == 0 ? (dice.coin() ? INT32_MIN : INT32_MAX)
                                                       : dice.bits());
    }
    std::vector<std::uint32_t> got(n);
    kernels().recombine(f, sums.data(), stride, n, got.data());
    for (std::size_t i = 0; i < n; ++i) {
      Wide z = 0;
      for (std::size_t l = num_limbs(f); l-- > 0;) z = z * 256 + sums[l * stride + i];
      ASSERT_EQ(got[i], mod(z, f));
    }
  }
}

TEST(KernelsListTest, PortableIsLastAndAlwaysThere) {
  EXPECT_EQ(test::portable().name, "portable");
  EXPECT_TRUE(test::portable().supported(base::CpuFeatures{}));
  EXPECT_EQ(&choose_kernels(base::CpuFeatures{}), &test::portable());
}

// The fastest set that the CPU's features promise is the one that is chosen: a fast path that is
// silently skipped fails here.
TEST(KernelsListTest, ChoiceFollowsTheFeatures) {
  const base::CpuFeatures cpu = base::detect_cpu();
  std::string want = "portable";
  if (cpu.avx2) want = "avx2";
  if (cpu.avx512) want = "avx512";
  if (cpu.avx512_ifma && cpu.avx512_vbmi && cpu.avx512_vnni && cpu.vaes) want = "avx512ifma";
  EXPECT_EQ(choose_kernels(cpu).name, want);
  RecordProperty("kernels", want);
}

TEST(ArithmeticTest, ReduceIsExactForAllOf64Bits) {
  Dice dice(13);
  for (const Field f : kFields) {
    const std::uint64_t p = modulus(f);
    for (int i = 0; i < 200'000; ++i) {
      const std::uint64_t x = i < 64 ? ~std::uint64_t{0} >> i : dice.bits() >> dice.below(64);
      ASSERT_EQ(reduce(x, f), x % p);
      ASSERT_EQ(reduce(x / p * p, f), 0U);
      ASSERT_EQ(reduce(x / p * p - 1, f), (x / p * p - 1) % p);
      const auto s = static_cast<std::int64_t>(x) >> 2;
      ASSERT_EQ(reduce_signed(s, f), mod(s, f));
      ASSERT_EQ(to_word(static_cast<std::int32_t>(x), f), mod(static_cast<std::int32_t>(x), f));
    }
  }
}

}  // namespace
}  // namespace slalom::field

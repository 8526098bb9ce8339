// SPDX-License-Identifier: Apache-2.0
// All kernels but those that take words from slots (consume_test.cc), and their choice.
#include "field/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "field/arithmetic.h"
#include "trusted/field/kernels_test.h"
#include "trusted/field/support.h"

namespace slalom::field {
namespace {

using test::Dice;
using test::kFields;
using test::mod;
using test::Wide;

class KernelsTest : public test::EachKernels {};
INSTANTIATE_TEST_SUITE_P(All, KernelsTest,
                         testing::ValuesIn(all_kernels().begin(), all_kernels().end()),
                         test::kernels_name);

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
    kernels().combine_codes(f, c.data(), code_rows.data(), rows, n, got[2].data());
    for (std::size_t i = 0; i < n; ++i) {
      Wide want[3] = {0, 0, 0};
      for (std::size_t t = 0; t < rows; ++t) {
        want[0] += static_cast<Wide>(c[t]) * words[t][i];
        want[1] += static_cast<Wide>(c[t]) * weights[t][i];
        want[2] += static_cast<Wide>(c[t]) * codes[t][i];
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

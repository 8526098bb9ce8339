// SPDX-License-Identifier: Apache-2.0
#include "field/challenge.h"

#include <gtest/gtest.h>

#include <cmath>

#include "field/arithmetic.h"
#include "trusted/field/answers.h"

namespace slalom::field {
namespace {

using test::Dice;
using test::Image;

// Bench is one layer asked in one form, with its check in one of the three forms.
struct Bench {
  model::Linear layer;
  CheckedLayer asked;
  EpilogueTables tables;
  const Kernels& kernels;
  Dice& dice;

  Bench(model::Linear l, InputForm form, std::uint8_t pad_code, const Kernels& k, Dice& d)
      : layer(std::move(l)),
        asked{&layer, pad_code, form},
        tables(layer, form, pad_code),
        kernels(k),
        dice(d) {}
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  bool preprocessed(const ChallengeSet::Layer& check, const Image& image,
                    const std::vector<std::uint32_t>& words, bool check_values) const {
    std::vector<std::int32_t> values;
    const OutputSum out = consume_image(kernels, layer, check.output, tables.requantising(), image,
                                        words, dice, values);
    for (std::size_t i = 0; check_values && i < values.size(); ++i) {
      EXPECT_EQ(values[i], test::exact_value(image.y[i], layer.bias[i % layer.out().c]))
          << linear_test::describe(layer);
    }
    const Residues in = check_image(kernels, check.input, image, dice);
    Verdict verdict;
    verdict.add(check.difference(out, in), out.bad);
    return std::move(verdict).take_verdict();
  }

  bool fresh(const FreshChallenge& check, const std::vector<Image>& images,
             const std::vector<std::vector<std::uint32_t>>& words) const {
    std::vector<OutputSum> outs;
    std::vector<const std::uint8_t*> codes;
    std::uint32_t bad = 0;
    std::vector<std::int32_t> values;
    for (std::size_t b = 0; b < images.size(); ++b) {
      outs.push_back(consume_image(kernels, layer, check.output(), tables.requantising(), images[b],
                                   words[b], dice, values));
      codes.push_back(images[b].codes.data());
      bad |= outs.back().bad;
    }
    std::vector<std::uint32_t> scratch(check.scratch_words());
    Residues in;
    // Rows in two calls, the later ones first.
    const std::size_t rows = layer.in().h;
    check.input_rows(rows / 2, rows - rows / 2, codes, scratch, in);
    check.input_rows(0, rows / 2, codes, scratch, in);
    Verdict verdict;
    verdict.add(check.difference(outs, in), bad);
    return std::move(verdict).take_verdict();
  }
};

std::unique_ptr<const ChallengeSet> make_set(const Bench& bench, const ChallengeOptions& options,
                                             Random& random) {
  auto set = ChallengeSet::create(std::span(&bench.asked, 1), options, bench.kernels, random);
  EXPECT_TRUE(set.ok());
  return std::move(*set);
}

Bench random_bench(Dice& dice, const Kernels& kernels, std::uint32_t channels) {
  while (true) {
    model::Linear layer = test::random_layer(dice, channels, test::kFields[dice.below(2)]);
    if (!test::fits(layer)) continue;
    return {std::move(layer), dice.coin() ? InputForm::kCodes : InputForm::kWords,
            static_cast<std::uint8_t>(dice.bits()), kernels, dice};
  }
}

TEST(ChallengeTest, HonestAnswersPassInEveryGeometry) {
  Dice dice(1);
  test::SeededRandom random(1);
  for (const Kernels* kernels : test::supported_kernels()) {
    for (int round = 0; round < 400; ++round) {
      const Bench bench = random_bench(dice, *kernels, round % 8 == 0 ? 70 : 9);
      const Image image(bench.asked, dice);
      const ChallengeOptions options{.soundness_bits =
                                         static_cast<std::uint32_t>(1 + dice.below(130))};
      const auto set = make_set(bench, options, random);
      ASSERT_EQ(set->layers().size(), 1U);
      ASSERT_TRUE(bench.preprocessed(set->layers()[0], image, image.words, true))
          << kernels->name << linear_test::describe(bench.layer);
      auto plain = FreshChallenge::create(std::span(&bench.asked, 1), 1, false, options, *kernels);
      ASSERT_TRUE(plain.ok());
      plain->draw(0, 1, random);
      ASSERT_TRUE(bench.fresh(*plain, {image}, {image.words}))
          << kernels->name << linear_test::describe(bench.layer);
    }
  }
}

TEST(ChallengeTest, HonestBatchesPass) {
  Dice dice(2);
  test::SeededRandom random(2);
  for (const Kernels* kernels : test::supported_kernels()) {
    for (int round = 0; round < 100; ++round) {
      const Bench bench = random_bench(dice, *kernels, 9);
      auto check = FreshChallenge::create(std::span(&bench.asked, 1), 5, true, {}, *kernels);
      ASSERT_TRUE(check.ok());
      const std::size_t batch = 1 + dice.below(5);
      std::vector<Image> images;
      std::vector<std::vector<std::uint32_t>> words;
      for (std::size_t b = 0; b < batch; ++b) {
        images.emplace_back(bench.asked, dice);
        words.push_back(images.back().words);
      }
      check->draw(0, batch, random);
      ASSERT_TRUE(bench.fresh(*check, images, words)) << linear_test::describe(bench.layer);
      // One word of one image, by one.
      auto& word = words[dice.below(batch)][dice.below(words[0].size())];
      word = add(word, 1, *bench.layer.field);
      check->draw(0, batch, random);
      ASSERT_FALSE(bench.fresh(*check, images, words)) << linear_test::describe(bench.layer);
    }
  }
}

// With real challenges no single change of any word goes through (2^-46 each).
TEST(ChallengeTest, EverySingleLieIsCaught) {
  Dice dice(3);
  test::SeededRandom random(3);
  const Kernels& kernels = *test::supported_kernels().front();
  for (int round = 0; round < 40; ++round) {
    const Bench bench = random_bench(dice, kernels, 6);
    const Field f = *bench.layer.field;
    const Image image(bench.asked, dice);
    const auto set = make_set(bench, {}, random);
    const ChallengeSet::Layer& check = set->layers()[0];
    for (std::size_t i = 0; i < image.words.size(); ++i) {
      auto words = image.words;
      words[i] = add(words[i], static_cast<std::uint32_t>(1 + dice.below(modulus(f) - 1)), f);
      ASSERT_FALSE(bench.preprocessed(check, image, words, false)) << i;
      words = image.words;
      words[i] = modulus(f) + static_cast<std::uint32_t>(dice.below(3));
      ASSERT_FALSE(bench.preprocessed(check, image, words, false)) << i;
    }
    // Changes that cancel under an all-ones challenge: two channels, two positions, a rectangle.
    const std::size_t channels = bench.layer.out().c;
    const std::size_t positions = bench.layer.out().positions();
    const auto lie = [&](std::initializer_list<std::pair<std::size_t, int>> changes) {
      auto words = image.words;
      for (const auto& [at, by] : changes) words[at] = add(words[at], to_word(by, f), f);
      return bench.preprocessed(check, image, words, false);
    };
    if (channels > 1) {
      ASSERT_FALSE(lie({{0, 5}, {1, -5}}));
    }
    if (positions > 1) {
      ASSERT_FALSE(lie({{0, 5}, {channels, -5}}));
    }
    if (channels > 1 && positions > 1) {
      ASSERT_FALSE(lie({{0, 5}, {1, -5}, {channels, -5}, {channels + 1, 5}}));
    }
    // An answer to another image.
    const Image other(bench.asked, dice);
    if (other.y != image.y) {
      std::vector<std::uint32_t> words;
      for (std::size_t i = 0; i < other.words.size(); ++i) {
        words.push_back(image.u.empty() ? other.words[i]
                                        : add(sub(other.words[i], other.u[i], f), image.u[i], f));
      }
      ASSERT_FALSE(bench.preprocessed(check, image, words, false));
    }
    // A changed unblinding word is the same as a lie of the device.
    if (!image.u.empty()) {
      Image touched = image;
      touched.u[dice.below(touched.u.size())] ^= 1;
      ASSERT_FALSE(bench.preprocessed(check, touched, image.words, false));
    }
  }
}

// small_conv is a 2x2 convolution of 3x3x2 to 2x2x3; small_dense 4 to 3.
model::Linear small_layer(bool dense, Field f) {
  linear_test::Random random(7);
  const linear_test::Geometry conv{3, 3, 2, 3, 1, {.kernel_h = 2, .kernel_w = 2}};
  const linear_test::Geometry flat{1, 1, 4, 3, 1, {}};
  std::vector<model::ConvStage> stages;
  stages.push_back(
      linear_test::make_stage(dense ? flat : conv, linear_test::Weights::kRandom, random));
  model::Linear layer = linear_test::finish(std::move(stages), random);
  layer.field = f;
  return layer;
}

// A million honest checks, none rejected: tiny layers, every form and field.
TEST(ChallengeTest, AMillionHonestChecksPass) {
  Dice dice(4);
  test::SeededRandom random(4);
  const Kernels& kernels = *test::supported_kernels().front();
  std::uint64_t checks = 0;
  for (const Field f : test::kFields) {
    for (const InputForm form : {InputForm::kCodes, InputForm::kWords}) {
      for (const bool dense : {false, true}) {
        const Bench bench(small_layer(dense, f), form, 9, kernels, dice);
        const auto set = make_set(bench, {}, random);
        const auto other = make_set(bench, {.soundness_bits = 60}, random);
        auto plain = FreshChallenge::create(std::span(&bench.asked, 1), 1, false, {}, kernels);
        auto batched = FreshChallenge::create(std::span(&bench.asked, 1), 2, true, {}, kernels);
        ASSERT_TRUE(plain.ok() && batched.ok());
        std::vector<Image> images;
        for (int i = 0; i < 400; ++i) images.emplace_back(bench.asked, dice);
        for (int round = 0; round < 80; ++round) {
          for (std::size_t i = 0; i < images.size(); ++i) {
            const Image& a = images[i];
            const Image& b = images[(i + static_cast<std::size_t>(round)) % images.size()];
            ASSERT_TRUE(bench.preprocessed(set->layers()[0], a, a.words, false));
            ASSERT_TRUE(bench.preprocessed(other->layers()[0], a, a.words, false));
            checks += 2;
            plain->draw(0, 1, random);
            ASSERT_TRUE(bench.fresh(*plain, {a}, {a.words}));
            batched->draw(0, 2, random);
            ASSERT_TRUE(bench.fresh(*batched, {a, b}, {a.words, b.words}));
            checks += 2;
          }
        }
      }
    }
  }
  EXPECT_GE(checks, 1'000'000U);
}

struct Rates {
  double single, pair;
};

// acceptance measures how often two lies pass when challenges are drawn from [0, N): one word
// changed, and a pair (+5, -5) in two channels of one position. New challenges for every try.
Rates acceptance(bool dense, bool batched, std::uint32_t range, std::uint32_t bits, Field f,
                 int tries, Dice& dice) {
  test::SeededRandom random(range * 31 + bits + (dense ? 7 : 0));
  const Bench bench(small_layer(dense, f), InputForm::kCodes, 9, *test::supported_kernels().front(),
                    dice);
  const ChallengeOptions options{.soundness_bits = bits, .range = range};
  auto fresh = FreshChallenge::create(std::span(&bench.asked, 1), batched ? 2 : 1, batched, options,
                                      bench.kernels);
  EXPECT_TRUE(fresh.ok());
  std::vector<Image> images;
  std::vector<std::vector<std::uint32_t>> honest;
  for (int b = 0; b < (batched ? 2 : 1); ++b) {
    images.emplace_back(bench.asked, dice);
    honest.push_back(images.back().words);
  }
  auto single = honest;
  auto pair = honest;
  single.back()[4 % single[0].size()] = add(single.back()[4 % single[0].size()], 5, f);
  pair.back()[0] = add(pair.back()[0], 5, f);
  pair.back()[1] = sub(pair.back()[1], 5, f);
  Rates passed{0, 0};
  for (int i = 0; i < tries; ++i) {
    if (batched || i % 2 == 0) {
      fresh->draw(0, images.size(), random);
      EXPECT_TRUE(bench.fresh(*fresh, images, honest));
      passed.single += bench.fresh(*fresh, images, single) ? 1 : 0;
      passed.pair += bench.fresh(*fresh, images, pair) ? 1 : 0;
    } else {
      const auto set = make_set(bench, options, random);
      const ChallengeSet::Layer& check = set->layers()[0];
      EXPECT_TRUE(bench.preprocessed(check, images[0], honest[0], false));
      passed.single += bench.preprocessed(check, images[0], single[0], false) ? 1 : 0;
      passed.pair += bench.preprocessed(check, images[0], pair[0], false) ? 1 : 0;
    }
  }
  return {passed.single / tries, passed.pair / tries};
}

// A single wrong word passes one repetition iff one of the d factors that meet it is 0: with
// probability 1 - (1 - 1/N)^d, just below the bound d/N. A pair in two channels passes iff the two
// entries of a agree or another factor is 0. Both are met exactly, within five sigma: a check that
// rejected more would be broken too (it would reject the honest), one that accepted more, unsound.
TEST(ChallengeTest, ForgeriesPassAsOftenAsTheBoundSays) {
  Dice dice(5);
  constexpr int kTries = 6'000;
  for (const Field f : test::kFields) {
    for (const std::uint32_t range : {2U, 3U, 5U, 17U}) {
      for (const bool dense : {false, true}) {
        for (const bool batched : {false, true}) {
          const int d = (dense ? 1 : 2) + (batched ? 1 : 0);
          if (static_cast<std::uint32_t>(d) > range) continue;  // the bound says nothing
          const double want = 1 - std::pow(1 - 1.0 / range, d);
          const Rates got = acceptance(dense, batched, range, 0, f, kTries, dice);
          const double sigma = std::sqrt(want * (1 - want) / kTries);
          EXPECT_NEAR(got.single, want, 5 * sigma) << "N " << range << " d " << d;
          EXPECT_NEAR(got.pair, want, 5 * sigma) << "N " << range << " d " << d;
          EXPECT_LE(want, static_cast<double>(d) / range + 1e-12);
          // The rank-one factor is there: more than one vector's 1/N.
          if (d == 2) {
            EXPECT_GT(got.single, 1.3 / range);
          }
        }
      }
    }
  }
}

TEST(ChallengeTest, RepetitionsMultiply) {
  Dice dice(6);
  constexpr int kTries = 20'000;
  // N = 17, d = 2: 3.1 bits a repetition, so 4 bits ask for two.
  const Rates got = acceptance(false, false, 17, 4, Field::kP24, kTries, dice);
  const double one = 1 - std::pow(1 - 1.0 / 17, 2);
  EXPECT_NEAR(got.single, one * one, 5 * std::sqrt(one * one / kTries));
  EXPECT_GT(got.single, 0.3 * one * one);
}

TEST(ChallengeTest, SoundnessFiguresAreTheFormula) {
  const double n = std::log2(static_cast<double>(kChallengeRange));
  for (std::size_t k = 1; k <= kMaxRepetitions; ++k) {
    for (std::size_t d = 1; d <= 3; ++d) {
      EXPECT_NEAR(soundness_bits(k, d),
                  static_cast<double>(k) * (n - std::log2(static_cast<double>(d))), 1e-9);
    }
  }
  EXPECT_EQ(*repetitions_for({.soundness_bits = 40}, 2), 2U);
  EXPECT_EQ(*repetitions_for({.soundness_bits = 40, .tries = 64}, 2), 2U);
  EXPECT_EQ(*repetitions_for({.soundness_bits = 40, .tries = 65}, 2), 3U);
  EXPECT_EQ(*repetitions_for({.soundness_bits = 23}, 2), 1U);
  EXPECT_EQ(*repetitions_for({.soundness_bits = 24}, 2), 2U);
  EXPECT_EQ(*repetitions_for({.soundness_bits = 128}, 3), 6U);
  EXPECT_FALSE(repetitions_for({.soundness_bits = 200}, 2).ok());
}

TEST(ChallengeTest, DegreeCountsTheFactors) {
  const model::Linear conv = small_layer(false, Field::kP24);
  const model::Linear dense = small_layer(true, Field::kP24);
  EXPECT_EQ(challenge_degree(conv, false), 2U);
  EXPECT_EQ(challenge_degree(conv, true), 3U);
  EXPECT_EQ(challenge_degree(dense, false), 1U);
  EXPECT_EQ(challenge_degree(dense, true), 2U);
}

// Whatever the order of layers, the figure is that of the one with the most factors.
TEST(ChallengeTest, SoundnessIsThatOfTheWorstLayer) {
  test::SeededRandom random(2);
  const model::Linear conv = small_layer(false, Field::kP24);
  const model::Linear dense = small_layer(true, Field::kP24);
  const CheckedLayer worse{&conv, 0, InputForm::kCodes};
  const CheckedLayer better{&dense, 0, InputForm::kCodes};
  const Kernels& kernels = test::portable();
  for (const auto& layers : {std::vector{worse, better}, std::vector{better, worse}}) {
    const auto set = ChallengeSet::create(layers, {}, kernels, random);
    const auto plain = FreshChallenge::create(layers, 1, false, {}, kernels);
    const auto batched = FreshChallenge::create(layers, 2, true, {}, kernels);
    ASSERT_TRUE(set.ok() && plain.ok() && batched.ok());
    EXPECT_EQ((*set)->bits(), soundness_bits(2, 2));
    EXPECT_EQ(plain->bits(), soundness_bits(2, 2));
    EXPECT_EQ(batched->bits(), soundness_bits(2, 3));
  }
}

TEST(ChallengeTest, SetsHaveTheirOwnChallenges) {
  Dice dice(8);
  test::SeededRandom random(8);
  const Bench bench(small_layer(false, Field::kP24), InputForm::kCodes, 0, test::portable(), dice);
  const auto first = make_set(bench, {}, random);
  const auto second = make_set(bench, {}, random);
  const OutputChallenge& a = first->layers()[0].output;
  const OutputChallenge& b = second->layers()[0].output;
  std::size_t same = 0;
  for (std::size_t k = 0; k < 2; ++k) {
    for (std::size_t i = 0; i < 3; ++i)
      same += a.a[k * a.a_stride + i] == b.a[k * b.a_stride + i] ? 1U : 0U;
  }
  EXPECT_EQ(same, 0U);
  EXPECT_NE(a.a[0], a.a[a.a_stride]);  // repetitions differ
  EXPECT_NE(a.c[0], a.c[a.c_stride]);
  EXPECT_EQ(a.repetitions, 2U);
  EXPECT_NEAR(first->bits(), 46, 0.01);
}

TEST(ChallengeTest, OnlyLayersWithAFieldAreChecked) {
  model::Plan plan;
  plan.tensors.resize(2);
  plan.tensors[0].zero_point = 17;
  plan.nodes.push_back({"dense", {0}, 1, small_layer(true, Field::kP24)});
  plan.nodes.push_back({"table", {0}, 1, model::Table{}});
  plan.nodes.push_back({"inside", {0}, 1, small_layer(true, Field::kP24)});
  std::get<model::Linear>(plan.nodes[2].op).field.reset();
  const std::vector<std::uint32_t> good = {0};
  const auto layers = checked_layers(plan, good, InputForm::kWords);
  ASSERT_TRUE(layers.ok());
  EXPECT_EQ((*layers)[0].pad_code, 17);
  for (const std::uint32_t node : {1U, 2U, 3U}) {
    const std::vector<std::uint32_t> bad = {0, node};
    EXPECT_FALSE(checked_layers(plan, bad, InputForm::kCodes).ok()) << node;
  }
}

TEST(VerdictTest, TrueOnlyIfEverythingWasZero) {
  const Residues zero;
  EXPECT_FALSE(Verdict{}.take_verdict());  // no check at all
  for (std::size_t k = 0; k < kMaxRepetitions; ++k) {
    for (const std::uint32_t word : {1U, 1U << 23, modulus(Field::kP31) - 1}) {
      Residues one;
      one.value[k] = word;
      Verdict verdict;
      verdict.add(zero, 0);
      verdict.add(one, 0);
      verdict.add(zero, 0);
      EXPECT_EQ(verdict.checks(), 3U);
      EXPECT_FALSE(std::move(verdict).take_verdict());
    }
  }
  Verdict bad;
  bad.add(zero, 1U << 31);
  EXPECT_FALSE(std::move(bad).take_verdict());
  Verdict good;
  good.add(zero, 0);
  EXPECT_TRUE(std::move(good).take_verdict());
}

}  // namespace
}  // namespace slalom::field

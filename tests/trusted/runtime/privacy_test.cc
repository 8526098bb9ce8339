// SPDX-License-Identifier: Apache-2.0
// What a device sees with privacy: uniform words, whatever the input.

#include <gtest/gtest.h>

#include <cmath>

#include "trusted/runtime/fixture.h"

namespace slalom::testing {
namespace {

using model::Integrity;
using model::Privacy;

// Transcript is every word that was sent, by layer.
using Transcript = std::vector<std::pair<std::uint32_t, std::vector<std::uint32_t>>>;

Transcript transcript_of(const model::Plan& plan, const std::vector<Image>& images,
                         Integrity integrity) {
  Rig rig(plan);
  rig.options.privacy = Privacy::kPads;
  rig.options.integrity = integrity;
  rig.random = std::make_unique<TestRandom>(9);
  rig.start();
  Transcript out;
  rig.ports[0]->observe = [&](const channel::Request& request, std::span<const std::byte> input) {
    EXPECT_EQ(request.kind, channel::InputKind::kWords);
    std::vector<std::uint32_t> words;
    const std::size_t bytes = field::word_bytes(request.field);
    for (std::size_t i = 0; i < input.size(); i += bytes) {
      words.push_back(load_word(input.data() + i, request.field));
      EXPECT_LT(words.back(), field::modulus(request.field));
    }
    out.emplace_back(request.layer, std::move(words));
  };
  rig.expect_right(images, expected_outputs(plan, images));
  return out;
}

// chi_squared of the words' bytes at one position (0: the lowest) against the uniform distribution,
// as a number of standard deviations.
double deviation(const std::vector<std::uint32_t>& words, unsigned shift) {
  std::vector<double> count(256, 0);
  for (const std::uint32_t w : words) ++count[(w >> shift) & 255];
  const double expected = static_cast<double>(words.size()) / 256;
  double chi = 0;
  for (const double c : count) chi += (c - expected) * (c - expected) / expected;
  return (chi - 255) / std::sqrt(2.0 * 255);
}

model::Plan p24_network() { return small_network(4); }

// layer_of is a convolution whose sums need the field: 288 or 2304 products of int8 numbers.
model::Plan layer_of(field::Field f) {
  PlanBuilder b(3);
  const bool small = f == field::Field::kP24;
  const auto x = small ? b.input({18, 18, 32}) : b.input({6, 6, 256});
  return b.finish({b.conv(x, {.out_c = 4, .window = {.kernel_h = 3, .kernel_w = 3}})});
}

// Each input by itself: a device that could tell the two apart would see one that is not uniform.
TEST(Privacy, WordsAreUniformForOneInputAndForAnother) {
  for (const field::Field f : {field::Field::kP24, field::Field::kP31}) {
    const model::Plan plan = layer_of(f);
    ASSERT_EQ(std::get<model::Linear>(plan.nodes[0].op).field, f);
    const auto any = random_images(plan, 1, 1)[0];
    for (const Image& image : {any, Image(any.size(), 0), Image(any.size(), 255)}) {
      std::vector<std::uint32_t> words;
      for (const auto& [layer, sent] :
           transcript_of(plan, std::vector<Image>(40, image), Integrity::kPreprocessed)) {
        words.insert(words.end(), sent.begin(), sent.end());
      }
      ASSERT_GT(words.size(), 300'000U);
      // Every byte, of which the lowest holds what a code could show, and the highest 8 bits.
      for (const unsigned shift : {0U, 8U, 16U}) {
        EXPECT_LT(std::fabs(deviation(words, shift)), 5.0);
      }
      if (f == field::Field::kP31) {
        EXPECT_LT(std::fabs(deviation(words, 23)), 5.0);
      }
      // The same test sees what is not uniform.
      for (auto& w : words) w = w % 50 == 0 ? 0 : w;
      EXPECT_GT(deviation(words, 0), 5.0);
    }
  }
}

// The same over all layers of a network, whose later inputs depend on the first.
TEST(Privacy, WordsOfAWholeNetworkAreUniform) {
  const model::Plan plan = p24_network();
  std::vector<Image> images(60, random_images(plan, 1, 1)[0]);
  for (std::size_t i = 30; i < 60; ++i)
    std::fill(images[i].begin(), images[i].end(), std::uint8_t{0});
  const Transcript seen = transcript_of(plan, images, Integrity::kPreprocessed);
  std::vector<std::uint32_t> words;
  for (const auto& [layer, sent] : seen) {
    const auto& linear = std::get<model::Linear>(plan.nodes[layer].op);
    if (*linear.field == field::Field::kP24) words.insert(words.end(), sent.begin(), sent.end());
  }
  ASSERT_GT(words.size(), 100'000U);
  for (const unsigned shift : {0U, 8U, 16U}) EXPECT_LT(std::fabs(deviation(words, shift)), 5.0);
}

TEST(Privacy, OneImageTwiceIsNeverSentAlike) {
  const model::Plan plan = p24_network();
  const std::vector<Image> images(2, random_images(plan, 1, 1)[0]);
  Rig rig(plan);
  rig.options.privacy = Privacy::kPads;
  rig.options.micro_batch = 1;
  rig.start();
  std::map<std::uint32_t, std::vector<std::vector<std::byte>>> sent;
  rig.ports[0]->observe = [&](const channel::Request& request, std::span<const std::byte> input) {
    sent[request.layer].emplace_back(input.begin(), input.end());
  };
  rig.expect_right(images, expected_outputs(plan, images));
  for (const auto& [layer, inputs] : sent) {
    ASSERT_EQ(inputs.size(), 2U);
    EXPECT_NE(inputs[0], inputs[1]) << layer;
  }
}

TEST(Privacy, TheSameSeedsGiveTheSameTranscriptUpToTheInput) {
  const model::Plan plan = p24_network();
  const auto images = random_images(plan, 4, 1);
  const auto others = random_images(plan, 4, 2);
  for (const Integrity integrity : {Integrity::kOff, Integrity::kPlain, Integrity::kPreprocessed}) {
    const Transcript first = transcript_of(plan, images, integrity);
    EXPECT_EQ(first, transcript_of(plan, images, integrity));
    // Another input: the first tensor's words differ by the difference of the codes.
    const Transcript second = transcript_of(plan, others, integrity);
    ASSERT_EQ(first.size(), second.size());
    const std::uint32_t p =
        field::modulus(*std::get<model::Linear>(plan.nodes[first[0].first].op).field);
    const std::size_t n = images[0].size();
    for (std::size_t i = 0; i < first[0].second.size(); ++i) {
      const std::int64_t code = images[i / n][i % n] - others[i / n][i % n];
      const std::int64_t word = std::int64_t{first[0].second[i]} - second[0].second[i];
      ASSERT_EQ((word - code) % p, 0) << i;
    }
  }
}

TEST(Privacy, EveryPadIsKeyedOnce) {
  const model::Plan plan = random_plan(11, 14);
  Rig rig(plan);
  rig.options.privacy = Privacy::kPads;
  rig.start();
  const auto images = random_images(plan, 5, 1);
  rig.expect_right(images, expected_outputs(plan, images));
  std::set<model::TensorId> tensors;
  for (std::size_t n = 0; n < plan.nodes.size(); ++n) {
    if (rig.placement.remote[n]) tensors.insert(plan.nodes[n].inputs[0]);
  }
  EXPECT_EQ(rig.pads->keys, tensors.size() * images.size());
  EXPECT_EQ(rig.pads->taken, images.size());
  EXPECT_EQ(rig.pads->destroyed, images.size());
}

}  // namespace
}  // namespace slalom::testing

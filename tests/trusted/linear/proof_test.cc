// SPDX-License-Identifier: Apache-2.0
#include "linear/proof.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "layers.h"
#include "linear/candidates.h"

namespace slalom::linear {
namespace {

using namespace linear_test;  // NOLINT(google-build-using-namespace)
using model::Linear;

// Crooked wraps an honest engine and spoils what it returns.
enum class Fault {
  kNone,
  kSaturatesPairs,  // as 8-bit multiply-add below VNNI: two products in 16 bits
  kBorder,          // padding read as zero
  kOneChannel,      // the last channel off by one
  kRounding,        // half away from zero
  kLimbs,           // words centred at p/2: the top digit overflows now and then
  kLastImage,       // only in full batches
};
Fault g_fault = Fault::kNone;

std::unique_ptr<Engine> make_honest(const Linear& layer, const EngineOptions& options) {
  return all_candidates().back()(layer, options);
}

class Crooked final : public Engine {
 public:
  Crooked(const Linear& layer, const EngineOptions& options)
      : layer_(layer), max_batch_(options.max_batch), honest_(make_honest(layer, options)) {}

  void run_codes(std::span<const std::uint8_t> codes, std::uint8_t pad_code, std::size_t batch,
                 std::span<std::int32_t> y) override {
    const bool border = g_fault == Fault::kBorder;
    honest_->run_codes(codes, border ? std::uint8_t{0} : pad_code, batch, y);
    if (g_fault == Fault::kSaturatesPairs) saturate(codes, batch, y);
    if (g_fault == Fault::kOneChannel) {
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += i % layer_.out().c == layer_.out().c - 1;
    }
    if (g_fault == Fault::kLastImage && batch == max_batch_) y.back() ^= 1;
  }
  void run_words(field::Field f, std::span<const std::uint32_t> words, std::size_t batch,
                 std::span<std::uint32_t> y) override {
    std::vector<std::uint32_t> changed(words.begin(), words.end());
    if (g_fault == Fault::kLimbs) {
      const std::uint32_t p = field::modulus(f);
      for (auto& v : changed) {
        if (v > field::limb_centre(f) && v <= p / 2) v = (v + p - (1U << 24) % p) % p;
      }
    }
    honest_->run_words(f, changed, batch, y);
  }
  void run_requant(std::span<const std::uint8_t> codes, std::uint8_t pad_code, std::size_t batch,
                   std::span<std::uint8_t> out) override {
    honest_->run_requant(codes, pad_code, batch, out);
    if (g_fault != Fault::kRounding) return;
    std::vector<std::int32_t> y(out.size());
    honest_->run_codes(codes, pad_code, batch, y);
    const model::Requant& r = layer_.requant;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t o = i % layer_.out().c;
      const float v = static_cast<float>(y[i] + layer_.bias[o]) * r.multiplier[o];
      const int q = static_cast<int>(std::round(v)) + r.zero_point;
      out[i] = static_cast<std::uint8_t>(std::clamp(q, r.lo, r.hi));
    }
  }
  [[nodiscard]] std::string_view backend_name() const noexcept override { return "crooked"; }

 private:
  // Dense layers only: sums of pairs are clipped to 16 bits, codes taken as unsigned.
  void saturate(std::span<const std::uint8_t> codes, std::size_t batch, std::span<std::int32_t> y) {
    const std::size_t n = layer_.in().c;
    const std::size_t m = layer_.out().c;
    for (std::size_t i = 0; i < batch * m; ++i) {
      const std::uint8_t* q = codes.data() + i / m * n;
      const std::int8_t* w = layer_.stages[0].weights.data() + i % m * n;
      std::int32_t sum = 0;
      for (std::size_t k = 0; k < n; k += 2) {
        sum += std::clamp(q[k] * w[k] + q[k + 1] * w[k + 1], -32768, 32767);
        sum -= 128 * (w[k] + w[k + 1]);
      }
      y[i] = sum;
    }
  }

  const Linear& layer_;
  std::size_t max_batch_;
  std::unique_ptr<Engine> honest_;
};

std::unique_ptr<Engine> make_crooked(const Linear& layer, const EngineOptions& options) {
  return std::make_unique<Crooked>(layer, options);
}
std::unique_ptr<Engine> make_nothing(const Linear&, const EngineOptions&) { return nullptr; }

constexpr std::array<Candidate, 3> kCandidates = {make_nothing, make_crooked, make_honest};

std::string_view chosen(const Linear& layer, Fault fault, bool prove = true,
                        std::span<const Candidate> candidates = kCandidates) {
  g_fault = fault;
  base::ThreadPool pool(1);
  const EngineOptions options{.cpu = {}, .pool = pool, .max_batch = 4, .prove = prove};
  const auto engine = choose_engine(layer, options, candidates);
  return engine ? engine.value()->backend_name() : "none";
}

class ProofTest : public ::testing::Test {
 protected:
  Linear dense(std::uint32_t terms, std::int32_t largest = 127) {
    Linear layer =
        finish({make_stage({1, 1, terms, 24, 1, {}}, Weights::kRandom, random_)}, random_);
    for (auto& w : layer.stages[0].weights) {
      w = static_cast<std::int8_t>(std::clamp<std::int32_t>(w, -largest, largest));
    }
    layer.requant.table.clear();
    layer.requant.multiplier.resize(24, layer.requant.multiplier[0]);
    return layer;
  }
  Random random_{5};
};

TEST_F(ProofTest, KeepsAnExactCandidate) { EXPECT_EQ(chosen(dense(64), Fault::kNone), "crooked"); }

TEST_F(ProofTest, DiscardsSaturation) {
  EXPECT_EQ(chosen(dense(64), Fault::kSaturatesPairs), "sse2");
  EXPECT_EQ(chosen(dense(512, 90), Fault::kSaturatesPairs), "sse2");
  // 2 * 255 * 64 < 2^15: with weights this small the same instructions are exact, and may serve.
  EXPECT_EQ(chosen(dense(64, 64), Fault::kSaturatesPairs), "crooked");
  // Clipping starts at 2 * 255 * 65; only inputs chosen by the weights' signs reach it in every
  // layer.
  Linear rare = dense(2, 1);
  std::ranges::fill(rare.stages[0].weights, std::int8_t{65});
  EXPECT_EQ(chosen(rare, Fault::kSaturatesPairs), "sse2");
}

TEST_F(ProofTest, DiscardsOtherFaults) {
  Linear layer = dense(40);
  layer.field = field::Field::kP24;  // p31 has room enough for that centring
  EXPECT_EQ(chosen(layer, Fault::kOneChannel), "sse2");
  EXPECT_EQ(chosen(layer, Fault::kLastImage), "sse2");
  EXPECT_EQ(chosen(layer, Fault::kLimbs), "sse2");
  const model::Window three{
      .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  const Linear conv =
      finish({make_stage({7, 7, 3, 5, 1, three}, Weights::kRandom, random_)}, random_);
  EXPECT_EQ(chosen(conv, Fault::kNone), "crooked");
  EXPECT_EQ(chosen(conv, Fault::kBorder), "sse2");
}

TEST_F(ProofTest, LooksAtLaterImagesWhereTilesSpanThem) {
  const Linear pointwise =
      finish({make_stage({5, 5, 12, 9, 1, {}}, Weights::kRandom, random_)}, random_);
  EXPECT_EQ(chosen(pointwise, Fault::kNone), "crooked");
  EXPECT_EQ(chosen(pointwise, Fault::kLastImage), "sse2");
}

TEST_F(ProofTest, DiscardsAnotherRounding) {
  Linear layer = dense(4, 1);
  std::ranges::fill(layer.bias, 0);
  layer.requant = {.multiplier = std::vector<float>(24, 0.5F), .zero_point = 128};
  EXPECT_EQ(chosen(layer, Fault::kNone), "crooked");
  EXPECT_EQ(chosen(layer, Fault::kRounding), "sse2");
}

TEST_F(ProofTest, SaysSoWhenNothingIsExact) {
  const auto wrong = std::span(kCandidates).first(2);
  EXPECT_EQ(chosen(dense(64), Fault::kSaturatesPairs, true, wrong), "none");
  EXPECT_EQ(chosen(dense(64), Fault::kSaturatesPairs, false, wrong), "crooked");
}

}  // namespace
}  // namespace slalom::linear

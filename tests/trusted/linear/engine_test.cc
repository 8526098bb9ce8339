// SPDX-License-Identifier: Apache-2.0
#include "linear/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <vector>

#include "layers.h"
#include "linear/candidates.h"
#include "linear/proof.h"
#include "linear/tile_gemm.h"

namespace slalom::linear {
namespace {

using namespace linear_test;  // NOLINT(google-build-using-namespace)
using field::Field;
using model::Linear;

// The rule of model::Requant in double arithmetic with its single rounding to binary32 made
// explicit.
std::uint8_t oracle_code(Wide y, const Linear& layer, std::size_t o) {
  const model::Requant& r = layer.requant;
  const auto accumulator = static_cast<std::int32_t>(y + layer.bias[o]);
  const float m = r.multiplier[r.multiplier.size() == 1 ? 0 : o];
  const volatile float converted = static_cast<float>(accumulator);
  const volatile float product = converted * m;
  const double v = std::clamp(static_cast<double>(product), -1073741824.0, 1073741824.0);
  const auto q = static_cast<std::int64_t>(std::nearbyint(v)) + r.zero_point;
  const auto code = static_cast<std::size_t>(std::clamp<std::int64_t>(q, r.lo, r.hi));
  return r.table.empty() ? static_cast<std::uint8_t>(code) : r.table[code];
}

std::int64_t largest_sum(const Linear& layer) {
  const std::vector<std::int64_t> bounds = model::sum_bound(layer);
  return *std::ranges::max_element(bounds);
}

class Checker {
 public:
  Checker(const Linear& layer, std::size_t batch, Engine& engine)
      : layer_(layer),
        batch_(batch),
        engine_(engine),
        in_(layer.in().elements()),
        out_(layer.out().elements()) {}

  void codes(const std::vector<std::uint8_t>& codes, std::uint8_t pad_code) {
    std::vector<std::int32_t> y(batch_ * out_, 77);
    std::vector<std::uint8_t> q(batch_ * out_, 77);
    engine_.run_codes(codes, pad_code, batch_, y);
    engine_.run_requant(codes, pad_code, batch_, q);
    for (std::size_t image = 0; image < batch_; ++image) {
      std::vector<Wide> x(in_);
      for (std::size_t i = 0; i < in_; ++i) x[i] = Wide{codes[image * in_ + i]} - 128;
      const std::vector<Wide> expected = naive(layer_, x, Wide{pad_code} - 128);
      for (std::size_t i = 0; i < out_; ++i) {
        ASSERT_EQ(std::int64_t{y[image * out_ + i]}, static_cast<std::int64_t>(expected[i]))
            << describe(layer_) << " image " << image << " output " << i;
        ASSERT_EQ(int{q[image * out_ + i]},
                  int{oracle_code(expected[i], layer_, i % layer_.out().c)})
            << describe(layer_) << " image " << image << " output " << i << " Y "
            << y[image * out_ + i];
      }
    }
  }

  void words(Field f, const std::vector<std::uint32_t>& words) {
    std::vector<std::uint32_t> y(batch_ * out_, 77);
    engine_.run_words(f, words, batch_, y);
    for (std::size_t image = 0; image < batch_; ++image) {
      std::vector<Wide> x(in_);
      for (std::size_t i = 0; i < in_; ++i) x[i] = words[image * in_ + i];
      const std::vector<Wide> expected = naive(layer_, x, 0);
      for (std::size_t i = 0; i < out_; ++i) {
        ASSERT_EQ(std::int64_t{y[image * out_ + i]},
                  static_cast<std::int64_t>(modulo(expected[i], f)))
            << describe(layer_) << " field " << static_cast<int>(f) << " image " << image
            << " output " << i;
      }
    }
  }

 private:
  const Linear& layer_;
  std::size_t batch_;
  Engine& engine_;
  std::size_t in_, out_;
};

// EmulatedTiles are the tile registers as Intel's manual describes them (volume 2, LDTILECFG,
// TILELOADD, TDPBUSD), for processors without AMX. What a tile leaves out reads as zero.
struct EmulatedTiles {
  static constexpr std::string_view kName = "emulated";
  using Tile = std::array<std::array<std::uint8_t, 64>, 16>;
  struct State {
    bool configured = false;
    std::array<std::size_t, 8> rows{};
    std::array<Tile, 8> tiles{};
  };
  static State& state() {
    thread_local State s;
    return s;
  }
  static void configure(std::size_t rows) noexcept {
    ASSERT_TRUE(rows >= 1 && rows <= 16);
    state() = {.configured = true};
    for (std::size_t i = 0; i < 8; ++i) state().rows[i] = i < 6 ? rows : 16;
  }
  static void release() noexcept { state() = {}; }
  template <int Register>
  static void load(const void* from, std::size_t stride) noexcept {
    ASSERT_TRUE(state().configured);
    Tile& tile = state().tiles[Register] = {};
    for (std::size_t r = 0; r < state().rows[Register]; ++r) {
      std::memcpy(tile[r].data(), static_cast<const std::byte*>(from) + r * stride, 64);
    }
  }
  template <int Register>
  static void store(void* to, std::size_t stride) noexcept {
    ASSERT_TRUE(state().configured);
    for (std::size_t r = 0; r < state().rows[Register]; ++r) {
      std::memcpy(static_cast<std::byte*>(to) + r * stride, state().tiles[Register][r].data(), 64);
    }
  }
  template <int Sums, int Inputs, int Weights>
  static void dot() noexcept {
    const Tile& a = state().tiles[Inputs];
    const Tile& b = state().tiles[Weights];
    for (std::size_t m = 0; m < state().rows[Sums]; ++m) {
      for (std::size_t n = 0; n < 16; ++n) {
        std::uint32_t sum = 0;
        std::memcpy(&sum, &state().tiles[Sums][m][4 * n], 4);
        for (std::size_t k = 0; k < 64; ++k) {
          sum += static_cast<std::uint32_t>(a[m][k] *
                                            static_cast<std::int8_t>(b[k / 4][4 * n + k % 4]));
        }
        std::memcpy(&state().tiles[Sums][m][4 * n], &sum, 4);
      }
    }
  }
};

// A subject is what some of this processor's instructions make; name is what the engine must call
// itself, so that a level that never ran fails its test.
struct Subject {
  std::string_view name;
  base::CpuFeatures cpu;
  Kernels kernels;
};

std::vector<Subject> all_subjects() {
  const base::CpuFeatures have = base::detect_cpu();
  std::vector<Subject> subjects;
  base::CpuFeatures cpu;
  const auto add = [&](bool present, std::string_view name) {
    if (present) subjects.push_back({name, cpu, choose_kernels(cpu)});
  };
  add(true, "sse2");
  cpu.avx2 = true;
  add(have.avx2, "avx2");
  cpu.avx512 = true;
  add(have.avx512, "avx512");
  cpu.avx512_vnni = true;
  add(have.avx512_vnni, "vnni");
  if (have.avx512_vnni) {
    subjects.push_back({"emulated", cpu, with_tiles<EmulatedTiles>(choose_kernels(cpu))});
  }
  cpu.amx_int8 = true;
  add(have.amx_int8, "amx");
  return subjects;
}

// Every subject must agree with the oracle on every layer, with one thread and with several.
class EngineTest : public ::testing::TestWithParam<Subject> {
 protected:
  void check(const Linear& layer, std::size_t batch, std::span<const Data> kinds) {
    const Subject& subject = GetParam();
    const EngineOptions options{.cpu = subject.cpu,
                                .pool = uniform(random_, 0, 1) == 0 ? alone_ : pool_,
                                .max_batch = batch + uniform(random_, 0, 3)};
    const auto engine = make_engine_of(subject.kernels, layer, options);
    ASSERT_EQ(engine->backend_name(), subject.name);
    EXPECT_TRUE(proves_exact(layer, options, *engine)) << describe(layer);
    Checker checker(layer, batch, *engine);
    for (const Data kind : kinds) {
      const std::size_t n = batch * layer.in().elements();
      const auto pad = static_cast<std::uint8_t>(std::array{0, 128, 255, 1, 77}[random_() % 5]);
      checker.codes(make_codes(n, kind, random_), pad);
      if (HasFatalFailure()) return;
      for (const Field f : {Field::kP24, Field::kP31}) {
        checker.words(f, make_words(n, f, kind, random_));
        if (HasFatalFailure()) return;
      }
    }
  }

  Random random_{20240607};
  base::ThreadPool alone_{1};
  base::ThreadPool pool_{3};
};

TEST_P(EngineTest, AgreesOnRandomConvolutions) {
  for (int i = 0; i < 60; ++i) {
    const Geometry g = random_geometry(random_, i % 3 == 2);
    const Weights kind = kAllWeights[static_cast<std::size_t>(i) % kAllWeights.size()];
    const Linear layer = finish({make_stage(g, kind, random_)}, random_);
    check(layer, uniform(random_, 1, 3), std::array{Data::kRandom, kAllData[random_() % 6]});
    if (HasFatalFailure()) return;
  }
}

TEST_P(EngineTest, AgreesOnWorstCaseData) {
  const model::Window three{
      .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  const std::array geometries = {Geometry{5, 9, 64, 48, 1, three},
                                 Geometry{6, 6, 96, 96, 96, three}, Geometry{1, 1, 1000, 33, 1, {}},
                                 Geometry{4, 7, 35, 130, 1, {}}};
  for (const Geometry& g : geometries) {
    for (const Weights kind : kAllWeights) {
      const Linear layer = finish({make_stage(g, kind, random_)}, random_);
      check(layer, 2, kAllData);
      if (HasFatalFailure()) return;
    }
  }
}

// Large enough that rows and output channels are cut into several tiles.
TEST_P(EngineTest, AgreesWhenALayerIsCutIntoTiles) {
  const model::Window strided{.kernel_h = 3,
                              .kernel_w = 5,
                              .stride_h = 2,
                              .stride_w = 1,
                              .pad_top = 1,
                              .pad_left = 2,
                              .pad_bottom = 0,
                              .pad_right = 1};
  const std::array geometries = {
      Geometry{21, 27, 7, 256, 1, strided}, Geometry{1, 1, 300, 512, 1, {}},
      Geometry{23, 40, 64, 64, 64, strided}, Geometry{30, 30, 16, 24, 2, strided},
      Geometry{12, 12, 24, 128, 1, {}}};
  for (const Geometry& g : geometries) {
    const Linear layer = finish({make_stage(g, Weights::kRandom, random_)}, random_);
    check(layer, 2, std::array{Data::kRandom, Data::kEdges});
    if (HasFatalFailure()) return;
  }
}

TEST_P(EngineTest, ComposesSeparablePairsExactly) {
  for (int i = 0; i < 12; ++i) {
    Geometry first = random_geometry(random_, true);
    if (i == 0) first.window = {.kernel_h = 3, .kernel_w = 3};
    first.out_c = first.in_c;
    first.h = std::max(first.h, 3U);
    first.w = std::max(first.w, 3U);
    const Weights kind = kAllWeights[static_cast<std::size_t>(i) % kAllWeights.size()];
    std::vector<model::ConvStage> stages{make_stage(first, kind, random_)};
    const model::Shape middle = stages[0].conv.out;
    const Geometry second{middle.h, middle.w, middle.c, uniform(random_, 1, 70), 1, {}};
    stages.push_back(make_stage(second, kind, random_));
    const Linear layer = finish(std::move(stages), random_);
    ASSERT_LT(largest_sum(layer), std::int64_t{1} << 31);
    check(layer, 2, kAllData);
    if (HasFatalFailure()) return;
  }
}

// Sums of more than 132,104 terms: one limb's product no longer fits an int32.
TEST_P(EngineTest, SplitsVeryLongSums) {
  const Geometry g{1, 1, 270'001, 3, 1, {}};
  for (const Weights kind : {Weights::kSignsByChannel, Weights::kRandom}) {
    Linear layer = finish({make_stage(Geometry{1, 1, 1, 3, 1, {}}, kind, random_)}, random_);
    layer.stages = {make_stage(g, kind, random_)};
    if (kind != Weights::kRandom) {  // keep the codes' sums inside an int32
      for (auto& w : layer.stages[0].weights) w = static_cast<std::int8_t>(w > 0 ? 61 : -61);
    } else {
      for (auto& w : layer.stages[0].weights) w = static_cast<std::int8_t>(w / 3);
    }
    ASSERT_LT(largest_sum(layer), (std::int64_t{1} << 31) - 128);
    check(layer, 2, kAllData);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, EngineTest, ::testing::ValuesIn(all_subjects()),
                         [](const auto& suite) { return std::string(suite.param.name); });

TEST(MakeEngine, RefusesSumsThatAreTooLong) {
  Linear layer;
  layer.stages.resize(1);
  model::Conv& conv = layer.stages[0].conv;
  conv.in = {1, 32, 1U << 20};
  conv.window.kernel_w = 32;
  conv.out = {1, 1, 1};
  base::ThreadPool pool(1);
  const auto engine = make_engine(layer, {.cpu = base::detect_cpu(), .pool = pool});
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.error().code, Errc::kInvalidArgument);
}

}  // namespace
}  // namespace slalom::linear

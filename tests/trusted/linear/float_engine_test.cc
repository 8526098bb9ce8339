// SPDX-License-Identifier: Apache-2.0
#include "linear/float_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "layers.h"

namespace slalom::linear {
namespace {

using namespace linear_test;  // NOLINT(google-build-using-namespace)
using model::Conv;

// Small integers in floats: every product and sum is exact, so the oracle's integers are the
// answer.
struct Case {
  Conv conv;
  std::vector<float> weights, bias, x, y;
  FloatOptions options;
};

Case make_case(const Geometry& g, std::size_t batch, Random& random) {
  Case out;
  model::ConvStage stage = make_stage(g, Weights::kRandom, random);
  out.conv = stage.conv;
  for (auto& w : stage.weights) w = static_cast<std::int8_t>(w / 8);
  out.weights.assign(stage.weights.begin(), stage.weights.end());
  for (std::size_t o = 0; o < g.out_c; ++o) {
    out.bias.push_back(static_cast<float>(uniform(random, 0, 200)) - 100);
  }
  out.options.low = -300;
  out.options.high = 500;
  for (std::size_t image = 0; image < batch; ++image) {
    std::vector<Wide> x(out.conv.in.elements());
    for (Wide& v : x) v = Wide{uniform(random, 0, 40)} - 20;
    out.x.insert(out.x.end(), x.begin(), x.end());
    const std::vector<Wide> y = naive_stage(stage, x, 0);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const float v = static_cast<float>(y[i]) + out.bias[i % g.out_c];
      out.y.push_back(std::clamp(v, out.options.low, out.options.high));
    }
  }
  return out;
}

struct Level {
  std::string name;
  base::CpuFeatures cpu;
};

std::vector<Level> levels() {
  const base::CpuFeatures have = base::detect_cpu();
  std::vector<Level> out;
  base::CpuFeatures cpu;
  cpu.sse41 = cpu.ssse3 = true;
  if (have.sse41) out.push_back({"sse41", cpu});
  cpu.avx2 = true;
  if (have.avx2) out.push_back({"avx2", cpu});
  cpu.avx512 = true;
  if (have.avx512) out.push_back({"avx512", cpu});
  return out;
}

class FloatEngineTest : public ::testing::TestWithParam<Level> {
 protected:
  void check(const Geometry& g, std::size_t batch) {
    Case c = make_case(g, batch, random_);
    c.options.cpu = GetParam().cpu;
    c.options.pool = uniform(random_, 0, 1) == 0 ? nullptr : &pool_;
    c.options.max_batch = batch;
    const auto engine = FloatEngine::make(c.conv, c.weights, c.bias, c.options);
    ASSERT_TRUE(engine.ok());
    std::vector<float> y(c.y.size(), 7777);
    engine.value()->run(c.x, batch, y);
    ASSERT_EQ(y, c.y) << g.h << "x" << g.w << "x" << g.in_c << " to " << g.out_c << ", groups "
                      << g.groups;
  }
  Random random_{11};
  base::ThreadPool pool_{3};
};

TEST_P(FloatEngineTest, AgreesWithTheOracle) {
  for (int i = 0; i < 80; ++i) {
    check(random_geometry(random_, i % 3 == 2), uniform(random_, 1, 3));
    if (HasFatalFailure()) return;
  }
}

TEST_P(FloatEngineTest, AgreesWhenALayerIsCutIntoTiles) {
  const model::Window strided{.kernel_h = 3,
                              .kernel_w = 3,
                              .stride_h = 2,
                              .stride_w = 2,
                              .pad_top = 1,
                              .pad_left = 1,
                              .pad_bottom = 1,
                              .pad_right = 1};
  for (const Geometry& g :
       {Geometry{21, 27, 7, 256, 1, strided}, Geometry{1, 1, 300, 512, 1, {}},
        Geometry{33, 40, 64, 64, 64, strided}, Geometry{30, 30, 16, 24, 2, strided}}) {
    check(g, 2);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, FloatEngineTest, ::testing::ValuesIn(levels()),
                         [](const auto& suite) { return suite.param.name; });

TEST(FloatEngine, RefusesWrongSizesAndOldProcessors) {
  Random random(1);
  Case c = make_case({4, 4, 3, 5, 1, {}}, 1, random);
  c.options.cpu = base::detect_cpu();
  EXPECT_FALSE(FloatEngine::make(c.conv, std::span(c.weights).first(3), c.bias, c.options).ok());
  EXPECT_FALSE(FloatEngine::make(c.conv, c.weights, std::span(c.bias).first(1), c.options).ok());
  c.options.cpu = {};
  const auto engine = FloatEngine::make(c.conv, c.weights, c.bias, c.options);
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.error().code, Errc::kUnavailable);
}

}  // namespace
}  // namespace slalom::linear

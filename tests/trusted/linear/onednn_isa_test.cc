// SPDX-License-Identifier: Apache-2.0
// Below VNNI, oneDNN's int8 products saturate. These tests hold oneDNN down to each level (it can
// be set once in a process, so each level is a process of its own) on a CPU that claims VNNI, and
// ask that the start proof notices and that results are exact whatever is chosen.

#include <gtest/gtest.h>
#include <oneapi/dnnl/dnnl.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "layers.h"
#include "linear/candidates.h"
#include "linear/engine.h"

namespace slalom::linear {
namespace {

using namespace linear_test;  // NOLINT(google-build-using-namespace)
using model::Linear;

bool exact(const Linear& layer, Engine& engine, Random& random) {
  for (const Data kind : kAllData) {
    const std::vector<std::uint8_t> codes = make_codes(layer.in().elements(), kind, random);
    std::vector<std::int32_t> y(layer.out().elements());
    engine.run_codes(codes, 255, 1, y);
    std::vector<Wide> x;
    for (const std::uint8_t q : codes) x.push_back(Wide{q} - 128);
    const std::vector<Wide> expected = naive(layer, x, 127);
    if (!std::equal(y.begin(), y.end(), expected.begin(), expected.end())) return false;
  }
  return true;
}

// run_level ends the process: 0 if everything was exact and the number of layers that oneDNN served
// is what the level allows.
[[noreturn]] void run_level(dnnl_cpu_isa_t level, bool expect_onednn) {
  if (dnnl_set_max_cpu_isa(level) != dnnl_success) std::exit(2);
  Random random(3);
  base::ThreadPool pool(1);
  const model::Window three{
      .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  const std::array geometries = {Geometry{9, 9, 32, 64, 1, three}, Geometry{1, 1, 512, 64, 1, {}},
                                 Geometry{8, 8, 64, 96, 1, {}}};
  std::size_t served = 0;
  std::size_t layers = 0;
  for (const Geometry& g : geometries) {
    for (const Weights kind : {Weights::kRandom, Weights::kAllMost, Weights::kSignsByChannel}) {
      const Linear layer = finish({make_stage(g, kind, random)}, random);
      const auto engine = make_engine(layer, {.cpu = base::detect_cpu(), .pool = pool});
      if (!engine || !exact(layer, *engine.value(), random)) {
        std::fprintf(stderr, "not exact:%s\n", describe(layer).c_str());
        std::exit(3);
      }
      const auto forced = make_engine(
          layer, {.cpu = base::detect_cpu(), .backend = Backend::kOneDnn, .pool = pool});
      served += forced.ok() ? 1 : 0;
      if (forced.ok() && !exact(layer, *forced.value(), random)) std::exit(4);
      ++layers;
    }
  }
  std::fprintf(stderr, "oneDNN served %zu of %zu layers\n", served, layers);
  std::exit(served == (expect_onednn ? layers : 0) ? 0 : 5);
}

class OneDnnIsaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";  // a fresh process
    if (!base::detect_cpu().avx512_vnni) GTEST_SKIP() << "oneDNN is not used on this processor";
  }
};

TEST_F(OneDnnIsaTest, Avx2IsFoundOutAndReplaced) {
  EXPECT_EXIT(run_level(dnnl_cpu_isa_avx2, false), ::testing::ExitedWithCode(0), "served 0 of 9");
}
TEST_F(OneDnnIsaTest, Avx512WithoutVnniIsFoundOutAndReplaced) {
  EXPECT_EXIT(run_level(dnnl_cpu_isa_avx512_core, false), ::testing::ExitedWithCode(0),
              "served 0 of 9");
}
TEST_F(OneDnnIsaTest, VnniServes) {
  EXPECT_EXIT(run_level(dnnl_cpu_isa_avx512_core_vnni, true), ::testing::ExitedWithCode(0),
              "served 9 of 9");
}
TEST_F(OneDnnIsaTest, AmxServes) {
  if (!base::detect_cpu().amx_int8) GTEST_SKIP() << "this processor has no AMX";
  EXPECT_EXIT(run_level(dnnl_cpu_isa_avx512_core_amx, true), ::testing::ExitedWithCode(0),
              "served 9 of 9");
}

}  // namespace
}  // namespace slalom::linear

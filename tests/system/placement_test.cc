// SPDX-License-Identifier: Apache-2.0
// A placement that is measured and chosen, with real processes: it changes no answer.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "support/engine_runs.h"
#include "support/plans.h"
#include "untrusted/host/engine.h"
#include "untrusted/planner/planner.h"

namespace slalom {
namespace {

using host::Engine;
using host::EngineOptions;
using host::Modes;
using testing::Answers;
using testing::Folder;
using testing::Images;

constexpr std::uint64_t kImages = 9;

class PlacementTest : public ::testing::TestWithParam<model::Privacy> {
 protected:
  void SetUp() override {
    modes_.options.privacy = GetParam();
    modes_.options.threads = 1;
    if (GetParam() == model::Privacy::kPads) modes_.pad_store = folder_.file("pads");
    EngineOptions options;
    options.plan_file = folder_.write("plan.slalom", testing::small_network());
    options.device_threads = 1;
    options.modes = modes_;
    options.trusted_program = TRUSTED_PROGRAM;
    options.device_program = DEVICE_PROGRAM;
    auto engine = Engine::start(options);
    ASSERT_TRUE(engine.ok()) << engine.failure().message;
    engine_ = *std::move(engine);
    codes_.resize(3, std::vector<std::uint8_t>(std::size_t{12} * 12 * 3, 7));
  }

  std::vector<Answers::Image> answers() {
    Images images(kImages, 1);
    Answers out;
    const host::Done done = engine_->run(images, out);
    EXPECT_TRUE(done.ok()) << done.failure().message;
    EXPECT_EQ(out.released.size(), kImages);
    return std::move(out.released);
  }

  // layers_outside is how many layers of each image the last runs checked.
  std::uint32_t layers_outside() { return engine_->stats()->layers_checked; }

  Folder folder_;
  Modes modes_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::vector<std::uint8_t>> codes_;
};

TEST_P(PlacementTest, IsMeasuredChosenAndInForce) {
  const auto expected = answers();
  std::vector<std::string> said;
  const auto planned = planner::make_plan(*engine_, modes_, {.seconds = 0.02}, codes_,
                                          [&](const std::string& what) { said.push_back(what); });
  ASSERT_TRUE(planned.ok()) << planned.failure().message;
  const std::size_t probes = planner::probes(*engine_->plan()).size();
  ASSERT_GE(planned->samples.size(), probes);
  EXPECT_GE(said.size(), probes);
  for (const planner::Sample& sample : planned->samples) EXPECT_GT(sample.rate(), 0);
  ASSERT_LT(planned->used, planned->samples.size());
  EXPECT_EQ(planned->samples[planned->used].placement.remote, planned->placement.remote);
  EXPECT_EQ(answers(), expected);
  EXPECT_EQ(layers_outside(),
            static_cast<std::uint32_t>(std::count(planned->placement.remote.begin(),
                                                  planned->placement.remote.end(), true)));
}

TEST_P(PlacementTest, KeepsWhatTheUserWants) {
  const auto expected = answers();
  const runtime::Placement leaves = runtime::default_placement(*engine_->plan());
  planner::Wanted wanted{.seconds = 0.02};
  bool remote = false;
  for (std::uint32_t n = 0; n < leaves.remote.size(); ++n) {
    if (leaves.remote[n]) wanted.overrides.push_back({n, remote = !remote});
  }
  const auto planned = planner::make_plan(*engine_, modes_, wanted, codes_, {});
  ASSERT_TRUE(planned.ok()) << planned.failure().message;
  for (const planner::Override& o : wanted.overrides) {
    EXPECT_EQ(planned->placement.remote[o.node], o.remote);
  }
  EXPECT_EQ(answers(), expected);
}

TEST_P(PlacementTest, ComesWithOneOfTheMicroBatches) {
  const auto expected = answers();
  const planner::Wanted wanted{.micro_batches = {1, 5}, .seconds = 0.02};
  const auto planned = planner::make_plan(*engine_, modes_, wanted, codes_, {});
  ASSERT_TRUE(planned.ok()) << planned.failure().message;
  const std::set<std::size_t> sizes{modes_.options.micro_batch, 1, 5};
  EXPECT_TRUE(sizes.contains(planned->micro_batch)) << planned->micro_batch;
  EXPECT_EQ(answers(), expected);
}

INSTANTIATE_TEST_SUITE_P(Modes, PlacementTest,
                         ::testing::Values(model::Privacy::kOff, model::Privacy::kPads),
                         [](const auto& one) {
                           return one.param == model::Privacy::kOff ? "verified" : "private";
                         });

}  // namespace
}  // namespace slalom

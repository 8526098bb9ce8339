// SPDX-License-Identifier: Apache-2.0
// Honest devices: every mode gives the integers of the reference interpreter.

#include <gtest/gtest.h>

#include <tuple>

#include "trusted/runtime/fixture.h"

namespace slalom::testing {
namespace {

using model::Integrity;
using model::Privacy;

std::size_t count_remote(const runtime::Placement& placement) {
  return static_cast<std::size_t>(
      std::count(placement.remote.begin(), placement.remote.end(), true));
}

class ModeTest : public ::testing::TestWithParam<std::tuple<Integrity, Privacy>> {
 protected:
  void set_mode(Rig& rig) const {
    rig.options.integrity = std::get<0>(GetParam());
    rig.options.privacy = std::get<1>(GetParam());
  }
};

// Each remote layer begins one step; all steps together took no longer than the run.
void expect_times_of_steps(const Rig& rig, const runtime::Stats& stats) {
  ASSERT_FALSE(stats.steps.empty());
  EXPECT_EQ(stats.steps[0].node, runtime::StepTime::kInputs);
  std::uint64_t sum = 0;
  std::size_t remote = 0;
  for (const runtime::StepTime& step : stats.steps) {
    sum += step.trusted_ns;
    remote += step.node != runtime::StepTime::kInputs && rig.placement.remote.at(step.node) ? 1 : 0;
  }
  EXPECT_EQ(remote, count_remote(rig.placement));
  EXPECT_GT(sum, 0U);
  EXPECT_LE(static_cast<double>(sum) * 1e-9, stats.wall_s);
}

TEST_P(ModeTest, RandomPlansGiveTheReferenceBitForBit) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    Rig rig(random_plan(seed));
    set_mode(rig);
    rig.options.threads = 1 + seed % 3;
    rig.options.micro_batch = 1 + seed % 3;
    rig.options.in_flight = 1 + seed % 4;
    rig.start();
    const auto images = random_images(rig.plan, 5, seed);
    rig.expect_right(images, expected_outputs(rig.plan, images));

    const auto stats = rig.executor->stats();
    const std::size_t remote = count_remote(rig.placement);
    const bool checked = rig.options.integrity != Integrity::kOff;
    EXPECT_EQ(stats.checks_performed, checked ? remote * images.size() : 0);
    EXPECT_EQ(stats.layers_checked, checked ? remote : 0);
    EXPECT_EQ(stats.checks_failed, 0U);
    EXPECT_EQ(rig.ports[0]->layers.size(), remote);
    expect_times_of_steps(rig, stats);
    EXPECT_GE(stats.soundness_bits, checked && remote != 0 ? 40.0 : 0.0);
    EXPECT_LE(stats.soundness_bits, checked ? 200.0 : 0.0);
    EXPECT_EQ(stats.pads_used, rig.pads && remote != 0 ? images.size() : 0);
  }
}

TEST_P(ModeTest, EveryProcessorGivesTheSameBits) {
  for (unsigned seed = 50; seed < 58; ++seed) {
    SCOPED_TRACE(seed);
    Rig rig(random_plan(seed));
    set_mode(rig);
    const auto images = random_images(rig.plan, 4, seed);
    const auto expected = expected_outputs(rig.plan, images);
    for (const NamedCpu& level : cpu_levels()) {
      SCOPED_TRACE(level.name);
      rig.options.cpu = level.cpu;
      rig.start();
      rig.expect_right(images, expected);
    }
  }
}

TEST_P(ModeTest, SomeLayersMayStayInside) {
  for (unsigned seed = 60; seed < 80; ++seed) {
    SCOPED_TRACE(seed);
    Rig rig(random_plan(seed));
    set_mode(rig);
    bool flip = false;
    for (std::size_t n = 0; n < rig.placement.remote.size(); ++n) {
      if (!rig.placement.remote[n]) continue;
      flip = !flip;
      rig.placement.remote[n] = flip;
    }
    rig.start();
    const auto images = random_images(rig.plan, 4, seed);
    rig.expect_right(images, expected_outputs(rig.plan, images));
    EXPECT_EQ(rig.ports[0]->layers.size(), count_remote(rig.placement));
  }
}

TEST_P(ModeTest, SeveralPortsShareTheWork) {
  Rig rig(small_network());
  set_mode(rig);
  rig.num_ports = 3;
  rig.options.in_flight = 6;
  rig.start();
  const auto images = random_images(rig.plan, 20, 1);
  rig.expect_right(images, expected_outputs(rig.plan, images));
  for (const auto& port : rig.ports) EXPECT_GT(port->requests, 0U);
}

TEST_P(ModeTest, LargeTilesAndManyChunks) {
  // Several tiles, tasks and sealed chunks a layer, with channels that divide neither; rows that no
  // pooling window reads; a layer of one position.
  PlanBuilder b(5);
  const model::Window same{
      .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  const auto x = b.input({61, 61, 3}, 7);
  const auto c1 = b.conv(x, {.out_c = 24, .window = same, .out_zero_point = 9});
  const auto p1 = b.max_pool(c1, {.kernel_h = 2, .kernel_w = 3, .stride_h = 2, .stride_w = 2});
  const auto c2 = b.conv(p1, {.out_c = 24, .window = same, .groups = 24, .out_zero_point = 2});
  const auto a2 = b.add(c2, p1);
  const auto c3 = b.conv(a2, {.out_c = 40});
  const auto g = b.average_pool(c3, {.kernel_h = 29, .kernel_w = 29});
  const auto d = b.dense(g, 40'001);
  Rig rig(b.finish({d, c3}));
  set_mode(rig);
  rig.options.threads = 3;
  rig.start();
  const auto images = random_images(rig.plan, 4, 1);
  rig.expect_right(images, expected_outputs(rig.plan, images));
}

TEST_P(ModeTest, OneExecutorRunsManyTimes) {
  Rig rig(small_network(3));
  set_mode(rig);
  rig.start();
  for (unsigned round = 0; round < 5; ++round) {
    const auto images = random_images(rig.plan, round, round);
    rig.expect_right(images, expected_outputs(rig.plan, images));
  }
  EXPECT_EQ(rig.executor->stats().images, 10U);
}

std::string mode_name(const ::testing::TestParamInfo<std::tuple<Integrity, Privacy>>& info) {
  const char* integrity[] = {"Unchecked", "Plain", "Batched", "Preprocessed"};
  return std::string(integrity[static_cast<int>(std::get<0>(info.param))]) +
         (std::get<1>(info.param) == Privacy::kOff ? "" : "Private");
}
INSTANTIATE_TEST_SUITE_P(All, ModeTest,
                         ::testing::Combine(::testing::Values(Integrity::kOff, Integrity::kPlain,
                                                              Integrity::kBatched,
                                                              Integrity::kPreprocessed),
                                            ::testing::Values(Privacy::kOff, Privacy::kPads)),
                         mode_name);

// Every verdict in flight on every device is a try: each doubling costs a bit.
TEST(ExecutorCreate, SoundnessCountsDevicesAndMicroBatchesInFlight) {
  for (const Integrity integrity :
       {Integrity::kPlain, Integrity::kBatched, Integrity::kPreprocessed}) {
    const auto bits = [&](std::size_t ports, std::size_t in_flight) {
      Rig rig(small_network());
      rig.options.integrity = integrity;
      rig.options.soundness_bits = 30;
      rig.num_ports = ports;
      rig.options.in_flight = in_flight;
      rig.start();
      return rig.executor->stats().soundness_bits;
    };
    EXPECT_DOUBLE_EQ(bits(1, 4), bits(1, 1) - 2);
    EXPECT_DOUBLE_EQ(bits(4, 1), bits(1, 1) - 2);
    EXPECT_DOUBLE_EQ(bits(2, 8), bits(1, 1) - 4);
  }
}

TEST(ExecutorCreate, RefusesWhatItCannotDo) {
  Rig rig(small_network());
  const auto refused = [&](auto change) {
    runtime::Options options = rig.options;
    runtime::Placement placement = rig.placement;
    change(options, placement);
    TestPort port(rig.plan, 1 << 20);
    std::vector<channel::Port*> ports = {&port};
    const auto made = runtime::Executor::create(rig.plan, placement, options, ports, nullptr);
    return !made.ok() && made.error().code == Errc::kInvalidArgument;
  };
  EXPECT_FALSE(refused([](auto&, auto&) {}));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.threads = 0; }));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.micro_batch = 0; }));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.micro_batch = 257; }));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.threads = 1025; }));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.in_flight = 0; }));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.in_flight = 65; }));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.timeout = {}; }));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.soundness_bits = 1000; }));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.privacy = Privacy::kPads; }));
  EXPECT_TRUE(refused([](auto& o, auto&) { o.privacy = Privacy::kSplit; }));
  EXPECT_TRUE(refused([](auto&, auto& p) { p.remote.pop_back(); }));
  EXPECT_TRUE(refused([](auto&, auto& p) { p.remote[1] = true; }));  // a pooling
}

TEST(ExecutorCreate, ALayerWithoutAFieldStaysInside) {
  PlanBuilder b;
  const auto x = b.input({4, 4, 3});
  Rig rig(b.finish({b.conv(x, {.out_c = 4, .local = true})}));
  EXPECT_FALSE(runtime::default_placement(rig.plan).remote[0]);
  const runtime::Placement out{{true}};
  EXPECT_EQ(runtime::check_placement(rig.plan, out).error().code, Errc::kInvalidArgument);
  TestPort port(rig.plan, 1 << 20);
  std::vector<channel::Port*> ports = {&port};
  const auto made = runtime::Executor::create(rig.plan, out, rig.options, ports, nullptr);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, Errc::kInvalidArgument);
}

TEST(ExecutorCreate, ANodeHasAtMost256Operands) {
  for (const std::uint32_t operands : {256U, 257U}) {
    PlanBuilder b;
    const auto x = b.input({1, 1, 2});
    const auto y = b.node(std::vector<model::TensorId>(operands, x),
                          model::Concat{.axis = 2, .multiplier = std::vector<float>(operands, 1)},
                          {1, 1, 2 * operands}, x);
    const Rig rig(b.finish({y}));
    ASSERT_TRUE(model::validate(rig.plan).ok());
    const auto made = runtime::Executor::create(rig.plan, rig.placement, rig.options, {}, nullptr);
    EXPECT_EQ(made.ok(), operands == 256);
  }
}

TEST(ExecutorCreate, APortWithoutRoomIsUnavailable) {
  Rig rig(small_network());
  TestPort port(rig.plan, 1000);
  std::vector<channel::Port*> ports = {&port};
  const auto made = runtime::Executor::create(rig.plan, rig.placement, rig.options, ports, nullptr);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, Errc::kUnavailable);
}

}  // namespace
}  // namespace slalom::testing

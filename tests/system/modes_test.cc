// SPDX-License-Identifier: Apache-2.0
// The real trusted process with real workers: every mode gives the same integers, bit for bit.
#include <gtest/gtest.h>

#include "support/engine_runs.h"
#include "support/plans.h"
#include "support/test_device.h"
#include "untrusted/host/engine.h"

namespace slalom {
namespace {

using host::Engine;
using host::EngineOptions;
using host::Modes;
using model::Integrity;
using model::Privacy;
using testing::Answers;
using testing::Folder;
using testing::Images;

constexpr std::uint64_t kImages = 11;  // not a multiple of any micro-batch

class ModesTest : public ::testing::Test {
 protected:
  void SetUp() override { SLALOM_NEEDS_DEVICE(); }

  EngineOptions options(std::vector<std::string> devices, const Modes& modes) {
    EngineOptions o;
    o.plan_file = folder_.write("plan.slalom", testing::small_network());
    o.devices = std::move(devices);
    o.device_threads = 1;
    o.modes = modes;
    o.trusted_program = TRUSTED_PROGRAM;
    o.device_program = DEVICE_PROGRAM;
    return o;
  }
  [[nodiscard]] Modes modes(Integrity integrity, Privacy privacy) const {
    Modes m;
    m.options.integrity = integrity;
    m.options.privacy = privacy;
    m.options.threads = 1;
    if (privacy == Privacy::kPads) m.pad_store = folder_.file("pads");
    return m;
  }
  static std::vector<Answers::Image> answers(Engine& engine, unsigned seed = 1) {
    Images images(kImages, seed);
    Answers out;
    const host::Done done = engine.run(images, out);
    EXPECT_TRUE(done.ok()) << done.failure().message;
    EXPECT_TRUE(out.failed.empty());
    EXPECT_EQ(out.released.size(), kImages);
    return std::move(out.released);
  }
  std::vector<Answers::Image> baseline() {
    auto engine = Engine::start(options({"none"}, modes(Integrity::kOff, Privacy::kOff)));
    EXPECT_TRUE(engine.ok()) << engine.failure().message;
    return answers(**engine);
  }

  Folder folder_;
};

TEST_F(ModesTest, EveryModeGivesTheSameIntegers) {
  const auto expected = baseline();
  auto engine = Engine::start(options({SLALOM_TEST_DEVICE}, modes(Integrity::kOff, Privacy::kOff)));
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  const auto placement = runtime::default_placement(*(*engine)->plan());
  const auto layers = static_cast<std::uint64_t>(
      std::count(placement.remote.begin(), placement.remote.end(), true));
  ASSERT_GE(layers, 6U);
  for (const Integrity integrity :
       {Integrity::kOff, Integrity::kPlain, Integrity::kBatched, Integrity::kPreprocessed}) {
    for (const Privacy privacy : {Privacy::kOff, Privacy::kPads}) {
      SCOPED_TRACE(::testing::Message() << "integrity " << static_cast<int>(integrity)
                                        << ", privacy " << static_cast<int>(privacy));
      Modes m = modes(integrity, privacy);
      for (const std::size_t micro_batch : {1, 3, 4}) {
        m.options.micro_batch = micro_batch;
        m.options.in_flight = 1 + micro_batch % 3;
        const host::Done done = (*engine)->reconfigure(m);
        ASSERT_TRUE(done.ok()) << done.failure().message;
        EXPECT_EQ(answers(**engine), expected);
        const auto stats = (*engine)->stats();
        ASSERT_TRUE(stats.ok());
        EXPECT_EQ(stats->images, kImages);
        EXPECT_EQ(stats->checks_performed, integrity == Integrity::kOff ? 0 : kImages * layers);
        EXPECT_EQ(stats->checks_failed, 0U);
        EXPECT_EQ(stats->pads_used, privacy == Privacy::kPads ? kImages : 0);
        EXPECT_GE(stats->soundness_bits, integrity == Integrity::kOff ? 0 : 40);
      }
    }
  }
}

TEST_F(ModesTest, PadsInStockAreUsedFirst) {
  const auto expected = baseline();
  auto engine =
      Engine::start(options({SLALOM_TEST_DEVICE}, modes(Integrity::kPreprocessed, Privacy::kPads)));
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  std::uint64_t last = 0;
  const auto made = (*engine)->prepare(6, [&](std::uint64_t done, std::uint64_t count) {
    EXPECT_GT(done, last);
    EXPECT_EQ(count, 6U);
    last = done;
    return true;
  });
  ASSERT_TRUE(made.ok()) << made.failure().message;
  EXPECT_EQ(*made, 6U);
  EXPECT_EQ(last, 6U);
  EXPECT_EQ((*engine)->pad_stock()->images, 6U);
  EXPECT_GT((*engine)->pad_stock()->bytes_per_image, 0U);
  EXPECT_EQ(answers(**engine), expected);
  EXPECT_EQ((*engine)->pad_stock()->images, 0U);
  EXPECT_EQ((*engine)->stats()->pads_used, kImages);
}

TEST_F(ModesTest, SeveralDevicesShareTheWork) {
  const auto expected = baseline();
  auto engine = Engine::start(options({SLALOM_TEST_DEVICE, SLALOM_TEST_DEVICE},
                                      modes(Integrity::kPreprocessed, Privacy::kOff)));
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  EXPECT_EQ(answers(**engine), expected);
}

TEST_F(ModesTest, AnyPlacementGivesTheSameIntegers) {
  const auto expected = baseline();
  auto engine =
      Engine::start(options({SLALOM_TEST_DEVICE}, modes(Integrity::kPreprocessed, Privacy::kOff)));
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  const auto all = runtime::default_placement(*(*engine)->plan());
  std::mt19937 random(5);
  for (int round = 0; round < 8; ++round) {
    Modes m = modes(Integrity::kPreprocessed, round % 2 == 0 ? Privacy::kOff : Privacy::kPads);
    m.placement = all;
    for (std::size_t n = 0; n < all.remote.size(); ++n) {
      m.placement->remote[n] = all.remote[n] && random() % 2 == 0;
    }
    const host::Done done = (*engine)->reconfigure(m);
    ASSERT_TRUE(done.ok()) << done.failure().message;
    EXPECT_EQ(answers(**engine), expected);
  }
}

TEST_F(ModesTest, TheTrustedProcessIsHardened) {
  auto engine = Engine::start(options({"none"}, modes(Integrity::kOff, Privacy::kOff)));
  ASSERT_TRUE(engine.ok());
  const auto report = (*engine)->report();
  ASSERT_TRUE(report.ok());
  EXPECT_FALSE(report->dumpable);
  EXPECT_FALSE(report->core_dumps);
  EXPECT_EQ(report->isa, host::isa_name(base::detect_cpu()));
}

}  // namespace
}  // namespace slalom

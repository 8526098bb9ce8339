// SPDX-License-Identifier: Apache-2.0
// Memory does not grow with the number of images: what the processes hold after 1,000 of them and
// after 10,000, as the kernel counts it.
#include <gtest/gtest.h>

#include <map>

#include "support/engine_runs.h"
#include "support/plans.h"
#include "untrusted/host/engine.h"

namespace slalom {
namespace {

using host::Engine;
using host::MemoryUse;
using model::Privacy;

constexpr std::uint64_t kEarly = 1'000;
constexpr std::uint64_t kLate = 10'000;
constexpr std::uint64_t kImages = kLate + 100;  // what ends a run is not yet at work then
// The kernel counts in batches of pages. Nine thousand images that left 32 bytes each would show.
constexpr std::uint64_t kNoise = 256 << 10;

// Watching looks at the memory when an image of kEarly or kLate is delivered.
class Watching final : public runtime::Sink {
 public:
  explicit Watching(const Engine& engine) : engine_(engine) {}
  void deliver(std::uint64_t image, std::span<const runtime::OutputView>) override {
    ++images;
    if (image + 1 == kEarly || image + 1 == kLate) seen[image + 1] = engine_.memory();
  }
  void fail(std::uint64_t, Error error) override { ADD_FAILURE() << error.message; }

  std::uint64_t images = 0;
  std::map<std::uint64_t, MemoryUse> seen;

 private:
  const Engine& engine_;
};

class Memory : public ::testing::TestWithParam<Privacy> {};

TEST_P(Memory, IsFlatOverTenThousandImages) {
  const testing::Folder folder;
  host::EngineOptions options;
  options.plan_file = folder.write("plan.slalom", testing::small_network());
  options.device_threads = 1;
  options.trusted_program = TRUSTED_PROGRAM;
  options.device_program = DEVICE_PROGRAM;
  options.modes.options.threads = 2;
  options.modes.options.privacy = GetParam();  // pads are made while the image waits
  auto engine = Engine::start(options);
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  testing::Images images(kImages, 3);
  Watching watching(**engine);
  const host::Done done = (*engine)->run(images, watching);
  ASSERT_TRUE(done.ok()) << done.failure().message;
  ASSERT_EQ(watching.images, kImages);
  const auto stats = (*engine)->stats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->checks_performed, kImages * stats->layers_checked);
  EXPECT_GE(stats->layers_checked, 6U);

  const MemoryUse& early = watching.seen[kEarly];
  const MemoryUse& late = watching.seen[kLate];
  ASSERT_TRUE(early.trusted && late.trusted);
  EXPECT_GT(early.trusted->data_bytes, std::uint64_t{1} << 20);
  EXPECT_LE(late.trusted->data_bytes, early.trusted->data_bytes + kNoise);
  ASSERT_EQ(late.workers.size(), 1U);
  ASSERT_TRUE(early.workers[0] && late.workers[0]);
  EXPECT_LE(late.workers[0]->data_bytes, early.workers[0]->data_bytes + kNoise);
}

INSTANTIATE_TEST_SUITE_P(Modes, Memory, ::testing::Values(Privacy::kOff, Privacy::kPads),
                         [](const auto& privacy) {
                           return privacy.param == Privacy::kOff ? "Verified"
                                                                 : "PrivateAndVerified";
                         });

}  // namespace
}  // namespace slalom

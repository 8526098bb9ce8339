// SPDX-License-Identifier: Apache-2.0
// Every way to lie, at every layer of a small network, in every mode: caught, nothing released.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>

#include "support/plans.h"
#include "system/liar_bench.h"

namespace slalom {
namespace {

using host::Modes;
using model::Integrity;
using model::Privacy;
using testing::Answers;
using testing::Folder;
using testing::LiarBench;
using testing::Lie;

constexpr Integrity kForms[] = {Integrity::kPlain, Integrity::kBatched, Integrity::kPreprocessed};

class LiesTest : public ::testing::Test {
 protected:
  void SetUp() override { SLALOM_NEEDS_DEVICE(); }
  LiesTest() : bench_(folder_.write("plan.slalom", plan_), folder_.file("liar"), 4) {}

  [[nodiscard]] Modes modes(Integrity integrity, Privacy privacy, std::size_t batch = 2) const {
    Modes m;
    m.options.integrity = integrity;
    m.options.privacy = privacy;
    m.options.threads = 1;
    m.options.micro_batch = batch;
    m.options.in_flight = 1;
    m.options.timeout = std::chrono::milliseconds(50);
    return m;
  }
  [[nodiscard]] std::vector<std::uint32_t> layers() const {
    std::vector<std::uint32_t> out;
    const auto placement = runtime::default_placement(plan_);
    for (std::uint32_t n = 0; n < placement.remote.size(); ++n) {
      if (placement.remote[n]) out.push_back(n);
    }
    return out;
  }
  // right holds when everything that was released is what an honest run gives.
  static bool right(const Answers& out, const Answers& honest) {
    return std::all_of(out.released.begin(), out.released.end(), [&](const Answers::Image& image) {
      return image == honest.released[static_cast<std::size_t>(image.number)];
    });
  }

  model::Plan plan_ = testing::small_network();
  Folder folder_;
  LiarBench bench_;
};

TEST_F(LiesTest, EveryLieAtEveryLayerInEveryMode) {
  constexpr Lie kGroups[][4] = {
      {Lie::kBit, Lie::kElement, Lie::kPair, Lie::kPositions},
      {Lie::kImages, Lie::kConstant, Lie::kLastBatch, Lie::kOtherLayer},
      {Lie::kZeros, Lie::kAboveP, Lie::kShort, Lie::kLong},
      {Lie::kSequence, Lie::kStatus, Lie::kNever, Lie::kBit},
      {Lie::kFailed, Lie::kLate, Lie::kNever, Lie::kFailed},
  };
  std::size_t told = 0;
  unsigned seed = 0;
  ASSERT_GE(layers().size(), 7U);
  for (const Privacy privacy : {Privacy::kOff, Privacy::kPads}) {
    for (const Integrity form : kForms) {
      for (const std::uint32_t layer : layers()) {
        for (const auto& lies : kGroups) {
          SCOPED_TRACE(::testing::Message()
                       << "privacy " << static_cast<int>(privacy) << ", form "
                       << static_cast<int>(form) << ", layer " << layer << ", from lie "
                       << testing::kLieNames[static_cast<std::size_t>(lies[0])]);
          told += testing::expect_caught(bench_, modes(form, privacy), layer, lies, ++seed);
          if (HasFailure()) return;
        }
      }
    }
  }
  EXPECT_EQ(told, std::size_t{6} * layers().size() * 20);
  RecordProperty("lies_told", static_cast<int>(told));
}

// What comes at the edge of an answer, or while it is read, may be too late to matter: what is
// released is right in any case.
TEST_F(LiesTest, LiesThatMayComeTooLateNeverShow) {
  constexpr Lie kLies[] = {Lie::kRewrite, Lie::kTwice, Lie::kOutOfOrder, Lie::kRewrite};
  int rejected = 0;
  for (const Privacy privacy : {Privacy::kOff, Privacy::kPads}) {
    for (const Integrity form : kForms) {
      for (const std::size_t in_flight : {1, 3}) {
        Modes m = modes(form, privacy);
        m.options.in_flight = in_flight;
        bench_.modes(m);
        ASSERT_FALSE(HasFatalFailure());
        bench_.order(testing::kAnyLayer, {});
        const Answers honest = bench_.run(12, 7);
        ASSERT_EQ(honest.released.size(), 12U);
        for (const std::uint32_t layer : layers()) {
          bench_.modes(m);
          ASSERT_FALSE(HasFatalFailure());
          bench_.order(layer, kLies);
          std::optional<Errc> error;
          const Answers out = bench_.run(12, 7, &error);
          EXPECT_TRUE(right(out, honest));
          rejected += static_cast<int>(
              std::count_if(out.failed.begin(), out.failed.end(),
                            [](const auto& f) { return f.second == Errc::kRejected; }));
        }
      }
    }
  }
  EXPECT_GT(rejected, 20) << "words rewritten while they are read were never noticed";
}

TEST_F(LiesTest, OutOfOrderIsRejectedWhenTwoAreInFlight) {
  for (const Privacy privacy : {Privacy::kOff, Privacy::kPads}) {
    for (const Integrity form : kForms) {
      Modes m = modes(form, privacy);
      m.options.in_flight = 8;  // two for each device
      m.options.timeout = std::chrono::seconds(20);
      bench_.modes(m);
      ASSERT_FALSE(HasFatalFailure());
      const std::vector<Lie> all(LiarBench::kLiars, Lie::kOutOfOrder);
      bench_.order(layers().front(), all);
      std::optional<Errc> error;
      const Answers out = bench_.run(40, 3, &error);
      EXPECT_EQ(error, Errc::kRejected);
      EXPECT_TRUE(out.released.empty());
    }
  }
}

// With integrity off a lie shows: the test bites, and the mode is what it says.
TEST_F(LiesTest, WithoutIntegrityALieShows) {
  bench_.modes(modes(Integrity::kOff, Privacy::kOff));
  ASSERT_FALSE(HasFatalFailure());
  const Answers honest = bench_.run(4, 7);
  constexpr Lie kLies[] = {Lie::kConstant};
  bench_.order(layers().back(), kLies);
  const Answers out = bench_.run(4, 7);
  ASSERT_EQ(out.released.size(), 4U);
  EXPECT_FALSE(right(out, honest));
}

// A device that lies costs its own micro-batch; the honest ones finish the rest, rightly.
TEST_F(LiesTest, WorkGoesOnOnHonestDevices) {
  for (const Privacy privacy : {Privacy::kOff, Privacy::kPads}) {
    for (const Lie lie : {Lie::kBit, Lie::kShort, Lie::kNever}) {
      Modes m = modes(Integrity::kPreprocessed, privacy);
      m.options.timeout = std::chrono::milliseconds(500);
      bench_.modes(m);
      ASSERT_FALSE(HasFatalFailure());
      bench_.order(testing::kAnyLayer, {});
      const Answers honest = bench_.run(20, 7);
      const std::array<Lie, 1> one{lie};
      bench_.modes(m);
      bench_.order(layers()[2], one, 1);
      const Answers out = bench_.run(20, 7);
      const std::size_t lost = lie == Lie::kNever ? 0 : 2;
      EXPECT_EQ(out.failed.size(), lost);
      EXPECT_EQ(out.released.size(), 20 - lost);
      EXPECT_TRUE(right(out, honest));
      const auto stats = bench_.engine().stats();
      EXPECT_EQ(stats->checks_failed, lost);
      EXPECT_EQ(stats->images, 20 - lost);
    }
  }
}

TEST_F(LiesTest, ACrashIsUnavailable) {
  int round = 0;
  for (const Privacy privacy : {Privacy::kOff, Privacy::kPads}) {
    for (const Integrity form : kForms) {
      LiarBench bench(folder_.file("plan.slalom"), folder_.file("c" + std::to_string(round)), 4);
      bench.modes(modes(form, privacy));
      ASSERT_FALSE(HasFatalFailure());
      const std::vector<Lie> all(LiarBench::kLiars, Lie::kCrash);
      bench.order(layers()[static_cast<std::size_t>(round++) % layers().size()], all);
      std::optional<Errc> error;
      const Answers out = bench.run(10, 3, &error);
      EXPECT_EQ(error, Errc::kUnavailable);
      EXPECT_TRUE(out.released.empty());
    }
  }
}

// Devices end one after another at random moments; nothing hangs and nothing wrong is released.
TEST(KilledWorkers, AtRandomMoments) {
  SLALOM_NEEDS_DEVICE();
  const Folder folder;
  const std::string plan = folder.write("plan.slalom", testing::small_network());
  std::mt19937 random(11);
  Answers honest;
  for (int round = 0; round < 12; ++round) {
    LiarBench bench(plan, folder.file("liar" + std::to_string(round)), 4);
    Modes m;
    m.options.threads = 1;
    m.options.privacy = round % 2 == 0 ? Privacy::kOff : Privacy::kPads;
    bench.modes(m);
    ASSERT_FALSE(::testing::Test::HasFatalFailure());
    if (round == 0) honest = bench.run(3000, 5);
    const pid_t pid = bench.liar().pid();
    const auto delay = std::chrono::microseconds(random() % 200'000);
    std::thread killer([=] {
      std::this_thread::sleep_for(delay);
      kill(pid, SIGKILL);
    });
    std::optional<Errc> error;
    const auto start = std::chrono::steady_clock::now();
    const Answers out = bench.run(3000, 5, &error);
    killer.join();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
    EXPECT_EQ(error.has_value(), out.released.size() < 3000);
    EXPECT_EQ(error.value_or(Errc::kUnavailable), Errc::kUnavailable);
    for (const auto& image : out.released) {
      ASSERT_EQ(image, honest.released[static_cast<std::size_t>(image.number)]);
    }
  }
}

}  // namespace
}  // namespace slalom

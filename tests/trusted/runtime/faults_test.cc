// SPDX-License-Identifier: Apache-2.0
// Devices that lie, fail, fall silent or die: nothing wrong ever leaves.

#include <gtest/gtest.h>

#include <tuple>

#include "trusted/runtime/fixture.h"

namespace slalom::testing {
namespace {

using model::Integrity;
using model::Privacy;

// Lie changes an answer in place.
struct Lie {
  const char* name;
  void (*tell)(const channel::Request& request, std::size_t channels, std::span<std::byte> words);
};

void add_to(std::span<std::byte> words, std::size_t index, std::uint32_t delta, field::Field f) {
  std::byte* at = words.data() + index * field::word_bytes(f);
  const std::uint64_t sum = std::uint64_t{load_word(at, f)} + delta;
  store_word(at, static_cast<std::uint32_t>(sum % field::modulus(f)), f);
}

const Lie kLies[] = {
    {"one bit of the last word",
     [](const channel::Request& r, std::size_t, std::span<std::byte> words) {
       const std::size_t last = words.size() / field::word_bytes(r.field) - 1;
       std::byte* at = words.data() + last * field::word_bytes(r.field);
       // Kept below p, so that the check and not the range test has to find it.
       store_word(at, load_word(at, r.field) ^ (load_word(at, r.field) & 1U ? 1U : 2U), r.field);
     }},
    {"two channels that cancel",
     [](const channel::Request& r, std::size_t channels, std::span<std::byte> words) {
       add_to(words, 0, 5, r.field);
       // With one channel the next word is another position.
       add_to(words, std::min<std::size_t>(1, words.size() / field::word_bytes(r.field) - 1),
              channels == 1 ? field::modulus(r.field) - 7 : field::modulus(r.field) - 5, r.field);
     }},
    {"zeros",
     [](const channel::Request& r, std::size_t, std::span<std::byte> words) {
       std::fill(words.begin(), words.end(), std::byte{0});
       add_to(words, 0, 1, r.field);  // even if zero is right
     }},
    {"a word that is not below p",
     [](const channel::Request& r, std::size_t, std::span<std::byte> words) {
       store_word(words.data(), field::modulus(r.field), r.field);
     }},
};

class LiarTest : public ::testing::TestWithParam<std::tuple<Integrity, Privacy>> {
 protected:
  void set_mode(Rig& rig) const {
    rig.options.integrity = std::get<0>(GetParam());
    rig.options.privacy = std::get<1>(GetParam());
  }
};

TEST_P(LiarTest, EveryLieInEveryLayerIsRejected) {
  Rig rig(small_network());
  set_mode(rig);
  rig.options.micro_batch = 2;
  rig.options.in_flight = 1;
  const auto images = random_images(rig.plan, 2, 1);
  for (std::uint32_t node = 0; node < rig.plan.nodes.size(); ++node) {
    if (!rig.placement.remote[node]) continue;
    const std::size_t channels = std::get<model::Linear>(rig.plan.nodes[node].op).out().c;
    for (const Lie& lie : kLies) {
      SCOPED_TRACE(::testing::Message() << "node " << node << ": " << lie.name);
      rig.start();
      rig.ports[0]->tamper = [&](const channel::Request& request, std::span<std::byte> words) {
        if (request.layer == node) lie.tell(request, channels, words);
      };
      ListSink sink;
      const Status done = rig.run(images, sink);
      ASSERT_FALSE(done.ok());
      EXPECT_EQ(done.error().code, Errc::kRejected);
      ASSERT_EQ(sink.entries.size(), 2U);
      EXPECT_EQ(sink.delivered(), 0U);
      EXPECT_EQ(sink.entries[0].error->code, Errc::kRejected);
      EXPECT_EQ(sink.entries[1].error->code, Errc::kRejected);
      EXPECT_EQ(rig.executor->stats().checks_failed, 2U);
      EXPECT_FALSE(rig.ports[0]->used_after_loss);
      if (rig.pads) {
        EXPECT_EQ(rig.pads->live(), 0U);
        EXPECT_FALSE(rig.pads->misused);
      }
      // The device is never asked again.
      const std::uint64_t asked = rig.ports[0]->requests;
      ListSink again;
      EXPECT_FALSE(rig.run(images, again).ok());
      EXPECT_EQ(rig.ports[0]->requests, asked);
      EXPECT_EQ(again.delivered(), 0U);
    }
  }
}

TEST_P(LiarTest, TheLastImageOfATailIsCheckedToo) {
  Rig rig(small_network(2));
  set_mode(rig);
  rig.options.micro_batch = 4;
  rig.start();
  rig.ports[0]->tamper = [&](const channel::Request& request, std::span<std::byte> words) {
    if (request.batch == 1) kLies[0].tell(request, 1, words);
  };
  ListSink sink;
  EXPECT_FALSE(rig.run(random_images(rig.plan, 5, 1), sink).ok());
  ASSERT_EQ(sink.entries.size(), 5U);
  EXPECT_EQ(sink.delivered(), 4U);
  EXPECT_EQ(sink.entries[4].error->code, Errc::kRejected);
}

TEST_P(LiarTest, WorkGoesOnElsewhereAndIsNotTriedAgain) {
  Rig rig(small_network());
  set_mode(rig);
  rig.num_ports = 2;
  rig.options.in_flight = 4;
  rig.options.micro_batch = 2;
  rig.start();
  bool lied = false;
  rig.ports[0]->tamper = [&](const channel::Request& request, std::span<std::byte> words) {
    if (!lied) kLies[0].tell(request, 1, words);
    lied = true;
  };
  const auto images = random_images(rig.plan, 24, 1);
  const auto expected = expected_outputs(rig.plan, images);
  ListSink sink;
  EXPECT_TRUE(rig.run(images, sink).ok());
  ASSERT_EQ(sink.entries.size(), images.size());
  EXPECT_TRUE(sink.in_order);
  std::size_t rejected = 0;
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (sink.entries[i].error) {
      EXPECT_EQ(sink.entries[i].error->code, Errc::kRejected);
      ++rejected;
    } else {
      EXPECT_EQ(sink.entries[i].outputs, expected[i]);
    }
  }
  EXPECT_EQ(rejected, 2U);  // one micro-batch
  EXPECT_EQ(rig.executor->stats().checks_failed, 2U);
  if (rig.pads) {
    EXPECT_EQ(rig.pads->live(), 0U);
    EXPECT_FALSE(rig.pads->misused);
  }
}

INSTANTIATE_TEST_SUITE_P(All, LiarTest,
                         ::testing::Combine(::testing::Values(Integrity::kPlain,
                                                              Integrity::kBatched,
                                                              Integrity::kPreprocessed),
                                            ::testing::Values(Privacy::kOff, Privacy::kPads)));

TEST(Faults, WithoutChecksWordsBeyondTheFieldAreStillRejected) {
  Rig rig(small_network());
  rig.options.integrity = Integrity::kOff;
  rig.start();
  rig.ports[0]->tamper = [](const channel::Request& request, std::span<std::byte> words) {
    if (request.layer == 2) kLies[3].tell(request, 1, words);
  };
  ListSink sink;
  EXPECT_FALSE(rig.run(random_images(rig.plan, 1, 1), sink).ok());
  EXPECT_EQ(sink.entries.at(0).error->code, Errc::kRejected);
}

TEST(Faults, WithoutChecksALieShowsInTheAnswerOnly) {
  Rig rig(small_network());
  rig.options.integrity = Integrity::kOff;
  rig.start();
  rig.ports[0]->tamper = [](const channel::Request& request, std::span<std::byte> words) {
    std::fill(words.begin(), words.end(), std::byte{0});
    (void)request;
  };
  const auto images = random_images(rig.plan, 1, 1);
  ListSink sink;
  EXPECT_TRUE(rig.run(images, sink).ok());
  EXPECT_NE(sink.entries.at(0).outputs, expected_outputs(rig.plan, images)[0]);
}

class LossTest : public ::testing::TestWithParam<Reply> {};

TEST_P(LossTest, TheOnlyDeviceIsLost) {
  for (const Privacy privacy : {Privacy::kOff, Privacy::kPads}) {
    for (const std::uint64_t at : {1, 5, 9}) {
      Rig rig(small_network());
      rig.options.privacy = privacy;
      rig.options.timeout = std::chrono::milliseconds(50);
      rig.start();
      std::uint64_t seen = 0;
      rig.ports[0]->reply = [&](const channel::Request&) {
        return ++seen >= at ? GetParam() : Reply::kAnswer;
      };
      ListSink sink;
      const Status done = rig.run(random_images(rig.plan, 8, 1), sink);
      ASSERT_FALSE(done.ok());
      const Errc expected = GetParam() == Reply::kBreach ? Errc::kRejected : Errc::kUnavailable;
      EXPECT_EQ(done.error().code, expected);
      EXPECT_EQ(sink.delivered(), 0U);
      EXPECT_EQ(sink.entries.size(), 6U);  // two micro-batches of three were in flight
      EXPECT_EQ(sink.entries.at(0).error->code, expected);
      EXPECT_EQ(sink.entries.at(5).error->code, Errc::kUnavailable);
      EXPECT_EQ(rig.executor->stats().checks_failed, GetParam() == Reply::kBreach ? 3U : 0U);
      if (rig.pads) {
        EXPECT_EQ(rig.pads->live(), 0U);
        EXPECT_FALSE(rig.pads->misused);
      }
    }
  }
}

TEST_P(LossTest, AnotherDeviceTakesOverFromTheInputs) {
  if (GetParam() == Reply::kBreach) GTEST_SKIP() << "a rejection is not tried again";
  for (const Privacy privacy : {Privacy::kOff, Privacy::kPads}) {
    for (const Integrity integrity :
         {Integrity::kOff, Integrity::kPlain, Integrity::kBatched, Integrity::kPreprocessed}) {
      Rig rig(small_network());
      rig.options.integrity = integrity;
      rig.options.privacy = privacy;
      rig.options.timeout = std::chrono::milliseconds(50);
      rig.options.in_flight = 3;
      rig.num_ports = 2;
      rig.start();
      std::uint64_t seen = 0;
      rig.ports[0]->reply = [&](const channel::Request&) {
        return ++seen >= 7 ? GetParam() : Reply::kAnswer;
      };
      const auto images = random_images(rig.plan, 12, 1);
      rig.expect_right(images, expected_outputs(rig.plan, images));
      if (rig.pads) {  // what was lost has new numbers
        EXPECT_GT(rig.pads->taken, images.size());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LossTest,
                         ::testing::Values(Reply::kFail, Reply::kSilent, Reply::kGone,
                                           Reply::kBreach));

// How many random bytes a run draws beside those of the start, in which the first of two devices
// gives its third answer as `reply` says and as `lie` has changed it.
std::size_t drawn_by(Reply reply, bool lie, std::size_t rejected) {
  Rig rig(small_network());
  rig.options.micro_batch = 1;
  rig.options.in_flight = 1;
  rig.num_ports = 2;
  rig.random = std::make_unique<TestRandom>(1);
  rig.start();
  int seen = 0;
  rig.ports[0]->reply = [&](const channel::Request&) {
    return ++seen == 3 ? reply : Reply::kAnswer;
  };
  rig.ports[0]->tamper = [&](const channel::Request& request, std::span<std::byte> words) {
    if (lie && seen == 3) add_to(words, 0, 1, request.field);
  };
  const std::size_t before = rig.random->drawn;
  ListSink sink;
  EXPECT_TRUE(rig.run(random_images(rig.plan, 4, 1), sink).ok());  // the second device goes on
  EXPECT_EQ(sink.entries.size(), 4U);
  EXPECT_EQ(sink.delivered(), 4U - rejected);
  return rig.random->drawn - before;
}

// Who was rejected has learned something about the challenges: the next inference has others.
TEST(Faults, ARejectionRetiresTheChallenges) {
  EXPECT_EQ(drawn_by(Reply::kAnswer, false, 0), 0U);
  EXPECT_GT(drawn_by(Reply::kAnswer, true, 1), 0U);
  EXPECT_GT(drawn_by(Reply::kBreach, false, 1), 0U);
}

TEST(Faults, ADeviceThatIsSlowButAnswersIsKept) {
  Rig rig(small_network());
  rig.options.timeout = std::chrono::milliseconds(200);
  rig.start();
  int turns = 0;
  rig.ports[0]->reply = [&](const channel::Request&) {
    return ++turns % 20 == 0 ? Reply::kAnswer : Reply::kSilent;
  };
  const auto images = random_images(rig.plan, 6, 1);
  rig.expect_right(images, expected_outputs(rig.plan, images));
}

TEST(Faults, NoPadNoWord) {
  Rig rig(small_network());
  rig.options.privacy = Privacy::kPads;
  rig.options.micro_batch = 2;
  rig.start();
  rig.pads->dry_after = 4;
  const auto images = random_images(rig.plan, 7, 1);
  ListSink sink;
  EXPECT_TRUE(rig.run(images, sink).ok());  // the device is still good
  ASSERT_EQ(sink.entries.size(), 7U);
  EXPECT_EQ(sink.delivered(), 4U);
  for (std::size_t i = 4; i < 7; ++i) EXPECT_EQ(sink.entries[i].error->code, Errc::kUnavailable);
  EXPECT_EQ(rig.pads->live(), 0U);
  EXPECT_EQ(rig.ports[0]->requests % 7, 0U);
}

TEST(Faults, ATouchedStoreRejectsTheImagesAndNotTheDevice) {
  Rig rig(small_network());
  rig.options.privacy = Privacy::kPads;
  rig.options.threads = 3;
  rig.start();
  rig.pads->corrupt_factors = 4;
  const auto images = random_images(rig.plan, 4, 1);
  ListSink sink;
  EXPECT_TRUE(rig.run(images, sink).ok());
  ASSERT_EQ(sink.entries.size(), 4U);
  for (const auto& entry : sink.entries) {
    ASSERT_TRUE(entry.error);
    EXPECT_EQ(entry.error->code, Errc::kRejected);
  }
  EXPECT_EQ(rig.pads->live(), 0U);
  rig.pads->corrupt_factors = ~0U;
  rig.expect_right(images, expected_outputs(rig.plan, images));
}

// A word of p stands for the same residue as a 0: only the range test can tell it from one.
TEST(Faults, AWordOfPInThePlaceOfAZeroIsRejectedInAnyImageOfABatch) {
  PlanBuilder b;
  const auto x = b.input({4, 4, 3});
  Rig rig(b.finish({b.conv(x, {.out_c = 8})}));
  rig.options.integrity = Integrity::kBatched;
  rig.options.micro_batch = 3;
  std::vector<Image> images = random_images(rig.plan, 3, 1);
  for (std::size_t zero = 0; zero < images.size(); ++zero) {
    auto mixed = images;
    std::fill(mixed[zero].begin(), mixed[zero].end(), std::uint8_t{128});  // the code of 0
    for (const bool lie : {false, true}) {
      rig.start();
      rig.ports[0]->tamper = [&](const channel::Request& request, std::span<std::byte> words) {
        std::byte* const at = words.data() + words.size() / 3 * zero;
        EXPECT_EQ(load_word(at, request.field), 0U);
        if (lie) store_word(at, field::modulus(request.field), request.field);
      };
      ListSink sink;
      EXPECT_EQ(rig.run(mixed, sink).ok(), !lie);
      EXPECT_EQ(sink.delivered(), lie ? 0U : 3U);
    }
  }
}

// An image that failed inside leaves requests behind: its slot waits for their answers.
TEST(Faults, ASlotServesAgainOnlyWhenTheDeviceOwesNothingForIt) {
  PlanBuilder b;
  const auto x = b.input({4, 4, 3});
  const auto first = b.conv(x, {.out_c = 2});
  const auto second = b.conv(x, {.out_c = 2});
  Rig rig(b.finish({first, second}));
  rig.options.privacy = Privacy::kPads;
  rig.options.micro_batch = 1;
  rig.options.in_flight = 1;
  rig.start();
  rig.pads->corrupt_factors = 0;
  int turns = 0;
  rig.ports[0]->reply = [&](const channel::Request& request) {
    return request.layer == 1 && ++turns % 5 != 0 ? Reply::kSilent : Reply::kAnswer;
  };
  ListSink sink;
  EXPECT_TRUE(rig.run(random_images(rig.plan, 4, 1), sink).ok());
  EXPECT_EQ(sink.entries.size(), 4U);
  EXPECT_EQ(sink.delivered(), 0U);
  EXPECT_EQ(rig.ports[0]->most_waiting, 2U);
}

// Each port numbers its requests from 1: the numbers of one say nothing of the other's answers.
TEST(Faults, AnAnswerOfOneDeviceIsNotTakenForAnothers) {
  Rig rig(small_network());
  rig.num_ports = 2;
  rig.options.micro_batch = 1;
  rig.options.in_flight = 2;
  rig.start();
  int turns = 0;
  rig.ports[0]->reply = [&](const channel::Request&) {
    return ++turns % 50 == 0 ? Reply::kAnswer : Reply::kSilent;
  };
  const auto images = random_images(rig.plan, 6, 1);
  rig.expect_right(images, expected_outputs(rig.plan, images));
  EXPECT_GT(turns, 0);
}

// A worker keeps what it was sent by attempt: a second executor's must not be taken for the
// first's.
TEST(Faults, ExecutorsThatFollowEachOtherShareNoAttempt) {
  Rig rig(small_network());
  std::vector<std::set<std::uint64_t>> attempts(2);
  for (auto& seen : attempts) {
    rig.start();
    rig.ports[0]->observe = [&](const channel::Request& request, std::span<const std::byte>) {
      seen.insert(request.attempt);
    };
    const auto images = random_images(rig.plan, 5, 1);
    rig.expect_right(images, expected_outputs(rig.plan, images));
  }
  for (const std::uint64_t attempt : attempts[0]) EXPECT_EQ(attempts[1].count(attempt), 0U);
}

// With room for few pads the images that have theirs must end before others can get any.
TEST(Faults, NothingWaitsForPadsWhileOtherImagesHoldThem) {
  for (const std::uint64_t places : {1U, 2U, 3U, 5U}) {
    Rig rig(small_network());
    rig.options.privacy = Privacy::kPads;
    rig.options.micro_batch = 2;
    rig.options.in_flight = 4;
    rig.start();
    rig.pads->places = places;
    rig.pads->together = rig.options.micro_batch;
    const auto images = random_images(rig.plan, 10, 1);
    rig.expect_right(images, expected_outputs(rig.plan, images));
  }
}

TEST(Faults, WhatLostItsDeviceWaitsForPadsWithoutHoldingOthersUp) {
  for (const std::uint64_t at : {1, 4, 8}) {
    for (const std::uint64_t places : {1U, 4U, 6U, 7U}) {
      Rig rig(small_network());
      rig.options.privacy = Privacy::kPads;
      rig.options.micro_batch = 2;
      rig.options.in_flight = 3;
      rig.num_ports = 2;
      rig.start();
      rig.pads->places = places;
      rig.pads->together = rig.options.micro_batch;
      std::uint64_t seen = 0;
      rig.ports[0]->reply = [&](const channel::Request&) {
        return ++seen >= at ? Reply::kGone : Reply::kAnswer;
      };
      const auto images = random_images(rig.plan, 11, 1);
      rig.expect_right(images, expected_outputs(rig.plan, images));
      EXPECT_GT(rig.pads->taken, images.size());
    }
  }
}

TEST(Faults, OneRepetitionOfAFreshChallengeFindsEveryForgeryItIsShown) {
  Rig rig(small_network());
  rig.options.integrity = Integrity::kPlain;
  rig.options.soundness_bits = 1;
  rig.options.micro_batch = 1;
  for (std::size_t round = 0; round < 50; ++round) {
    rig.start();
    rig.ports[0]->tamper = [&](const channel::Request& request, std::span<std::byte> words) {
      if (request.layer == 2) add_to(words, round, 1, request.field);
    };
    ListSink sink;
    EXPECT_FALSE(rig.run(random_images(rig.plan, 1, 1), sink).ok());
    EXPECT_EQ(sink.delivered(), 0U);
  }
}

}  // namespace
}  // namespace slalom::testing

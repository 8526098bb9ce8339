// SPDX-License-Identifier: Apache-2.0
#include "device/remote/wire.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

namespace slalom::device::remote {
namespace {

Hello open_hello() {
  Hello hello{.streams = 4, .max_batch = 8, .plan_bytes = 1000};
  hello.token.fill(std::byte{7});
  hello.digest.fill(std::byte{9});
  return hello;
}
Hello join_hello() {
  Hello hello{.purpose = Purpose::kJoin, .stream = 3};
  hello.token.fill(std::byte{5});
  return hello;
}
JobHeader job_header() {
  return {.id = 3,
          .attempt = 4,
          .layer = 5,
          .batch = 6,
          .kind = 1,
          .field = 3,
          .pad_code = 7,
          .input_bytes = 100,
          .part_bytes = 50};
}

// A message that is taken is the one that was sent; one byte fewer or more is none.
template <class Message>
void expect_strict(const Message& message, std::size_t size) {
  std::vector<std::byte> bytes = encode(message);
  ASSERT_EQ(bytes.size(), size);
  const auto again = decode<Message>(bytes);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(encode(*again), bytes);
  EXPECT_EQ(decode<Message>(std::span(bytes).first(size - 1)).error().code, Errc::kMalformed);
  bytes.push_back({});
  EXPECT_EQ(decode<Message>(bytes).error().code, Errc::kMalformed);
}

TEST(Wire, MessagesHaveTheirSizes) {
  expect_strict(open_hello(), kHelloBytes);
  expect_strict(join_hello(), kHelloBytes);
  expect_strict(Welcome{}, kWelcomeBytes);
  expect_strict(job_header(), kJobBytes);
  expect_strict(AnswerHeader{.id = 1, .part_bytes = 9}, kAnswerBytes);
  EXPECT_EQ(kHelloBytes, 81U);
  EXPECT_EQ(kWelcomeBytes, 29U);
  EXPECT_EQ(kJobBytes, 35U);
  EXPECT_EQ(kAnswerBytes, 13U);
}

template <class Message>
void expect_refused(const Message& good,
                    const std::vector<std::function<void(Message&)>>& changes) {
  for (std::size_t i = 0; i < changes.size(); ++i) {
    Message bad = good;
    changes[i](bad);
    EXPECT_FALSE(decode<Message>(encode(bad)).ok()) << "change " << i;
  }
}

TEST(Wire, RefusesWhatIsOutOfRange) {
  expect_refused<Hello>(open_hello(), {
                                          [](Hello& m) { m.greeting.magic ^= 1; },
                                          [](Hello& m) { m.greeting.version = 2; },
                                          [](Hello& m) { m.purpose = static_cast<Purpose>(0); },
                                          [](Hello& m) { m.purpose = static_cast<Purpose>(3); },
                                          [](Hello& m) { m.purpose = Purpose::kJoin; },
                                          [](Hello& m) { m.stream = 1; },
                                          [](Hello& m) { m.streams = 0; },
                                          [](Hello& m) { m.streams = 17; },
                                          [](Hello& m) { m.max_batch = 0; },
                                          [](Hello& m) { m.max_batch = 1025; },
                                          [](Hello& m) { m.plan_bytes = 0; },
                                          [](Hello& m) { m.plan_bytes = kMostPlanBytes + 1; },
                                      });
  expect_refused<Hello>(join_hello(), {
                                          [](Hello& m) { m.stream = 0; },
                                          [](Hello& m) { m.stream = 16; },
                                          [](Hello& m) { m.streams = 4; },
                                          [](Hello& m) { m.max_batch = 1; },
                                          [](Hello& m) { m.plan_bytes = 1; },
                                          [](Hello& m) { m.digest[31] = std::byte{1}; },
                                      });
  expect_refused<Welcome>({}, {
                                  [](Welcome& m) { m.greeting.magic = 0; },
                                  [](Welcome& m) { m.greeting.version = 2; },
                                  [](Welcome& m) { m.reply = static_cast<Reply>(0); },
                                  [](Welcome& m) { m.reply = static_cast<Reply>(8); },
                                  [](Welcome& m) {
                                    m.reply = Reply::kBusy;
                                    m.session[0] = std::byte{1};
                                  },
                              });
  // Another version can be told by either end.
  EXPECT_TRUE(
      decode<Welcome>(encode(Welcome{.greeting = {.version = 9}, .reply = Reply::kOtherVersion}))
          .ok());
  expect_refused<JobHeader>(job_header(), {
                                              [](JobHeader& m) { m.kind = 0; },
                                              [](JobHeader& m) { m.kind = 4; },
                                              [](JobHeader& m) { m.kind = 3; },  // with an input
                                              [](JobHeader& m) { m.field = 2; },
                                              [](JobHeader& m) { m.field = 5; },
                                              [](JobHeader& m) { m.batch = 0; },
                                              [](JobHeader& m) { m.batch = 1025; },
                                              [](JobHeader& m) { m.part_bytes = 101; },
                                          });
  expect_refused<AnswerHeader>({.id = 1, .part_bytes = 9},
                               {
                                   [](AnswerHeader& m) { m.status = 6; },
                                   [](AnswerHeader& m) { m.status = 4; },  // failed, with bytes
                               });
}

// The parts of a tensor are all of it, once, in order, and none of a large one is small.
TEST(Wire, PartsCoverATensor) {
  constexpr std::size_t kKiB = 1024;
  for (const std::size_t streams : {1, 2, 3, 4, 7, 16}) {
    for (const std::size_t bytes :
         {std::size_t{0}, std::size_t{1}, 4 * kKiB, 128 * kKiB, 256 * kKiB - 1, 256 * kKiB,
          300 * kKiB + 7, 1000 * kKiB + 1, 2048 * kKiB, 10'000 * kKiB + 4095}) {
      for (std::uint64_t id = 0; id < 2 * streams; ++id) {
        std::vector<Part> parts;
        for (std::size_t s = 0; s < streams; ++s) {
          if (const auto part = part_of(id, bytes, streams, s)) parts.push_back(*part);
        }
        std::sort(parts.begin(), parts.end(),
                  [](const Part& a, const Part& b) { return a.offset < b.offset; });
        ASSERT_EQ(parts.size(), std::clamp<std::size_t>(bytes / (128 * kKiB), 1, streams));
        std::size_t at = 0;
        for (const Part& part : parts) {
          ASSERT_EQ(part.offset, at);
          ASSERT_EQ(part.offset % 4096, 0U);
          at += part.bytes;
          ASSERT_TRUE(parts.size() == 1 || part.bytes >= 64 * kKiB);
        }
        ASSERT_EQ(at, bytes);
      }
    }
  }
}

// Small tensors take turns on the streams.
TEST(Wire, SmallTensorsTakeTurns) {
  for (std::uint64_t id = 0; id < 8; ++id) {
    for (std::size_t s = 0; s < 4; ++s) {
      EXPECT_EQ(part_of(id, 100, 4, s).has_value(), s == id % 4);
    }
  }
  EXPECT_TRUE(part_of(UINT64_MAX, 100, 4, 3).has_value());
}

}  // namespace
}  // namespace slalom::device::remote
